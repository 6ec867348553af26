"""Layouts in which predictions are handed in, by the name that a taxonomy gives (`Taxonomy.submission`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovps.errors import ConfigError
from ovps.inference.kitti_submission import FORMAT as SEMANTICKITTI
from ovps.inference.submission import FORMAT as NUSCENES
from ovps.taxonomy import Taxonomy


class SubmissionFormat(Protocol):
    """A layout of files, one for each frame."""

    @property
    def instances(self) -> int:
        """Instances that the format holds of a class in a frame."""
        ...

    def write(
        self,
        folder: Path,
        subset: str,
        token: str,
        semantic: NDArray[np.integer],
        instance: NDArray[np.integer],
        taxonomy: Taxonomy,
    ) -> int:
        """Write the labels of one frame; the file appears whole or not at all.

        Args:
            semantic, instance: (N,) class ids and instances of points, at most `instances` a class.

        Returns:
            Points without a label.

        Raises:
            StorageError: the disk refuses.
        """
        ...

    def finish(self, folder: Path, subset: str, *, use_camera: bool, use_external: bool) -> None:
        """Write what a submission holds besides its frames.

        Args:
            use_camera: the predictions depend on images of the frames they are of.
            use_external: on data beyond the data set: whatever learned from CLIP, or is named by it, does.
        """
        ...

    def check(self, folder: Path, subset: str, points: Mapping[str, int], taxonomy: Taxonomy) -> list[str]:
        """Read every file back and list the faults; an empty list means that the submission is valid.

        Args:
            points: number of points by frame token; exactly these frames must be there.
        """
        ...


FORMATS: dict[str, SubmissionFormat] = {"nuscenes": NUSCENES, "semantickitti": SEMANTICKITTI}


def format_of(taxonomy: Taxonomy) -> SubmissionFormat:
    """Find the format in which the classes of a taxonomy are handed in.

    Raises:
        ConfigError: it names none.
    """
    if taxonomy.submission is None:
        raise ConfigError(
            f"taxonomy {taxonomy.name} names no format for submissions",
            remedy=f"Its predictions are plain arrays; `submission:` in the taxonomy is one of {', '.join(FORMATS)}",
        )
    return FORMATS[taxonomy.submission]
