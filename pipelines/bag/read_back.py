"""Check of an imported recording: it is read as `ovps precompute` will read it, and what keeps it out is told."""

from __future__ import annotations

from pathlib import Path

from ovps import datasets
from ovps.datasets.folder import Folder
from ovps.errors import DatasetError, FrameError, OvpsError, command
from ovps.geometry.calibration import check_calibration
from pipelines.precompute.compute_frame import check_cloud
from pipelines.recording_findings import odd_headers


def refusals_of(recording: Path) -> list[str]:
    """Warn of what keeps a recording from being used: its calibration, its first sweep, the first image of each camera,
    and later ones that are none or of another size.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        root = recording.absolute()
        data = datasets.at("folder", root)
        assert isinstance(data, Folder)
        frames = datasets.frames_of(data, root, data.default_version, data.subsets(root))
    except DatasetError as error:
        return [_cannot_be_used(error, recording)]
    found: list[OvpsError] = []
    seen, unusable = set[str](), set[str]()
    for frame in frames:
        new = [camera for camera in frame.cameras if camera.channel not in seen]
        try:
            if not seen:
                check_cloud(frame, data.points(frame))
            for camera in new:
                check_calibration(frame)
                data.image(camera)
        except FrameError as error:
            found.append(error)
            unusable |= {camera.channel for camera in new}
        seen |= {camera.channel for camera in new}
    later = [text for channel, text in odd_headers(frames) if channel not in unusable]
    return [*(_cannot_be_used(error, recording) for error in found), *later]


def _cannot_be_used(error: OvpsError, recording: Path) -> str:
    look = command("ovps", "data", "check", recording)
    return f"the recording cannot be used as it is: {error.message} (file {error.path}). See what `{look}` says"
