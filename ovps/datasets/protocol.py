"""The contract of a data set: where its frames and files are, which classes it has, how its LiDAR sees.

nuScenes, SemanticKITTI and recordings in a folder are built in; another package adds one by an entry point in the group
`ovps.datasets` that leads to an object like them. See docs/add_a_data_set.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovps.frame import Camera, Frame, PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.taxonomy import Taxonomy


class Dataset(Protocol):
    """A source of frames with cameras.

    Only `frames` may read tables. The readers need nothing but the record it made, so that workers, which get frames
    one by one, do without the tables; heavy imports belong into `frames` too.

    One whose classes or beams differ from folder to folder also has a method `at(root)`, which gives the data set of
    that folder.

    Attributes:
        name: of the entry point; stores name the data set by it.
        taxonomy: its classes, how raw labels encode them, and the format in which predictions are submitted.
        occlusion: when a point counts as hidden from a camera, as suits its LiDAR.
        default_version: for those who name none.
        default_cameras: may be missing; names of the cameras that are used where nobody names any (`--cameras`).
            Without it that is all that a frame has.
        usual_subsets: may be missing; the splits that are meant where nobody names any, by version. Without it, or for
            another version: train and val.
        has_earlier_sweeps: may be missing; True says that `frames` takes `sweeps=N`, for frames with `earlier` sweeps,
            and that there is `earlier_points(frame)`, a PointCloud of all their points in the LiDAR frame of the
            frame's own sweep.
        warnings: may be missing; `warnings(root, frames)` gives a list of sentences, one for each kind, on what is odd
            in the folder that these frames were found in and may be meant, such as files that are not read.
    """

    @property
    def name(self) -> str: ...

    @property
    def taxonomy(self) -> Taxonomy: ...

    @property
    def occlusion(self) -> Occlusion: ...

    @property
    def default_version(self) -> str: ...

    def frames(self, root: Path, version: str, subsets: Sequence[str]) -> list[Frame]:
        """The frames of some of its splits, scene after scene, each in order of time.

        Tokens are unique, and names of files (`ovps.file_names`); so are the names of scenes. A frame that has labels
        says so by its `labels_path`.

        Raises:
            DatasetError: no such folder, version or split, or tables that cannot be used.
        """
        ...

    def points(self, frame: Frame) -> PointCloud:
        """The sweep of a frame.

        Raises:
            FrameError: a file that is missing or senseless.
        """
        ...

    def labels(self, frame: Frame) -> NDArray[np.uint32] | None:
        """Raw panoptic labels (N,) uint32, one per point, as `taxonomy` decodes them; None without `labels_path`.

        Raises:
            FrameError: a file that is missing or senseless.
        """
        ...

    def image(self, camera: Camera) -> NDArray[np.uint8]:
        """The image as RGB (height, width, 3) uint8, of the size that the camera says.

        Args:
            camera: of one of the frames, or as a store keeps it: of nothing else than `Camera` itself.

        Raises:
            FrameError: a file that is missing or senseless, or of another size.
        """
        ...
