"""Contract of an encoder: an image tower and a text tower whose vectors can be compared. All that is known of a CLIP.

open_clip's models are built in; another package adds an encoder, which need be no open_clip model, by an entry point in
the group `ovps.encoders` that leads to an `EncoderLoader`. See docs/add_an_encoder.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovps.geometry.cells import CellGrid

AT_ONCE = 6  # images that go through an encoder on an accelerator together: those of a frame of nuScenes
RANDOM = "random"  # weights of which nothing was learned, for trying things out and for timing


@dataclass(frozen=True)
class WeightsId:
    """Identity of an encoder's weights.

    Attributes:
        sha256: of all that decides its features; whoever reads a store compares it.
        random: nothing was learned: results mean chance.
    """

    sha256: str
    random: bool


@dataclass(frozen=True)
class Reading:
    """A text as the text tower gets to see it.

    Attributes:
        seen: the same for two texts that it cannot tell apart, and that of "" for a text with nothing to read in it.
        cut: the text is too long for it.
    """

    seen: bytes
    cut: bool


class Encoder(Protocol):
    """A frozen pair of towers.

    Attributes:
        name: of the entry point; stores and vocabularies name the encoder by it.
        dim: C, of all its vectors.
        weights: which ones it has.
        temperature: what it divides cosines by before a softmax over texts (CLIP: 1 / logit scale).
        precision: may be missing; of the arithmetic of `encode`, where it is another than float32. Stands in the
            provenance of a store.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def weights(self) -> WeightsId: ...

    @property
    def temperature(self) -> float: ...

    def cells(self, size: tuple[int, int]) -> CellGrid:
        """Grid of the cells of an image of this size (width, height), in its own pixels.

        Raises:
            ConfigError: an image smaller than one cell, or an encoder without dense features.
        """
        ...

    def encode(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """Dense features: images (B, H, W, 3) uint8 RGB to (B, rows, cols, C) float32, unit vectors, on its device.

        An image gives the same cells whatever else is in the batch, up to rounding.

        Raises:
            FrameError: images of another shape or type.
        """
        ...

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One vector for each whole image (H, W, 3) uint8 RGB, of any size: (B, C) float32, unit rows."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector for each text: (T, C) float32, unit rows."""
        ...

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The texts as `embed` looks at them; `Reading(text.encode(), False)` where it looks at all of it."""
        ...


class EncoderLoader(Protocol):
    """Maker of an encoder, found by the encoder's name.

    Attributes:
        worker_bytes: memory that a process with this encoder takes while it computes frames.
    """

    @property
    def worker_bytes(self) -> int: ...

    def load(self, weights: str | None, *, device: str = "cpu", upscale: float = 1.0) -> Encoder:
        """Load it.

        Args:
            weights: a file, whatever other names it knows, `random`, or None for those it usually has.
            device: `cpu` or a GPU.
            upscale: enlarge images by this factor before `encode`; the stride of `cells` shrinks by it.

        Raises:
            WeightsError: weights not named, not found, damaged, or of something else.
        """
        ...
