"""Camera images beside what is shown of a frame: as far as they can be read, for no page needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ovps.cache.frame_data import FrameRef
from ovps.cache.reader import Store
from ovps.errors import DatasetError
from ovps.frame import Camera
from ovps.progress import say

ReadImage = Callable[[Camera], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a data set that can be read; in place of others the store's thumbnails, where it has some.

    Of each camera the first image that cannot be read is told of on stderr.

    Attributes:
        read: the image of a camera, RGB (H, W, 3) uint8; a DatasetError says that it cannot be read.
    """

    store: Store
    read: ReadImage
    _told: set[str] = field(default_factory=set)

    def of(self, ref: FrameRef, cameras: Iterable[Camera]) -> list[tuple[Camera, NDArray[np.uint8]]]:
        """Read the images of a frame, each with its camera.

        Args:
            ref: of the frame in the store.
            cameras: of the frame, as the data set has them.
        """
        found = []
        for camera in cameras:
            try:
                found.append((camera, self.read(camera)))
            except DatasetError as error:
                instead = [pair for pair in self.store.pictures(ref) if pair[0].channel == camera.channel]
                self._tell(camera.channel, error, "the store's thumbnail is shown" if instead else "it is left out")
                found += instead
        return found

    def _tell(self, channel: str, error: DatasetError, instead: str) -> None:
        if channel not in self._told:
            self._told.add(channel)
            say(f"{channel}: {instead}, as of others that cannot be read: {error}")
