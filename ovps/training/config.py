"""All settings of a run in one object, from a YAML file and `key.sub=value` overrides."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator

from ovps import plain_yaml, shipped
from ovps.batch.settings import AugmentationConfig, DataConfig
from ovps.errors import ConfigError, faults_in, listed
from ovps.losses.config import LossConfig
from ovps.model.classify import ClassifierConfig
from ovps.model.config import ModelConfig
from ovps.model.panoptic import MergeConfig
from ovps.training.optimiser import OptimiserConfig


class TrainConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()):
    """A training run.

    Attributes:
        system: which kind of network, loss and answer: an object of `ovps.systems`, by name.
        split: which classes are novel (name of a split shipped with ovps, or a YAML file).
        epochs, steps: length of the run; give one. A step is one update of the weights.
        accumulate: forward passes per step, of each process; the mean of their losses is what counts.
        seed: of weights, order and augmentation.
        precision: of the decoder; the sparse encoder stays in float32 (MinkowskiEngine knows nothing else).
        threads: of torch and MinkowskiEngine; None: all cores. Two numbers of threads give different last bits.
            Trainings beside each other want one each: threads that wait for one another spin.
        statistics_frames: frames that the mean CLIP feature is taken over.
        log_interval: steps between lines of metrics; each checkpoint's step has one too.
        gradient_interval: steps between measurements of the gradient norm of L_V against the rest; 0: never.
        checkpoint_interval: steps between checkpoints.
        keep_interval: steps between checkpoints that are kept for good; 0: only the last one is kept.
        merge, classifier: of inference, stored with the run so that every evaluation uses the same.
    """

    system: str = "queries"
    split: str = "b12n4"
    epochs: float | None = Field(default=None, gt=0)
    steps: PositiveInt | None = None
    accumulate: PositiveInt = 1
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["float32", "bf16"] = "float32"
    threads: int | None = Field(default=None, ge=1, le=1024)
    statistics_frames: PositiveInt = 256
    log_interval: PositiveInt = 10
    gradient_interval: int = Field(default=0, ge=0)
    checkpoint_interval: PositiveInt = 500
    keep_interval: int = Field(default=0, ge=0)

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    data: DataConfig = DataConfig()
    merge: MergeConfig = MergeConfig()
    classifier: ClassifierConfig = ClassifierConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.merge.masks != self.loss.voxel_form:
            raise ValueError(f"merge.masks {self.merge.masks} and loss.voxel_form {self.loss.voxel_form} must be equal")
        return self

    def total_steps(self, frames: int, processes: int = 1) -> int:
        """Updates in the whole run over `frames` training frames."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * frames / self.frames_per_step(processes)))

    def frames_per_step(self, processes: int) -> int:
        """Frames that an update sees, of all processes together."""
        return self.data.batch_size * self.accumulate * processes


_LIKE = "Write YAML like that of ovps/configs/train"


def load_config(name_or_file: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """A shipped config by name, or a YAML file, with overrides like `optimiser.lr=4e-4` on top.

    Raises:
        ConfigError: no such config, not YAML, an unknown key, a value that does not fit.
    """
    values = _read(name_or_file)
    for override in overrides:
        _set(values, override)
    return validate_config(values, source=name_or_file, overrides=overrides)


def default_config(overrides: Sequence[str] = ()) -> TrainConfig:
    """Give the defaults with overrides on top, for what answers without a training.

    Raises:
        ConfigError: an unknown key, a value that does not fit.
    """
    values: dict[str, Any] = {"steps": 1}
    for override in overrides:
        _set(values, override)
    return validate_config(values, source="--set")


def check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Raise a ConfigError that names the source, unless settings by dotted name fit the defaults of all others."""
    values: dict[str, Any] = {} if settings.keys() & {"steps", "epochs"} else {"steps": 1}
    for name, value in settings.items():
        _put(values, name, value)
    validate_config(values, source=source)


def stated_settings(name_or_file: str) -> dict[str, Any]:
    """Read what a config states itself, defaults left out, as dotted names and plain values.

    Raises:
        ConfigError: no such config, or not YAML.
    """
    return dotted(_read(name_or_file))


def validate_config(values: Mapping[str, Any], *, source: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Nested settings as a TrainConfig, or a ConfigError that names the keys at fault.

    Args:
        overrides: `key.sub=value` that are among the values and do not come from the source.
    """
    unknown = unknown_settings(values)
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}", path=source, remedy=_suggest(unknown[0]))
    try:
        config = TrainConfig.model_validate(values)
    except ValidationError as error:
        found = faults_in(error)
        keys = [".".join(map(str, e["loc"])) for e in found]
        problems = "; ".join(f"{key or 'config'}: {e['msg']}" for key, e in zip(keys, found, strict=True))
        given = [o for o in overrides if any(_below(key, o.partition("=")[0]) for key in keys)]
        if given and all(any(_below(key, o.partition("=")[0]) for o in given) for key in keys):
            raise ConfigError(problems, remedy=f"Mend {', '.join(given)}, or leave it out") from error
        raise ConfigError(problems, path=source, remedy="Mend the value, or leave it out") from error
    if switches := _switches_for_numbers(dotted(values), flat(config)):  # YAML's yes, on and true would be 1
        problem = f"{listed(switches)}: a number is asked for, not yes or no"
        raise ConfigError(problem, path=source, remedy="Give a number, or leave it out")
    return config


def _switches_for_numbers(values: Mapping[str, Any], checked: Mapping[str, Any]) -> list[str]:
    def lost(given: object, taken: object) -> bool:
        if isinstance(given, list) and isinstance(taken, list):
            return any(map(lost, given, taken))
        return isinstance(given, bool) and not isinstance(taken, bool)

    return [name for name, value in values.items() if name in checked and lost(value, checked[name])]


def unknown_settings(values: Mapping[str, Any]) -> list[str]:
    """Name the settings, dotted, that this version does not have."""
    return list(_unknown(values, TrainConfig, ""))


@cache
def known_keys() -> tuple[str, ...]:
    """Every setting by its dotted name."""
    return tuple(_keys(TrainConfig, ""))


def check_key(key: str, path: str | None = None) -> None:
    """Raise a ConfigError that names the nearest settings, unless `key` is the dotted name of one."""
    if key not in known_keys():
        raise ConfigError(f"unknown setting {key}", path=path, remedy=_suggest(key))


def flat(config: BaseModel) -> dict[str, Any]:
    """A config as dotted names and values, for comparisons that name the difference."""
    return dotted(config.model_dump(mode="json"))


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings by their dotted names: `{loss: {voxel_weight: 0.1}}` is `{loss.voxel_weight: 0.1}`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= dotted(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def missing_settings(values: Mapping[str, Any], config: BaseModel) -> list[str]:
    """Name the settings, dotted, that a config has and the values that it was read from do not state."""
    stated = dotted(values)
    return [name for name in flat(config) if name not in stated]


def _read(name_or_file: str) -> dict[str, Any]:
    source = shipped.find("train", name_or_file, f"no config {name_or_file!r}")
    try:
        values = plain_yaml.loads(source.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not YAML: {error}", path=str(source), remedy=_LIKE) from error
    if not isinstance(values, dict):
        raise ConfigError("a config is a mapping of settings", path=str(source), remedy=_LIKE)
    return values


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the setting {override!r}", remedy="Write --set key.sub=value")
    check_key(key)
    try:
        value = plain_yaml.loads(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"cannot read the value of {override!r}: {error}", remedy="Write a YAML value: --set key.sub=value"
        ) from error
    # what a mapping does not name stays as it is: `loss={voxel_weight: 0.1}` is no new loss
    for name, part in (dotted(value, f"{key}.") if isinstance(value, Mapping) else {key: value}).items():
        check_key(name)
        _put(values, name, part)
    # `epochs` and `steps` exclude each other: naming one on the command line replaces the other of the file
    other = {"epochs": "steps", "steps": "epochs"}.get(key)
    if other and value is not None:
        values.pop(other, None)


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value


def _below(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _suggest(key: str) -> str:
    near = difflib.get_close_matches(key, known_keys(), n=3, cutoff=0.5)
    leaf = key.rsplit(".", 1)[-1]
    near += [k for k in known_keys() if k.rsplit(".", 1)[-1] == leaf and k not in near]
    return f"Did you mean {' or '.join(near[:4])}?" if near else f"Sections are: {', '.join(TrainConfig.model_fields)}"


def _section(annotation: Any) -> type[BaseModel] | None:
    """The config class of a field, also of an optional one."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        yield prefix + name
        if section:
            yield from _keys(section, f"{prefix}{name}.")


def _unknown(values: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping) and (section := _section(field.annotation)):
            yield from _unknown(value, section, f"{prefix}{name}.")
