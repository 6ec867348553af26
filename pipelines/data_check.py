"""A recording looked at before anything is computed: does it hold together, and do its points fit its images?

ovps data check data/recording
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from ovps import datasets
from ovps.datasets.folder import Folder
from ovps.datasets.folder.calibration import load_calibration
from ovps.errors import DatasetError, FrameError
from ovps.frame import Camera, Frame
from ovps.geometry.calibration import check_calibration
from ovps.geometry.grid import Grid, fitting_grid
from ovps.geometry.mistakes import likely_mistake
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from ovps.places import check_free
from ovps.report.linked import ShownFrame, write_picture
from ovps.report.overlay import depth_overlay
from ovps.report.page import counted, render, write_page
from pipelines.precompute.compute_frame import cloud_fault
from pipelines.precompute.plan import check_unique

PAGE = "check.html"
_FAR = 0.02  # of the points beyond the default grid: worth a word
_GROUND_M = -0.7  # a LiDAR on a vehicle stands higher over the ground
_FEW = 100  # points: a LiDAR of one beam has more
_ZEROS = 0.01  # of the points at the origin
_FAST_M_S = 70.0
_APART_US = 250_000  # between an image and its sweep
_STEPS_US = (1_000, 10_000_000)  # between sweeps


class DataCheck(BaseModel):
    """Findings on a recording.

    Attributes:
        frames, labelled: of the whole recording.
        frames_read: of them, points and images, evenly spaced.
        points_median: a frame.
        seen_share: of the points, that each camera sees, hidden ones left out.
        unseen_share: of the points, that no camera sees: CLIP says nothing of these.
        apart_ms: between an image and its sweep, the most, by camera.
        farthest_m, reach_m: distance of the farthest point, and of 99 % of them.
        ground_m: height of the ground near the vehicle, in the frame of the points.
        beyond_default_share: of the points, beyond the range of the default grid.
        grid: with which nearly all points lie inside: `ovps precompute --grid`.
        page: with a picture of every camera of every frame that was read.
        warnings: what is odd, and the likely mistake.
        problems: what keeps frames from being used.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    scenes: tuple[str, ...]
    frames: int
    labelled: int
    frames_read: int
    points_median: int
    seen_share: dict[str, float]
    unseen_share: float
    apart_ms: dict[str, float]
    farthest_m: float
    reach_m: float
    ground_m: float
    beyond_default_share: float
    grid: str
    page: Path
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class CheckPage:
    """The content of the page."""

    title: str
    lead: str
    frames: list[ShownFrame]
    warnings: Sequence[str]
    problems: Sequence[str]
    facts: dict[str, dict[str, str]]


def check(path: Path, *, out: Path | None = None, count: int = 3) -> DataCheck:
    """Read a recording as `ovps precompute` would, some frames whole, and draw its points over its images.

    Args:
        path: of the recording, as docs/own_recording.md lays it out.
        out: folder of the page and the pictures; None: PATH-check beside it.
        count: frames to read and draw, evenly spaced; of the others only the files are looked for.

    Raises:
        DatasetError: no recording, files that do not go together, or none of the frames can be read.
        StorageError: the disk refuses.
    """
    root = path.absolute()
    folder = root.with_name(f"{root.name}-check") if out is None else out
    data = datasets.at("folder", root)
    assert isinstance(data, Folder)
    frames = data.frames(root, data.default_version, data.subsets(root))
    check_free(folder)
    check_unique(frames)
    problems, warnings = _missing(frames), _clocks(frames)
    clouds: list[NDArray[np.float32]] = []
    seen: dict[str, list[float]] = {}
    unseen: list[float] = []
    shown: list[ShownFrame] = []
    spread = sorted({round(place) for place in np.linspace(0, len(frames) - 1, min(count, len(frames)))})
    for frame in (frames[place] for place in spread):
        try:
            check_calibration(frame)
            cloud = data.points(frame)
            data.labels(frame)
            fault = cloud_fault(cloud)
            if fault:
                raise FrameError(fault, path=frame.points_path, frame=frame.token, remedy="Points are in metres")
        except FrameError as error:
            problems.append(str(error))
            continue
        warnings += _of_points(frame, cloud.xyz, cloud.intensity)
        clouds.append(cloud.xyz)
        any_camera = np.zeros(len(cloud), bool)
        pictures = []
        for camera in frame.cameras:
            visible = unoccluded(project(cloud.xyz, camera), camera, data.occlusion)
            any_camera |= visible
            seen.setdefault(camera.channel, []).append(float(visible.mean()))
            mistake = likely_mistake(cloud.xyz, camera)
            warnings += [f"{camera.channel}: {mistake}"] if mistake else []
            try:
                picture = _overlay(data.image(camera), cloud.xyz, camera, data.occlusion)
            except FrameError as error:
                problems.append(f"{error}{_resolution(camera)}")
                continue
            title = f"{camera.channel}: sees {visible.mean():.1%} of the points"
            pictures.append(write_picture(folder, f"{frame.token}-{camera.channel}", picture, title))
        unseen.append(float((~any_camera).mean()))
        if frame.cameras and not any_camera.any():
            problems.append(f"{frame.token}: none of {counted(len(frame.cameras), 'camera')} sees a point of it")
        shown.append(ShownFrame(frame.token, pictures))
    if not clouds:
        raise DatasetError(
            f"none of {counted(len(spread), 'frame')} that were tried can be used. The first: {problems[0]}", path=root
        )
    result = _result(root, frames, clouds, seen, unseen, folder / PAGE, warnings, problems)
    write_page(folder / PAGE, render("check_page.html", _page(result, shown)))
    return result


def _result(
    root: Path,
    frames: Sequence[Frame],
    clouds: Sequence[NDArray[np.float32]],
    seen: dict[str, list[float]],
    unseen: Sequence[float],
    page: Path,
    warnings: list[str],
    problems: list[str],
) -> DataCheck:
    points = np.concatenate(clouds)
    reach = np.hypot(points[:, 0], points[:, 1])
    grid, default = fitting_grid(points), Grid.parse("cylinder")
    beyond = float(default.beyond(points).mean())
    near = points[(reach > 3) & (reach < 20), 2]
    ground = float(np.quantile(near, 0.1)) if len(near) else float("nan")
    if beyond > _FAR:
        warnings.append(
            f"{beyond:.0%} of the points lie beyond the default grid ({default}) and would stand in its border cells;"
            f" {grid.beyond(points).mean():.1%} do with `ovps precompute --grid {grid}`."
            " `ovps segment` takes that one by itself; a run that was trained elsewhere keeps its own"
        )
    if ground > _GROUND_M:
        warnings.append(
            f"the ground lies {ground:+.1f} m from the points' origin: they seem to be in a frame on the ground. A"
            " network that was trained on a LiDAR's own frame expects the ground about 1.8 m below: add a frame there"
            " to `transforms`, and name it as `into` under `points`"
        )
    apart = {
        name: max(
            abs(camera.timestamp_us - frame.timestamp_us) / 1000
            for frame in frames
            for camera in frame.cameras
            if camera.channel == name
        )
        for name in dict.fromkeys(camera.channel for frame in frames for camera in frame.cameras)
    }
    return DataCheck(
        path=root,
        scenes=tuple(dict.fromkeys(frame.scene for frame in frames)),
        frames=len(frames),
        labelled=sum(frame.labels_path is not None for frame in frames),
        frames_read=len(clouds),
        points_median=int(np.median([len(cloud) for cloud in clouds])),
        seen_share={channel: float(np.mean(shares)) for channel, shares in seen.items()},
        unseen_share=float(np.mean(unseen)),
        apart_ms=apart,
        farthest_m=float(reach.max()),
        reach_m=float(np.quantile(reach, 0.99)),
        ground_m=ground,
        beyond_default_share=beyond,
        grid=str(grid),
        page=page,
        warnings=tuple(dict.fromkeys(warnings)),
        problems=tuple(dict.fromkeys(problems)),
    )


def _overlay(
    image: NDArray[np.uint8], xyz: NDArray[np.float32], camera: Camera, occlusion: Occlusion
) -> NDArray[np.uint8]:
    projection = project(xyz, camera)
    inside = projection.inside
    visible = unoccluded(projection, camera, occlusion)[inside]
    return depth_overlay(image, projection.uv[inside], projection.depth[inside], visible)


def _missing(frames: Sequence[Frame]) -> list[str]:
    """Files that are named and not there."""
    named = [(f, p) for f in frames for p in (f.points_path, f.labels_path, *(c.image_path for c in f.cameras)) if p]
    lacking = [(frame, path) for frame, path in named if not Path(path).is_file()]
    blind = [frame.token for frame in frames if not frame.cameras]
    found = (
        [f"{counted(len(lacking), 'file')} missing, the first is {lacking[0][1]} ({lacking[0][0].token})"]
        if lacking
        else []
    )
    return found + ([f"{counted(len(blind), 'frame')} without any image, the first is {blind[0]}"] if blind else [])


def _resolution(camera: Camera) -> str:
    """What to multiply the intrinsics by, if the image is of another size than they are for."""
    try:
        with Image.open(camera.image_path) as image:
            across, down = image.width / camera.width, image.height / camera.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    if (across, down) == (1, 1):
        return ""
    if abs(across / down - 1) < 0.02:
        return (
            f". The intrinsics are of another resolution: write width {image.width} and height {image.height}, and"
            f" multiply fx and cx by {across:.6g}, fy and cy by {down:.6g}"
        )
    return ". The image was cropped or turned: its shape is another than that of the calibration"


def _of_points(frame: Frame, xyz: NDArray[np.float32], intensity: NDArray[np.float32]) -> list[str]:
    calibration = load_calibration(Path(getattr(frame, "calibration_path", "")))
    origin = calibration.between(calibration.points.frame, calibration.lidar)[:3, 3]
    zeros = float((np.abs(xyz - origin) < 1e-6).all(axis=1).mean())
    found = []
    if len(xyz) < _FEW:
        found.append(f"sweep {frame.token} has {counted(len(xyz), 'point')}: is its file cut off?")
    if zeros > _ZEROS:
        found.append(
            f"{zeros:.0%} of the points of a sweep lie at (0, 0, 0), pulses without a return: set `invalid: drop` under"
            " `points`"
        )
    if not intensity.any():
        found.append("no point has an intensity: a network that was trained with intensities misses them")
    elif intensity.max() < 0.02:
        found.append(f"no intensity is above {intensity.max():.3g}: is `intensity_max` too large?")
    if float(np.quantile(np.linalg.norm(xyz - origin, axis=1), 0.95)) < 1.5:
        found.append("nearly all points lie within 1.5 m: are they in another unit than metres?")
    return found


def _clocks(frames: Sequence[Frame]) -> list[str]:
    """Time stamps and poses that cannot be those of a drive."""
    found = []
    pairs = [(a, b) for a, b in pairwise(frames) if a.scene == b.scene]
    steps = np.array([b.timestamp_us - a.timestamp_us for a, b in pairs])
    if len(steps) and not _STEPS_US[0] <= float(np.median(steps)) <= _STEPS_US[1]:
        small = float(np.median(steps)) < _STEPS_US[0]
        likely = "seconds or milliseconds" if small else "nanoseconds"
        found.append(
            f"sweeps are {np.median(steps):g} microseconds apart: `time_us` seems to hold {likely} instead of"
            " microseconds"
        )
    apart = [(abs(c.timestamp_us - f.timestamp_us), c.channel, f.token) for f in frames for c in f.cameras]
    most = max(apart, default=(0, "", ""))
    if most[0] > _APART_US:
        found.append(
            f"the image of {most[1]} and its sweep {most[2]} are {most[0] / 1e6:.3g} s apart: is it of another sweep,"
            " or its time in another unit?"
        )
    moved = [
        float(np.linalg.norm(b.global_from_lidar[:3, 3] - a.global_from_lidar[:3, 3])) / (step / 1e6)
        for (a, b), step in zip(pairs, steps, strict=True)
        if step > 0
    ]
    if moved and max(moved) > _FAST_M_S:
        found.append(f"the vehicle would drive at {max(moved):,.0f} m/s: poses are in metres, times in microseconds")
    return found


def _page(result: DataCheck, shown: list[ShownFrame]) -> CheckPage:
    cameras = {name: f"{share:.1%} of the points" for name, share in result.seen_share.items()}
    return CheckPage(
        title=result.path.name,
        lead=f"{counted(result.frames, 'frame')} of {counted(len(result.scenes), 'scene')},"
        f" {result.frames_read} of them read; {result.unseen_share:.0%} of the points are seen by no camera",
        frames=shown,
        warnings=result.warnings,
        problems=result.problems,
        facts={
            "Cameras see": cameras,
            "Image and sweep apart, at most": {name: f"{ms:.0f} ms" for name, ms in result.apart_ms.items()},
            "Points": {
                "a frame": f"{result.points_median:,}",
                "99 % within": f"{result.reach_m:.0f} m",
                "farthest": f"{result.farthest_m:.0f} m",
                "ground near by": f"{result.ground_m:+.1f} m",
                "beyond the default grid": f"{result.beyond_default_share:.1%}",
                "grid that fits": result.grid,
            },
        },
    )
