"""Classes, things and stuff, and which of them are novel: data in YAML, read here.

Class id 0 always means *unlabelled*. Ids need not be contiguous.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ovps import plain_yaml, shipped
from ovps.errors import ConfigError, faults_of

UNLABELLED = 0

Kind = Literal["thing", "stuff"]
Submission = Literal["nuscenes", "semantickitti"]
LARGEST_SUBMITTED_ID = 64  # nuScenes' labels are uint16: 1000 * class + instance

# fields that came after stores were written: where they say nothing they are left out, so that the hashes of older
# taxonomies stay what they were
_LATER: dict[str, object] = {"class_modulus": None, "stuff_segments": "class", "id_to_raw": {}}


def name_key(name: str) -> str:
    """Return the form by which class names are compared; two spellings of one name have the same.

    Unicode compatibility form (NFKC) and case folding, without invisible format characters; underscores and any
    white space are one space. Hyphens and accents do count.

    >>> name_key("Construction_Vehicle") == name_key("construction  vehicle")
    True
    """
    text = "".join(c for c in name if unicodedata.category(c) != "Cf")
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.replace("_", " ").split())


Channel = Annotated[int, Field(ge=0, le=255)]  # of red, green and blue


class ClassInfo(BaseModel, frozen=True, extra="forbid"):
    """One class of a taxonomy."""

    id: int = Field(gt=0, lt=256)
    name: str
    kind: Kind
    color: tuple[Channel, Channel, Channel]
    synonyms: tuple[str, ...] = Field(min_length=1)


class Taxonomy(BaseModel, frozen=True, extra="forbid"):
    """All classes of a data set, and how its raw labels encode them.

    Attributes:
        min_points: segments with fewer points are not evaluated.
        instance_divisor: raw label = instance_divisor * raw class + instance.
        class_modulus: raw label = class_modulus * instance + raw class; a taxonomy has one of the two.
        raw_to_id: raw class to class id; 0, and raw classes that are not named, are unlabelled.
        id_to_raw: class id to the raw class as which a submission writes it; for formats that hold raw classes.
        stuff_segments: what the data set's evaluation takes for one true segment of stuff: all points of a `class`, or
            those of one raw `label`, where several raw classes make one class.
        raw_names: raw class to its name in the data set's own files, against which those are checked; stores do
            without.
        submission: the format in which `ovps predict` writes these classes; None: plain arrays.
    """

    name: str
    min_points: int = Field(gt=0)
    instance_divisor: int | None = Field(default=None, gt=0)
    class_modulus: int | None = Field(default=None, gt=0)
    classes: tuple[ClassInfo, ...]
    raw_to_id: dict[NonNegativeInt, int]
    id_to_raw: dict[int, NonNegativeInt] = {}
    stuff_segments: Literal["class", "label"] = "class"
    raw_names: dict[NonNegativeInt, str] = Field({}, exclude=True)
    submission: Submission | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Taxonomy:
        ids, names = [c.id for c in self.classes], [c.name for c in self.classes]
        for what, values, keys in (("ids", ids, ids), ("names", names, [name_key(n) for n in names])):
            if len(set(keys)) < len(keys):
                raise ValueError(f"two classes share one of the {what} {values}")
        self._check_synonyms()
        if (self.instance_divisor is None) == (self.class_modulus is None):
            raise ValueError("give instance_divisor or class_modulus: how a raw label holds class and instance")
        if self.submission == "nuscenes" and max(ids, default=0) > LARGEST_SUBMITTED_ID:
            raise ValueError(f"a {self.submission} submission holds class ids up to {LARGEST_SUBMITTED_ID}, not {ids}")
        unknown = sorted(set(self.raw_to_id.values()) - {UNLABELLED, *ids})
        if unknown:
            raise ValueError(f"raw_to_id leads to the ids {unknown}, which no class has")
        self._check_inverse()
        return self

    def _check_inverse(self) -> None:
        """`id_to_raw`, where it is needed or given, takes every class to a raw class that comes back to it."""
        if not self.id_to_raw and self.submission != "semantickitti":
            return
        astray = [c.name for c in self.classes if self.raw_to_id.get(self.id_to_raw.get(c.id, -1)) != c.id]
        if astray:
            raise ValueError(f"id_to_raw gives {', '.join(astray)} no raw class that raw_to_id takes back to it")
        unknown = sorted(set(self.id_to_raw) - {c.id for c in self.classes})
        if unknown:
            raise ValueError(f"id_to_raw names the ids {unknown}, which no class has")

    @model_serializer(mode="wrap")
    def _in_use(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {k: v for k, v in handler(self).items() if k not in _LATER or v != _LATER[k]}

    def _check_synonyms(self) -> None:
        owner: dict[str, str] = {}
        for c in self.classes:
            for synonym in c.synonyms:
                if not (key := name_key(synonym)):
                    raise ValueError(f"{c.name} has a synonym without a letter, {synonym!r}")
                if owner.setdefault(key, c.name) != c.name:
                    raise ValueError(
                        f"{synonym!r} is a synonym of both {owner[key]} and {c.name}: a text has one class"
                    )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its content."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def by_name(self) -> dict[str, ClassInfo]:
        return {c.name: c for c in self.classes}

    @cached_property
    def by_key(self) -> dict[str, ClassInfo]:
        """Classes by `name_key` of their names, so that other spellings find them, in the order of the taxonomy."""
        return {name_key(c.name): c for c in self.classes}

    @cached_property
    def by_id(self) -> dict[int, ClassInfo]:
        return {c.id: c for c in self.classes}

    @cached_property
    def thing_ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes if c.kind == "thing")

    @cached_property
    def stuff_ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes if c.kind == "stuff")

    def reads_labels_as(self, other: Taxonomy) -> bool:
        """Tell whether raw labels mean the same classes as in another taxonomy."""
        codes = [
            (t.instance_divisor, t.class_modulus, {raw: i for raw, i in t.raw_to_id.items() if i != UNLABELLED})
            for t in (self, other)
        ]
        classes = [{(c.id, c.name, c.kind) for c in t.classes} for t in (self, other)]
        return codes[0] == codes[1] and classes[0] == classes[1]

    def raw_class(self, raw: NDArray[np.integer]) -> NDArray[np.integer]:
        """Take the raw class (N,) out of raw labels (N,)."""
        if self.class_modulus is not None:
            return raw % self.class_modulus
        assert self.instance_divisor is not None  # one of the two there is
        return raw // self.instance_divisor

    def instance_number(self, raw: NDArray[np.integer]) -> NDArray[np.integer]:
        """Take the number of the object within its class (N,) out of raw labels (N,); 0: it has none."""
        if self.class_modulus is not None:
            return raw // self.class_modulus
        assert self.instance_divisor is not None  # one of the two there is
        return raw % self.instance_divisor

    def true_segments(self, raw: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Turn raw labels (N,) into class ids (N,) uint8 and the segments (N,) uint32 that the evaluation counts.

        Things as `decode` gives them. Stuff is 0, one segment a class, as in the nuScenes devkit; or, where
        `stuff_segments` says so, its whole raw label, as in SemanticKITTI's own evaluator: road and lane marking are
        two segments of one class.
        """
        semantic, instance = self.decode(raw)
        if self.stuff_segments == "class":
            return semantic, instance
        return semantic, np.where(semantic != UNLABELLED, raw, 0).astype(np.uint32)

    def without(self, names: Iterable[str]) -> Taxonomy:
        """Return the taxonomy without some classes, by name: their points are unlabelled."""
        left_out = {self.by_name[name].id for name in names}
        if not left_out:
            return self
        fields = {name: getattr(self, name) for name in Taxonomy.model_fields}
        fields["classes"] = [c for c in self.classes if c.id not in left_out]
        fields["raw_to_id"] = {raw: UNLABELLED if i in left_out else i for raw, i in self.raw_to_id.items()}
        fields["id_to_raw"] = {i: raw for i, raw in self.id_to_raw.items() if i not in left_out}
        return Taxonomy(**fields)

    def decode(self, raw: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Turn raw labels (N,) into class ids (N,) uint8 and instance keys (N,) uint32.

        The instance key of a thing point is its whole raw label (unique within a frame, whatever raw class
        it came from); of stuff and unlabelled points it is 0. Thing points without an instance number (number 0)
        are one segment of their own, as in the nuScenes devkit's evaluation.
        """
        raw_class = self.raw_class(raw)
        lookup = np.zeros(max([int(raw_class.max(initial=0)), *self.raw_to_id]) + 1, np.uint8)
        for source, target in self.raw_to_id.items():
            lookup[source] = target
        semantic = lookup[raw_class]
        instance = np.where(np.isin(semantic, self.thing_ids), raw, 0).astype(np.uint32)
        return semantic, instance


class Split(BaseModel, frozen=True, extra="forbid"):
    """A choice of which classes of a taxonomy are novel, that is, never labelled in training.

    Attributes:
        taxonomy: whose classes; None: any, for a split without novel classes.
        ignored: classes that take no part: unlabelled in training as novel ones are, void in evaluation, and no
            entry of the vocabulary that is scored.
    """

    name: str
    taxonomy: str | None = None
    novel: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_one_role_each(self) -> Split:
        twice = sorted(set(self.novel) & set(self.ignored))
        if twice:
            raise ValueError(f"{', '.join(twice)} cannot be novel and ignored")
        return self

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the classes whose labels training never sees: novel and ignored ones."""
        return (*self.novel, *self.ignored)

    def of(self, taxonomy: Taxonomy) -> Split:
        """Return the split as one of this taxonomy, if it is one.

        Raises:
            ConfigError: it is of another taxonomy.
        """
        if self.taxonomy not in (None, taxonomy.name):
            raise ConfigError(
                f"split {self.name} is of taxonomy {self.taxonomy}, the cache of {taxonomy.name}",
                remedy=f"Name a split of {taxonomy.name}, or write one: docs/splits.md",
            )
        return self.model_copy(update={"taxonomy": taxonomy.name})

    def novel_ids(self, taxonomy: Taxonomy) -> tuple[int, ...]:
        return self._ids(self.novel, taxonomy)

    def hidden_ids(self, taxonomy: Taxonomy) -> tuple[int, ...]:
        return self._ids(self.hidden, taxonomy)

    def base_ids(self, taxonomy: Taxonomy) -> tuple[int, ...]:
        hidden = set(self.hidden_ids(taxonomy))
        return tuple(c.id for c in taxonomy.classes if c.id not in hidden)

    def scored(self, taxonomy: Taxonomy) -> Taxonomy:
        """Return the taxonomy that predictions are scored by: without the ignored classes."""
        self._ids(self.ignored, taxonomy)
        return taxonomy.without(self.ignored)

    def _ids(self, names: Iterable[str], taxonomy: Taxonomy) -> tuple[int, ...]:
        unknown = [n for n in names if n not in taxonomy.by_name]
        if unknown:
            raise ConfigError(
                f"split {self.name} names {', '.join(unknown)}, which taxonomy {taxonomy.name} does not have",
                remedy=f"Its classes are: {', '.join(taxonomy.by_name)}",
            )
        return tuple(taxonomy.by_name[n].id for n in names)


def load_taxonomy(name: str) -> Taxonomy:
    """Load a taxonomy shipped with ovps (by name), or one of the user's own (path of a YAML file)."""
    return _load(Taxonomy, "taxonomies", name)


def load_split(name: str) -> Split:
    """Load a split shipped with ovps (by name), or one of the user's own (path of a YAML file).

    Raises:
        ConfigError: no such split, not a valid one, or one of other classes that is called as a shipped one.
    """
    split: Split = _load(Split, "splits", name)
    if split.name in shipped.names("splits") and split.name != name:
        theirs: Split = _load(Split, "splits", split.name)
        if (split.taxonomy, set(split.novel), set(split.ignored)) != (
            *(theirs.taxonomy, set(theirs.novel), set(theirs.ignored)),
        ):
            raise ConfigError(
                f"a split called {split.name}, as one that ovps ships, with other classes",
                path=name,
                remedy="Give it a `name` of its own: scores are told apart by it",
            )
    return split


@lru_cache(maxsize=32)
def _content(text: str) -> Any:
    """What a YAML text holds, to be looked at alone: a command asks for its taxonomy again and again."""
    return plain_yaml.loads(text)


def _load(model, folder: str, name: str):
    path_like = "/" in name or name.endswith((".yaml", ".yml"))
    missing = "no such file" if path_like else f"no {model.__name__.lower()} named {name!r}"
    source = shipped.find(folder, name, missing, name if path_like else None)
    try:
        return model.model_validate(_content(source.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"not a valid {model.__name__.lower()}: {faults_of(error)}",
            path=str(source),
            remedy=f"Mend it (docs/{folder}.md), or give one of: {', '.join(shipped.names(folder))}",
        ) from error
