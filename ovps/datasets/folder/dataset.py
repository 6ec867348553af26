"""A recording of one's own as `ovps.datasets.protocol.Dataset`. docs/own_recording.md says how it is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.clocks import odd_unit, standing_clocks
from ovps.datasets.folder.calibration import PointFiles, load_calibration
from ovps.datasets.folder.frames import FOLDER, VERSION, check_images, check_scene, frame_of, token_of
from ovps.datasets.folder.labels import WHOLE_NUMBERS, own_taxonomy, read_labels
from ovps.datasets.folder.layout import calibration_above, find_scenes
from ovps.datasets.folder.missing_images import missing_images
from ovps.datasets.folder.oddities import odd_lenses, odd_point_files, other_occlusion, unasked
from ovps.datasets.folder.point_files import AGAIN, read_points
from ovps.datasets.folder.reused import reused
from ovps.datasets.folder.splits import SUBSET, split_names, split_of_scenes
from ovps.datasets.folder.undistort import undistort
from ovps.datasets.folder.unread import unread
from ovps.datasets.reading import read_rgb
from ovps.errors import DatasetError, FrameError
from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy, load_taxonomy

STREET = "street"  # the words for a recording without a taxonomy


class Folder:
    """Recordings in one folder; `at` gives that of a certain folder, whose classes are its own."""

    name = FOLDER
    default_version = VERSION

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def at(self, root: Path) -> Folder:
        """Give the data set of a folder, with the taxonomy and the beams that its files name."""
        return Folder(root)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The recording's own classes (`taxonomy.yaml`), else the words of a street, which no label is of.

        Raises:
            DatasetError: not a taxonomy.
        """
        own = own_taxonomy(self._root) if self._root else None
        return own or load_taxonomy(STREET)

    @cached_property
    def occlusion(self) -> Occlusion:
        """Rules by which a point counts as hidden, by the calibration of the recording, or of its first scene.

        Raises:
            DatasetError: no such file, or not a calibration.
        """
        if self._root is None:
            return Occlusion()
        first = find_scenes(self._root)[0]
        return load_calibration(first.calibration).occlusion

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        """List the frames of some splits, scene after scene; scenes that no split names are in `val`.

        A sweep without any image is left out: CLIP sees nothing of it.

        Raises:
            DatasetError: files that are missing or do not go together; the message names the first.
        """
        if version != VERSION:
            raise DatasetError(
                f"no version {version!r} of the layout", path=root, remedy=f"There is but version {VERSION}"
            )
        root = Path(root).absolute()
        frames: list[Frame] = []
        scenes = find_scenes(root)
        split_of = split_of_scenes(root, scenes)
        asked = [scene for scene in scenes if split_of.get(scene.name, SUBSET) in subsets]
        check_images(asked)
        for scene in asked:
            calibration = load_calibration(scene.calibration)
            check_scene(root, scene, calibration)
            frames += [
                frame_of(scene, sweep, calibration, split_of.get(scene.name, SUBSET), index)
                for index, sweep in enumerate(scene.sweeps)
                if sweep.images
            ]
        return frames

    def unseen(self, root: Path) -> dict[str, Path]:
        """Find the sweeps that no camera has an image of, and that are no frames: point files by their token.

        Raises:
            DatasetError: as `frames`.
        """
        scenes = find_scenes(Path(root).absolute())
        return {
            token_of(scene, sweep): sweep.points.file for scene in scenes for sweep in scene.sweeps if not sweep.images
        }

    def warnings(self, root: Path, frames: Sequence[Frame]) -> list[str]:
        """Say what is odd in a recording and may be meant: files, columns, lenses, other `occlusion`, times.

        Raises:
            DatasetError: as `frames`.
        """
        root, named = Path(root).absolute(), {frame.scene for frame in frames}
        scenes = find_scenes(root)
        asked = [scene for scene in scenes if scene.name in named]
        bare = [scene for scene in scenes if not any(sweep.images for sweep in scene.sweeps)]
        return [
            *unasked(split_of_scenes(root, scenes), named | {scene.name for scene in bare}),
            *unread(root, asked),
            *missing_images([*asked, *bare]),
            *odd_lenses(asked),
            *other_occlusion(scenes[0], asked),
            *reused(asked),
            *odd_point_files(frames),
            *standing_clocks(frames),
            *odd_unit(frames),
        ]

    def subsets(self, root: Path) -> tuple[str, ...]:
        """List the splits that its scenes are in, in order.

        Raises:
            DatasetError: as `frames`.
        """
        return split_names(root, find_scenes(root))

    def points(self, frame: Frame) -> PointCloud:
        """Read a sweep, in metres, in the frame that the calibration file names.

        Raises:
            FrameError: as `ovps.datasets.folder.point_files.read_points`.
        """
        return self._read_points(frame)[0]

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """Read the labels (N,) uint32 of the points that are kept; None where the recording has none.

        Raises:
            FrameError: missing, damaged, no whole numbers, or another number than the point file has points.
        """
        if frame.labels_path is None:
            return None
        labels = read_labels(frame.labels_path, frame.token)
        kept = self._read_points(frame)[1]
        if len(labels) != len(kept):
            raise FrameError(
                f"{len(labels)} labels for {len(kept)} points of {frame.points_path}",
                path=frame.labels_path,
                frame=frame.token,
                remedy=WHOLE_NUMBERS,
            )
        return labels[kept]

    def image(self, camera: Camera) -> NDArray[np.uint8]:
        """Read an image as RGB (height, width, 3) uint8, without the distortion of its lens.

        Raises:
            FrameError: missing or damaged, of another size than its calibration, or with pixels that have no one
                reading as 8-bit RGB; or its calibration file does not name the camera.
            DatasetError: no calibration file, or a wrong one.
        """
        path = calibration_above(Path(camera.image_path))
        model = load_calibration(path).cameras.get(camera.channel)
        if model is None:
            raise FrameError(f"no camera {camera.channel}", path=path, remedy="Precompute again: the file has changed")
        return undistort(read_rgb(camera, AGAIN), model)

    @staticmethod
    def _read_points(frame: Frame) -> tuple[PointCloud, NDArray[np.bool_]]:
        calibration = load_calibration(calibration_above(Path(frame.points_path)))
        how: PointFiles = calibration.points
        return read_points(frame.points_path, frame.token, how, calibration.between(how.frame, calibration.lidar))


DATASET = Folder()
