"""Frames that a run is asked for."""

from __future__ import annotations

from ovps import datasets
from ovps.errors import DatasetError
from ovps.frame import Frame
from pipelines.precompute.options import Resolved
from pipelines.precompute.plan import check_cameras, check_unique, limited, with_cameras


def frames_of(options: Resolved) -> list[Frame]:
    """The frames asked for, see `asked_for`."""
    return asked_for(options)[0]


def asked_for(options: Resolved) -> tuple[list[Frame], list[str]]:
    """The frames asked for, and warnings of those that are left out.

    Raises:
        DatasetError: none, two of one token, two scenes of one name, a scene without a camera that was asked for, or
            whatever the data set finds wrong.
    """
    asked = {"sweeps": options.sweeps} if options.sweeps else {}
    dataset = datasets.get(options.dataset)
    frames = datasets.frames_of(dataset, options.dataroot, options.version, options.subsets, **asked)
    check_unique(frames)
    scenes: dict[str, list[Frame]] = {}
    for frame in frames:
        scenes.setdefault(frame.scene, []).append(frame)
    if options.only:
        unknown = sorted(set(options.only) - {frame.token for frame in frames})
        if unknown:
            raise DatasetError(
                "no such frame in these splits",
                path=options.dataroot,
                frame=unknown[0],
                remedy="Check --only and --split",
            )
        wanted = set(options.only)
        frames = [frame for frame in frames if frame.token in wanted]
    frames = limited(frames, options.limit)
    for scene in dict.fromkeys(frame.scene for frame in frames):  # by all its frames: one may lack an image
        check_cameras(scenes[scene], options.cameras)
    frames = [with_cameras(frame, options.cameras) for frame in frames]
    if not frames:
        raise DatasetError(
            f"no frames of {options.version} in {', '.join(options.subsets)}",
            path=options.dataroot,
            remedy="Check --version and --split",
        )
    without = [frame.token for frame in frames if not frame.cameras]
    if without and not options.cameras:
        raise DatasetError(
            "a frame without cameras, of which CLIP cannot say anything",
            path=options.dataroot,
            frame=without[0],
            remedy="Give it its cameras, or take it out of the data set",
        )
    if not without:
        return frames, []
    named = ", ".join(options.cameras)
    if len(without) == len(frames):
        raise DatasetError(
            f"no frame asked for has an image of {named}",
            path=options.dataroot,
            frame=without[0],
            remedy="Name with --cameras those that saw it, or ask for other frames",
        )
    return [frame for frame in frames if frame.cameras], [
        f"{len(without)} of {len(frames)} frames have no image of {named} and are left out, the first is {without[0]}"
    ]
