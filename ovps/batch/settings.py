"""Settings of the frames that are trained on, and of what may be done to their points."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, PositiveInt


class _Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()):
    """Settings: nobody changes them, and none is unknown."""


class AugmentationConfig(_Settings):
    """Settings of augmentation, of points. With everything off a frame is exactly as it was.

    Attributes:
        rotate: about z, by an angle uniform over the circle.
        flip_x, flip_y: mirror with probability one half.
        scale: largest relative change of size, uniform around 1; 0 is off.
        translate: standard deviation of a shift of the whole frame, metres; 0 is off. More than a few metres would move
            it out of the grid.
    """

    rotate: bool = True
    flip_x: bool = True
    flip_y: bool = True
    scale: float = Field(default=0.05, ge=0, lt=1)
    translate: float = Field(default=0.1, ge=0, le=5)


UnlabelledFrames = Literal["error", "skip"]


class DataConfig(_Settings):
    """Settings of which frames are trained on, and how they reach the network.

    Attributes:
        subsets: the data set's own splits to train on.
        unlabelled_frames: of a system that learns from labels: `error` refuses subsets that have some, `skip` leaves
            them out.
        grid: voxel grid of training (`ovps.geometry.grid`); None: the cache's.
        batch_size: frames per forward pass, of each training process.
        workers: loader processes of each training process; 0 loads in the training process.
        keep_mb: cached frames kept in memory, by each loading process, up to this many MB.
    """

    subsets: tuple[str, ...] = Field(default=("train",), min_length=1)
    unlabelled_frames: UnlabelledFrames = "error"
    grid: str | None = None
    batch_size: PositiveInt = 2
    workers: int = Field(default=0, ge=0)
    keep_mb: int = Field(default=0, ge=0)
