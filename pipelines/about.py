"""Records of predictions, about.json: what a folder of them holds, and what they were made with."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from cache_schemas import content_sha256
from ovps.entries import NO_ENTRY, Entry
from ovps.errors import ConfigError
from ovps.files import refusals, write_whole
from ovps.inference.prediction import named_classes, unnamed_classes
from ovps.inference.session import Session
from ovps.shortage import faults
from ovps.taxonomy import UNLABELLED
from ovps.training.config import TrainConfig, flat
from ovps.training.run_files import FREE, RunInfo
from ovps.vocabulary import digest
from pipelines.drives import DRIVES, exchanged

ABOUT = "about.json"
BEGUN = "unfinished.json"  # what about.json will be, as long as frames are missing
_MAY_DIFFER = ("step", "left_out", DRIVES)  # a run that was trained on replaces its own predictions; drives are added

Format = Literal["submission", "arrays"]


class Labels(BaseModel, frozen=True):
    """Parts of about.json that say how labels are to be read.

    Attributes:
        format: of the files.
        entries: of the vocabulary, which plain arrays count.
        drives: see `pipelines.drives`; none of an earlier version.
    """

    format: Format
    entries: tuple[Entry, ...]
    drives: dict[str, str] = {}


def about_of(session: Session, subset: str, fill: bool, form: Format, drives: Mapping[str, str]) -> dict[str, Any]:
    """Describe predictions that are to be made: what the labels are and where they come from.

    Args:
        drives: `pipelines.drives.hashed` of the first frame of each scene.
    """
    taxonomy = session.run.taxonomy
    classes = named_classes(session.vocabulary, taxonomy)
    return {
        "format": form,
        "entries": [
            {"name": e.name, "kind": e.kind, "synonyms": list(e.synonyms), "class": c.name if c else None}
            for e, c in zip(session.vocabulary.entries, classes, strict=True)
        ],
        "unlabelled": NO_ENTRY if form == "arrays" else UNLABELLED,
        "left_out": {},
        "taxonomy": taxonomy.name,
        "unnamed_classes": unnamed_classes(session.vocabulary, taxonomy),
        "subset": subset,
        DRIVES: drives,
        "filled": fill,
        "run": name_of(session.run.path),
        "step": session.run.step,
        "training_sha256": training_sha256(session.run.config, session.run.info),
        "encoder": session.vocabulary.encoder,
        "weights_sha256": session.vocabulary.weights_sha256,
        "weights_random": session.store.provenance.weights_random,
        "vocabulary_sha256": digest(session.vocabulary),
        "merge": session.merge.model_dump(mode="json"),
        "classifier": session.classifier.model_dump(mode="json"),
    }


def name_of(run: Path) -> str:
    """Name a run without its place on this machine."""
    return run.resolve().name


def training_sha256(config: TrainConfig, info: RunInfo) -> str:
    """Hash what a run learns from and how: it stays while the run is trained on, and tells runs of one name apart."""
    free = ("split", *FREE)  # a split is what it hides
    settings = {name: value for name, value in flat(config).items() if not name.startswith(free)}
    learned = {"frames": info.frames_sha256, "vocabulary": info.vocabulary_sha256, "clip": flat(info.clip)}
    return content_sha256({"settings": settings, "hidden": sorted(info.split.hidden), **learned})


def claim(out: Path, about: Mapping[str, Any], tokens: Collection[str]) -> None:
    """Mark a folder as that of the predictions that begin, unless it holds others: labels do not say what they mean.

    Args:
        tokens: of all frames of the store. Predictions of none of them are of another store.

    Raises:
        ConfigError: it holds others.
        StorageError: the disk refuses.
    """
    for name in (ABOUT, BEGUN):
        there = _read(out / name)
        found = [] if there is None else differences(there, about)
        drives = {} if there is None else Labels.model_validate(there).drives
        if drives and not any(token in tokens for token in drives):
            found.append(f"of another store, with frames such as {next(iter(drives))}")
        if found:
            raise ConfigError(
                f"the folder holds other predictions: {', '.join(found)}",
                path=out,
                remedy="Give another --out, or delete the folder",
            )
    write_whole(out / BEGUN, _json(about))
    with refusals(out):
        (out / ABOUT).unlink(missing_ok=True)


def finish(out: Path, about: Mapping[str, Any]) -> None:
    """Write about.json of predictions that are all there.

    Raises:
        StorageError: the disk refuses.
    """
    write_whole(out / ABOUT, _json(about))
    with refusals(out):
        (out / BEGUN).unlink(missing_ok=True)


def read_about(out: Path) -> dict[str, Any] | None:
    """Read about.json of a folder of predictions; None: there is none.

    Raises:
        ConfigError: it is something else.
        StorageError: the disk refuses.
    """
    return _read(out / ABOUT)


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what of `now` stands otherwise in `there`, a few words each."""
    before = {"training_sha256": now.get("training_sha256"), **there}  # earlier versions did not say
    if before.get("run") != now.get("run", before.get("run")):
        before["training_sha256"] = now.get("training_sha256")  # of another run it says nothing more
    found = [_difference(k, before, now) for k in now if k not in _MAY_DIFFER and before.get(k) != now[k]]
    others = exchanged(there.get(DRIVES, {}), now.get(DRIVES, {}))  # earlier versions did not say
    return found + [f"other points, as of another drive, in frame {token}" for token in others[:1]]


def _difference(key: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key.endswith("_sha256"):
        return f"other {key.removesuffix('_sha256')}"
    old, new = there.get(key), now[key]
    plain = all(isinstance(value, str | bool | int) for value in (old, new))
    return f"{key} {old} there, {new} now" if plain else f"other {key}"


def _read(path: Path) -> dict[str, Any] | None:
    with refusals(path.parent):
        if not path.exists():
            return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        Labels.model_validate(content)
        return dict(content)
    except faults(OSError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ") if first else str(error)
        raise ConfigError(
            f"not what `ovps predict` writes: {reason}",
            path=path,
            remedy="Predict into another folder, or delete this one",
        ) from error


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
