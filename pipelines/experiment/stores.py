"""Stage 1 of an experiment: the drive world and the caches. Only what is missing is made."""

from __future__ import annotations

from collections.abc import Iterable

from ovps.progress import show_warnings
from pipelines.experiment.schema import Experiment
from pipelines.experiment.stages import Stages
from pipelines.precompute import PrecomputeOptions, precompute


def prepare(experiment: Experiment, caches: Iterable[str | None], stages: Stages) -> None:
    """Build the world, and the caches of these names (None: the first one), unless they are there.

    Raises:
        OvpsError: whatever stops a stage. Running again goes on there.
    """
    data, world = experiment.data, experiment.world
    if data is None:
        return
    if world is not None:
        assert data.dataroot is not None  # given with a world
        command = f"ovps world build --out {data.dataroot} --scenes {world.scenes} --frames {world.frames}"
        from driveworld import build_world  # an extra: only where a world is asked for

        with stages.stage(f"{command} --seed {world.seed}"):
            build_world(data.dataroot, **world.model_dump())
    for name in caches:
        clip, cache = experiment.clip_of(name), experiment.cache_of(name)
        assert clip is not None  # given with data
        command = "ovps precompute" + (
            f" --dataroot {data.dataroot}" if data.dataroot else f" --dataset {data.dataset}"
        )
        command += f" --encoder {clip.encoder} --out {cache}"
        command += f" --weights {clip.weights}" if clip.weights else ""
        command += "" if clip.occlusion else " --no-occlusion"
        with stages.stage(command):
            summary = precompute(PrecomputeOptions(**data.model_dump(), **clip.model_dump(), out=cache))
        show_warnings(summary.warnings)
