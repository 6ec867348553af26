"""The whole way: data set, CLIP features, training, evaluation, report. What exists already is not made again.

make reproduce
make reproduce CONFIG=nuscenes
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ovps import datasets
from ovps.errors import ConfigError, OvpsError
from ovps.evaluation.results import EvalResult
from ovps.progress import console
from ovps.world import build_world
from pipelines.evaluate import evaluate, load_result
from pipelines.precompute import PrecomputeOptions, precompute
from pipelines.report import report
from pipelines.train import TrainOptions, TrainSummary, train


class World(BaseModel):
    """The drive world to build; a real data set has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: int
    frames: int
    seed: int
    val_fraction: float = 0.25
    workers: int = 2


class Data(BaseModel):
    """The data set to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    dataroot: Path
    version: str
    subsets: tuple[str, ...] = ("train", "val")


class ClipSettings(BaseModel):
    """How its images become features; see `pipelines.precompute.options`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    weights: str | None = None
    upscale: float = 1.0
    grid: str = "cylinder"
    workers: int | None = None


class Experiment(BaseModel):
    """One YAML file of `pipelines/experiments`: which data, and where everything goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: World | None = None
    data: Data
    clip: ClipSettings
    train: str
    split: str
    cache: Path
    run: Path
    report: Path


def load_experiment(name_or_file: str) -> Experiment:
    """An experiment shipped in `pipelines/experiments`, or a YAML file.

    Raises:
        ConfigError: no such experiment, or not a valid one.
    """
    folder = resources.files("pipelines") / "experiments"
    known = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    source = folder / f"{name_or_file}.yaml" if name_or_file in known else Path(name_or_file)
    if not source.is_file():
        raise ConfigError(f"no experiment {name_or_file!r}", remedy=f"Give a YAML file, or one of: {', '.join(known)}")
    try:
        return Experiment.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"not a valid experiment: {error}", path=str(source)) from error


def reproduce(experiment: Experiment) -> Path:
    """Run every stage that is not done yet; returns the path of the report.

    Raises:
        OvpsError: whatever stops a stage. Running again goes on there.
    """
    stages = Stages(experiment.run / "stages.json")
    data, clip, run, cache = experiment.data, experiment.clip, experiment.run, experiment.cache
    if experiment.world:
        world = experiment.world
        command = f"ovps world build --out {data.dataroot} --scenes {world.scenes} --frames {world.frames}"
        with stages.stage(f"{command} --seed {world.seed}"):
            build_world(data.dataroot, **world.model_dump())
    with stages.stage(f"ovps precompute --dataroot {data.dataroot} --encoder {clip.encoder} --out {cache}"):
        precompute(PrecomputeOptions(**data.model_dump(), **clip.model_dump(), out=cache))
    with stages.stage(f"ovps train --cache {cache} --config {experiment.train} --split {experiment.split} --out {run}"):
        trained = train(TrainOptions(cache, run, experiment.train, experiment.split))
    with stages.stage(f"ovps eval --run {run} --cache {cache}"):
        _evaluate(experiment, trained)
    with stages.stage(f"ovps report --run {run} --cache {cache} --out {experiment.report}"):
        module = datasets.get(data.dataset)
        return report(
            run,
            cache,
            out=experiment.report,
            frames=module.load_frames(data.dataroot, data.version, ("val",)),
            read_image=module.read_image,
            commands=stages.took(),
        )


def _evaluate(experiment: Experiment, trained: TrainSummary) -> EvalResult:
    """Score the run, unless these very weights have been scored already."""
    try:
        result = load_result(experiment.run / "eval")
        if result.step == trained.step == trained.resumed_from:
            return result
    except ConfigError:
        pass  # not evaluated, or by another version: do it now
    return evaluate(experiment.run, experiment.cache)


class Stages:
    """Says what is going on, and remembers how long it took, over all runs that were needed.

    Args:
        path: JSON file of seconds by stage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @contextmanager
    def stage(self, command: str) -> Iterator[None]:
        console.print(f"\n== {command}", style="bold", soft_wrap=True, highlight=False)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[command] = self._seconds.get(command, 0.0) + time.perf_counter() - begin
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._seconds, indent=2) + "\n", encoding="utf-8")

    def took(self) -> dict[str, str]:
        """Time by stage, for people."""
        return {command: f"{seconds:.0f} s" for command, seconds in self._seconds.items()}


def main(config: Annotated[str, typer.Option(help="An experiment's name, or a YAML file.")] = "driveworld") -> None:
    """Run an experiment from data to report."""
    try:
        path = reproduce(load_experiment(config))
    except OvpsError as error:
        console.print(f"{error.kind} error: {error}", style="red", soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    console.print(f"report: {path.resolve()}", style="green", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
