"""A recording looked at before anything is computed: does it hold together, and do its points fit its images?

ovps data check data/recording
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from ovps import datasets
from ovps.datasets.folder import Folder
from ovps.datasets.folder.layout import find_scenes
from ovps.datasets.folder.oddities import odd_point_files
from ovps.datasets.folder.undistort import pinhole, undistort
from ovps.errors import DatasetError, FrameError, counted
from ovps.files import check_writable
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.alignment import Alignment
from ovps.geometry.calibration import check_calibration
from ovps.geometry.grid import Grid, fitting_grid
from ovps.geometry.ground import axes_mistake
from ovps.geometry.mistakes import lies_elsewhere, likely_mistake, likely_unit
from ovps.geometry.projection import project
from ovps.geometry.sweep_fault import sweep_fault
from ovps.geometry.visibility import Occlusion, unoccluded
from ovps.places import check_free, check_no_url, named
from ovps.report.linked import ShownFrame, write_picture
from ovps.report.overlay import depth_overlay
from ovps.report.page import render, write_page
from ovps.shortage import faults
from pipelines.precompute.compute_frame import blank_of
from pipelines.precompute.plan import check_unique
from pipelines.recording_findings import (
    Findings,
    LabelCounts,
    empty,
    few_points,
    missing,
    mount_of,
    odd_clocks,
    odd_headers,
    odd_points,
    resized,
    unknown_motion,
    wrong_poses,
)

PAGE = "check.html"
_FAR = 0.02  # of the points beyond the default grid: worth a word
_GROUND_M = -0.7  # a LiDAR on a vehicle stands higher over the ground


class DataCheck(BaseModel, frozen=True):
    """Findings on a recording.

    Attributes:
        frames, labelled: of the whole recording.
        frames_read: of them, points and images, evenly spaced.
        points_median: a frame.
        seen_share: of the points of the frames that it has images of, that each camera sees, hidden ones left out.
        unseen_share: of the points, that no camera sees: CLIP says nothing of these.
        labelled_share: of the points of the frames with labels among these, that have a class; None: there are none.
        apart_ms: between an image and its sweep, the most, by camera; none where nobody says when they were taken.
        farthest_m, reach_m: distance of the farthest point, and of 99 % of them.
        ground_m: height of the ground near the vehicle, in the frame of the points; None where none lies near.
        beyond_default_share: of the points, beyond the range of the default grid.
        grid: with which nearly all points lie inside: `ovps precompute --grid`.
        page: with a picture of every camera of every frame that was read.
        warnings: what is odd, and may be right.
        problems: what keeps frames from being used, and likely mistakes of the calibration, of clocks, poses or the
            taxonomy.
    """

    path: Path
    scenes: tuple[str, ...]
    frames: int
    labelled: int
    frames_read: int
    points_median: int
    seen_share: dict[str, float]
    unseen_share: float
    labelled_share: float | None
    apart_ms: dict[str, float]
    farthest_m: float
    reach_m: float
    ground_m: float | None
    beyond_default_share: float
    grid: str
    page: Path
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    def in_words(self) -> dict[str, object]:
        """The same for people, without the warnings."""
        return {
            "recording": f"{self.path}, {counted(self.frames, 'frame')} of {counted(len(self.scenes), 'scene')},"
            f" {self.labelled or 'none'} with labels",
            "looked at": f"{counted(self.frames_read, 'frame')}, {self.points_median:,} points each (median)",
            "seen by the cameras": [f"{name} {share:.1%} of the points" for name, share in self.seen_share.items()],
            "seen by no camera": f"{self.unseen_share:.1%} of the points",
            "labelled": _labelled(self.labelled_share),
            "image and sweep apart, at most": [f"{name} {ms:.0f} ms" for name, ms in self.apart_ms.items()]
            or "unknown",
            "distances": f"99 % of the points within {self.reach_m:.0f} m, the farthest at {self.farthest_m:.0f} m",
            "ground near by": _height(self.ground_m),
            "beyond the default grid": f"{self.beyond_default_share:.1%} of the points; {self.grid} fits",
            "page": self.page,
            "warnings": len(self.warnings) or "none",
            "problems": list(self.problems),
        }


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
        ConfigError: the path is a URL.
        DatasetError: no recording, files that do not go together, or none of the frames can be used; of these the page
            is written all the same.
        StorageError: the disk refuses.
    """
    check_no_url(path)
    root = named(path)
    folder = root.with_name(f"{root.name}-check") if out is None else out
    data = datasets.at("folder", root)
    assert isinstance(data, Folder)
    frames = datasets.frames_of(data, root, data.default_version, data.subsets(root))
    check_free(folder)
    check_writable(folder)
    check_unique(frames)
    spread = sorted({round(place) for place in np.linspace(0, len(frames) - 1, min(count, len(frames)))})
    looked = _Look(data, folder, wrong_poses(frames))
    wrong = [*missing(frames), *odd_clocks(frames)]
    for text in wrong:
        looked.problems.add(text, text)
    for place in spread:
        looked.at(frames[place])
    others = [frame for place, frame in enumerate(frames) if place not in spread]
    for text in empty(others):
        looked.problems.add(text, text)
    for channel, text in odd_headers(others):
        if f"image {channel}" not in looked.problems:
            looked.problems.add(text, text)
    looked.warnings.add("motion", unknown_motion(frames))
    for text in odd_point_files(frames):
        looked.problems.add_once(text)
        wrong.append(text)
    for text in datasets.warnings_of(data, root, frames):
        if text not in wrong:
            looked.warnings.add(text, text)
    for text in few_points(frames, looked.points_read):
        looked.warnings.add(text, text)
    looked.judge()
    if not looked.clouds:
        said = looked.problems.said()
        page = CheckPage(root.name, f"none of {counted(len(spread), 'frame')} can be used", looked.shown, (), said, {})
        write_page(folder / PAGE, render("check_page.html", page))
        raise DatasetError(
            f"none of {counted(len(spread), 'frame')} that were tried can be used, see {folder / PAGE}. The first:"
            f" {looked.problems.first()}{looked.likely()}",
            path=root,
        )
    result = _result(root, frames, looked, folder / PAGE)
    write_page(folder / PAGE, render("check_page.html", _page(result, looked.shown)))
    return result


class _Look:
    """What was seen in the frames that were read, and the pictures of them."""

    def __init__(self, data: Folder, folder: Path, wrong_poses: str | None) -> None:
        self.data, self.folder = data, folder
        self.problems, self.warnings = Findings(), Findings()
        self.problems.add("poses", wrong_poses)
        self.poses_fit = wrong_poses is None
        self.mistakes: dict[str, str] = {}  # by camera; "points": of these
        self.clouds: list[NDArray[np.float32]] = []
        self.points_read: dict[str, int] = {}  # by frame, of these
        self.seen: dict[str, list[NDArray[np.bool_]]] = {}  # by camera: of the points of each frame that it has
        self.unseen: list[NDArray[np.bool_]] = []
        self.shown: list[ShownFrame] = []
        self.alignment = Alignment()
        self.labels = LabelCounts(data.taxonomy)

    def at(self, frame: Frame) -> None:
        """Read and draw a frame, whatever part of it can be."""
        cloud = self._read(frame)
        usable = cloud is not None and self._fits(frame, cloud)
        any_camera = np.zeros(0 if cloud is None else len(cloud), bool)
        pictures = []
        for camera in frame.cameras:
            image, shown, note = self._image(camera)
            dead = image is not None and shown is camera and bool(blank_of([image]))
            if dead:
                text = f"{camera.image_path} is of one colour and shows nothing: {camera.channel} sees no point there"
                self.warnings.add(f"blank {camera.channel}", text)
            visible = None
            if cloud is not None and np.isfinite(camera.camera_from_lidar).all():
                self._suspect(cloud.xyz, camera)
                visible = unoccluded(project(cloud.xyz, camera), camera, self.data.occlusion)
                visible &= not dead
                any_camera |= visible
                note = note or f": sees {visible.mean():.1%} of the points"
                if usable:
                    self.seen.setdefault(camera.channel, []).append(visible)
            if image is None:
                continue
            if cloud is not None and visible is not None and shown is not None:
                if usable and self.poses_fit:
                    self.alignment.add(cloud.xyz, shown, image)
                image = _overlay(image, cloud.xyz, shown, self.data.occlusion)
            pictures.append(
                write_picture(self.folder, f"{frame.token}-{camera.channel}", image, f"{camera.channel}{note}")
            )
        self.shown.append(ShownFrame(frame.token, pictures))
        if not usable:
            return
        assert cloud is not None
        for kind, text in odd_points(frame, cloud.xyz, cloud.intensity).items():
            self.warnings.add(kind, text)
        self.clouds.append(cloud.xyz)
        self.points_read[frame.token] = len(cloud)
        self.unseen.append(~any_camera)
        if frame.cameras and not any_camera.any():
            none = f"{frame.token}: none of {counted(len(frame.cameras), 'camera')} sees a point of it"
            self.problems.add(none, none)

    def judge(self) -> None:
        """Add what all frames together say of the labels and the axes, and the mistakes of single cameras."""
        self.problems.add("labels", self.labels.mistake())
        self.warnings.add("labels", self.labels.odd())
        self.warnings.add("labels of some", self.labels.of_some())
        self.warnings.add("labels of things", self.labels.without_numbers())
        axes = axes_mistake(np.concatenate(self.clouds)) if self.clouds else None
        self.problems.add("axes", axes)
        for name, text in self.mistakes.items():
            self.problems.add(f"mistake {name}", text)
        if not axes and not self.mistakes:
            for text in self.alignment.mistakes():
                self.problems.add(text, text)

    def likely(self) -> str:
        """The mistakes that may be why frames cannot be used, as more sentences."""
        return "".join(f". {text}" for text in self.mistakes.values())

    def _read(self, frame: Frame) -> PointCloud | None:
        try:
            return self.data.points(frame)
        except FrameError as error:
            self.problems.add_error("points", error)
            return None

    def _fits(self, frame: Frame, cloud: PointCloud) -> bool:
        """Tell whether nothing is wrong with what was read that keeps it from being used."""
        fault, elsewhere = sweep_fault(cloud.xyz, cloud.intensity), lies_elsewhere(cloud.xyz)
        mistake = elsewhere or (likely_unit(cloud.xyz) if fault else None)
        if mistake:
            self.mistakes.setdefault("points", mistake)
        if fault:
            remedy = "Points are in metres, in the LiDAR's own frame"
            self.problems.add_error(
                "points", FrameError(fault, path=frame.points_path, frame=frame.token, remedy=remedy)
            )
            return False
        try:
            check_calibration(frame)
            label = self.data.labels(frame)
        except FrameError as error:
            self.problems.add_error("frame", error)
            return False
        if label is not None:
            self.labels.add(frame.token, label)
        return True

    def _suspect(self, xyz: NDArray[np.float32], camera: Camera) -> None:
        if self.poses_fit and camera.channel not in self.mistakes and "points" not in self.mistakes and len(xyz):
            mistake = likely_mistake(xyz, camera, mount_of(camera))
            if mistake:
                self.mistakes[camera.channel] = f"{camera.channel}: {mistake}"

    def _image(self, camera: Camera) -> tuple[NDArray[np.uint8] | None, Camera | None, str]:
        """The image, the camera to draw points with, and a note if these are not as they should be."""
        try:
            return self.data.image(camera), camera, ""
        except FrameError as error:
            advice, model = resized(camera)
            self.problems.add_error(f"image {camera.channel}", error, advice)
        try:
            with Image.open(camera.image_path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except faults(OSError, ValueError, Image.DecompressionBombError):
            return None, None, ""
        if model is None:
            return pixels, None, ": cannot be used"
        fx, fy, cx, cy = pinhole(model)
        scaled = replace(
            camera,
            width=model.width,
            height=model.height,
            intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        )
        return undistort(pixels, model), scaled, ": as it would be with the intrinsics that the problem names"


def _result(
    root: Path,
    frames: Sequence[Frame],
    looked: _Look,
    page: Path,
) -> DataCheck:
    clouds, warnings = looked.clouds, looked.warnings
    points = np.concatenate(clouds)
    reach = np.hypot(points[:, 0], points[:, 1])
    grid, default = fitting_grid(points), Grid.parse("cylinder")
    beyond = float(default.beyond(points).mean())
    near = points[(reach > 3) & (reach < 20), 2]
    ground = float(np.quantile(near, 0.1)) if len(near) else None
    if beyond > _FAR and "points" not in looked.mistakes:
        warnings.add(
            "grid",
            f"{beyond:.0%} of the points lie beyond the default grid ({default}) and would stand in its border cells;"
            f" {grid.beyond(points).mean():.1%} do with `ovps precompute --grid {grid}`."
            " `ovps segment` takes that one by itself; a run that was trained elsewhere keeps its own",
        )
    if ground is not None and ground > _GROUND_M and "axes" not in looked.problems:
        warnings.add(
            "ground",
            f"the ground lies {ground:+.1f} m from the points' origin: they seem to be in a frame on the ground. A"
            " network that was trained on a LiDAR's own frame expects the ground about 1.8 m below: add a frame there"
            " to `transforms`, and name it as `into` under `points`",
        )
    clocked = {scene.name for scene in find_scenes(root) if any(sweep.points.timed for sweep in scene.sweeps)}
    timed = [frame for frame in frames if frame.scene in clocked]
    apart = {
        name: max(
            abs(camera.timestamp_us - frame.timestamp_us) / 1000
            for frame in timed
            for camera in frame.cameras
            if camera.channel == name
        )
        for name in dict.fromkeys(camera.channel for frame in timed for camera in frame.cameras)
    }
    return DataCheck(
        path=root,
        scenes=tuple(dict.fromkeys(frame.scene for frame in frames)),
        frames=len(frames),
        labelled=sum(frame.labels_path is not None for frame in frames),
        frames_read=len(clouds),
        points_median=int(np.median([len(cloud) for cloud in clouds])),
        seen_share={channel: float(np.concatenate(seen).mean()) for channel, seen in looked.seen.items()},
        unseen_share=float(np.concatenate(looked.unseen).mean()),
        labelled_share=looked.labels.share,
        apart_ms=apart,
        farthest_m=float(reach.max()),
        reach_m=float(np.quantile(reach, 0.99)),
        ground_m=ground,
        beyond_default_share=beyond,
        grid=str(grid),
        page=page,
        warnings=warnings.said(),
        problems=looked.problems.said(),
    )


def _overlay(
    image: NDArray[np.uint8], xyz: NDArray[np.float32], camera: Camera, occlusion: Occlusion
) -> NDArray[np.uint8]:
    projection = project(xyz, camera)
    inside = projection.inside
    visible = unoccluded(projection, camera, occlusion)[inside]
    return depth_overlay(image, projection.uv[inside], projection.depth[inside], visible)


def _height(metres: float | None) -> str:
    return "none" if metres is None else f"at {metres:+.1f} m"


def _labelled(share: float | None) -> str:
    return "no labels were read" if share is None else f"{share:.1%} of the points of frames with labels"


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
            "Image and sweep apart, at most": {name: f"{ms:.0f} ms" for name, ms in result.apart_ms.items()}
            or {"": "unknown"},
            "Points": {
                "a frame": f"{result.points_median:,}",
                "99 % within": f"{result.reach_m:.0f} m",
                "farthest": f"{result.farthest_m:.0f} m",
                "ground near by": _height(result.ground_m),
                "beyond the default grid": f"{result.beyond_default_share:.1%}",
                "grid that fits": result.grid,
                "labelled": _labelled(result.labelled_share),
            },
        },
    )
