"""Stage 1 of an experiment: the drive world and the caches. Only what is missing is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ovps.errors import OvpsError
from ovps.options import flag_of
from ovps.progress import show_warnings
from pipelines.experiment.schema import Experiment
from pipelines.experiment.stages import Stages, announce, duration
from pipelines.options import BuildWorldOptions, ClipOptions, DataOptions, PrecomputeOptions
from pipelines.precompute import estimate, precompute

_FLAG = re.compile(r"--[a-z][a-z-]*")
_COMMAND = re.compile(r"(`ovps [^`]*`)")


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
        from driveworld import build_world  # an extra: only where a world is asked for

        command = BuildWorldOptions(out=data.dataroot, **world.model_dump()).command_line()
        with stages.stage(command):
            build_world(data.dataroot, **world.model_dump())
    for name in caches:
        clip, cache = experiment.clip_of(name), experiment.cache_of(name)
        assert clip is not None  # given with data
        options = PrecomputeOptions(**data.model_dump(), **clip.model_dump(), out=cache)
        with _told_of_the_file(experiment, options):
            if world is None:  # real data: hours, perhaps
                expected = estimate(options)
                announce(f"{expected.images:,} images to encode, about {duration(3600 * expected.hours)}")
            with stages.stage(options.command_line()):
                summary = precompute(options)
        show_warnings(summary.warnings)


@contextmanager
def _told_of_the_file(experiment: Experiment, options: PrecomputeOptions) -> Iterator[None]:
    """Say of options in a remedy what they are called in the file, or that the command itself takes them.

    Options of a command that a remedy writes out stay as they are.
    """
    keys = {
        flag_of(name, field).name: f"`{section}.{name}` of experiment {experiment.name}"
        for section, model in (("data", DataOptions), ("clip", ClipOptions))
        for name, field in model.model_fields.items()
    }
    try:
        yield
    except OvpsError as error:
        parts = _COMMAND.split(error.remedy or "")  # prose and commands, in turns
        flags = [flag for prose in parts[::2] for flag in _FLAG.findall(prose)]
        if not flags:
            raise
        parts[::2] = [_FLAG.sub(lambda flag: keys.get(flag[0], flag[0]), prose) for prose in parts[::2]]
        remedy = "".join(parts)
        if not keys.keys() >= set(flags):
            remedy += f"; the other options are taken by the command itself: {options.command_line()}"
        raise error.with_remedy(remedy) from error
