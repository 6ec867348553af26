"""Stage e: the drive world's experiment, as far as the minutes reach; scores as `ovps experiment` writes them.

World, cache and settings are those of the experiment `table1`, with further seeds and two systems trained longer, so
that `ovps experiment join` takes the results. They are written again after every training.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from driveworld import build_world
from ovps.errors import OvpsError
from pipelines.experiment.cell import Job
from pipelines.experiment.collect import JSON, PARQUET, collect, save
from pipelines.experiment.provenance import command_line
from pipelines.experiment.queue import run_all
from pipelines.experiment.schema import Experiment, load_experiment
from pipelines.experiment.stages import Stages
from pipelines.experiment.stores import prepare
from pipelines.experiment.trainings import Training, plan
from pipelines.precompute import PrecomputeOptions, precompute
from tools.gpu_check import minkowski
from tools.gpu_check.project import TINY
from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import Setting
from tools.gpu_check.world import small_options

OWN = Path(__file__).parent / "systems"
# the long ones first: they need all the time there is, and the others run beside them
SYSTEMS = ("closed_set_long", "ovps_long.yaml", "ovps", "pfc", "openscene", "pfc_long.yaml", "closed_set")
SPLITS = ("b12n4", "b10n6", "b11n5")
SEEDS = (0, 1, 2, 3, 4)
SIDE_BY_SIDE = 8  # trainings on one GPU: each keeps one core busy and the GPU hardly
FAILURES = 3  # trainings that may fail before the rest is given up


class Saving(Stages):
    """Writes the experiment's results whenever something is done.

    Args:
        seconds: file of the times.
        out: folder that the results are copied to.
    """

    def __init__(self, seconds: Path, experiment: Experiment, out: Path, recorder: Recorder) -> None:
        super().__init__(seconds)
        self._experiment, self._out, self._recorder = experiment, out, recorder
        self._trainings = plan(experiment)
        self._told: set[str] = set()

    def add(self, seconds: dict[str, float]) -> None:
        super().add(seconds)
        cells, missing = collect(self._trainings)
        if not cells:
            return
        save(self._experiment, cells, missing, command_line(), self.seconds)
        for name in (PARQUET, JSON):
            shutil.copy(self._experiment.out / name, self._out)
        for cell in cells:
            scored = cell.scored
            label = f"{scored.system}, {scored.split}, seed {scored.seed}"
            if label not in self._told:
                self._told.add(label)
                scores = {g: scored.result.system.score(g, "pq") for g in ("all", "base", "novel")}
                text = ", ".join(f"{group} {100 * (score or 0):.1f}" for group, score in scores.items())
                minutes = scored.training_minutes
                self._recorder.add(f"trained: {label}", minutes, "min", note=f"PQ {text}; {scored.result.step} steps")


def run(setting: Setting, recorder: Recorder) -> None:
    minkowski.ensure(setting, recorder)
    for system in OWN.glob("*.yaml"):  # under a name that says nothing of this machine
        shutil.copy(system, setting.work)
    experiment = tiny_experiment(setting) if setting.tiny else whole_experiment()
    stages = Saving(experiment.out / "seconds.json", experiment, setting.out, recorder)
    if not setting.tiny:
        make_data(setting, experiment, stages)
        recorder.add("world and cache", sum(stages.seconds.values()), "s", note="all cores, CLIP on the device")
    jobs = [Job(training, threads=1) for training in in_order(experiment)]
    side_by_side = 1 if setting.tiny else min(SIDE_BY_SIDE, max(1, setting.cores - 2))
    recorder.add("trainings side by side", side_by_side, note=f"{len(jobs)} in all, and {setting.left:.0f} s for them")
    for _ in range(FAILURES):
        try:
            run_all(jobs, side_by_side, setting.out / "logs", stages)
            return
        except OvpsError as error:
            recorder.failed("a training", error)
            undone = [job for job in jobs if not done(job)]
            # what waited goes on, and what was begun, the failed one among it, comes after
            jobs = sorted(undone, key=lambda job: job.training.run.is_dir())


def make_data(setting: Setting, experiment: Experiment, stages: Stages) -> None:
    """World and cache as the experiment wants them, with more cores than it asks for: their bytes are the same."""
    assert experiment.world is not None  # `table1` has all of these
    assert experiment.data is not None
    assert experiment.data.dataroot is not None
    assert experiment.clip is not None
    build_world(experiment.data.dataroot, **experiment.world.model_dump() | {"workers": setting.cores})
    clip = experiment.clip.model_dump() | {"workers": None}
    precompute(PrecomputeOptions(**experiment.data.model_dump(), **clip, out=experiment.cache, device=setting.device))
    prepare(experiment, [None], stages)  # finds both done, and says so


def whole_experiment() -> Experiment:
    """`table1` with more seeds and longer systems; on the same ground, so that results join."""
    table = load_experiment("table1")
    tuned = table.tuned | {"pfc_long.yaml": table.tuned["pfc"]}
    return table.model_copy(update={"systems": SYSTEMS, "splits": SPLITS, "seeds": SEEDS, "tuned": tuned})


def tiny_experiment(setting: Setting) -> Experiment:
    """Two systems and two steps on the small cache."""
    cache = setting.work / "zarr" / "small"
    precompute(small_options(setting, cache))
    pairs = (text.partition("=") for text in (*TINY, "steps=2"))
    return Experiment(
        name="tiny",
        cache=cache,
        runs=setting.work / "runs" / "tiny",
        out=setting.work / "results" / "tiny",
        report=setting.work / "tiny.html",
        train="driveworld",
        set={key: yaml.safe_load(value) for key, _, value in pairs},
        splits=("b12n4",),
        systems=("ovps", "openscene"),
    )


def in_order(experiment: Experiment) -> list[Training]:
    """By value: every seed of the first split, then the other splits; within a seed the systems as listed."""
    whole = {training.key: training for training in plan(experiment)}  # with their evaluations for all splits
    by_split = (plan(experiment.model_copy(update={"splits": (split,)})) for split in experiment.splits)
    return [whole[key] for key in dict.fromkeys(training.key for part in by_split for training in part)]


def done(job: Job) -> bool:
    """Whether it is trained, and scored for all of its systems."""
    return not collect([job.training])[1]
