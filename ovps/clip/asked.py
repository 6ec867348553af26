"""Questions to an encoder, with a look at what it gives: another package may bring it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovps.clip.protocol import Encoder, Reading
from ovps.errors import SetupError
from ovps.frame import Camera
from ovps.geometry.cells import CellGrid
from ovps.plugins import misgiven
from ovps.protocols import described

UNIT = 1e-3  # by which the length of a unit vector may be off
ALIKE = 1e-4  # nearer than that unit vectors say the same


def embedded(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """One unit vector for each text, (T, C) float32.

    Raises:
        SetupError: the encoder gives something else than it says.
    """
    return _vectors(encoder, "embed", encoder.embed(texts), len(texts))


def embedded_images(encoder: Encoder, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """One unit vector for each whole image (H, W, 3) uint8, (B, C) float32.

    Raises:
        SetupError: the encoder gives something else than it says.
    """
    return _vectors(encoder, "embed_images", encoder.embed_images(images), len(images))


def readings(encoder: Encoder, texts: Sequence[str]) -> list[Reading]:
    """The texts as the encoder looks at them.

    Raises:
        SetupError: the encoder gives something else than it says.
    """
    found: Any = encoder.read(texts)
    if isinstance(found, (list, tuple)) and len(found) == len(texts) and all(isinstance(r, Reading) for r in found):
        return list(found)
    of = f" of {len(found)}" if isinstance(found, (list, tuple)) else ""
    raise misgiven("encoder", encoder, "read", f"{described(found)}{of}, expected {len(texts)} of Reading", SetupError)


def cells_of(encoder: Encoder, camera: Camera) -> CellGrid:
    """The grid of the cells of a camera's images. It covers them, but for less than a cell at each border.

    Raises:
        ConfigError: the images are smaller than a cell.
        SetupError: the encoder gives something else than a grid, or one that does not fit the image.
    """
    grid: Any = encoder.cells((camera.width, camera.height))
    if not isinstance(grid, CellGrid):
        raise misgiven("encoder", encoder, "cells", f"{described(grid)}, expected a CellGrid", SetupError)
    sides = ((grid.cols, camera.width), (grid.rows, camera.height))
    if not (grid.stride > 0 and all(n > 0 and abs(n * grid.stride - side) <= grid.stride for n, side in sides)):
        raise misgiven(
            "encoder",
            encoder,
            "cells",
            f"{grid.rows} x {grid.cols} cells of {grid.stride:g} pixels for images of {camera.width}x{camera.height}"
            f" pixels: they cover {grid.cols * grid.stride:g}x{grid.rows * grid.stride:g}",
            SetupError,
        )
    return grid


def alike(vectors: NDArray[np.float32]) -> bool:
    """Tell whether several vectors (N, C) are one and the same, up to rounding."""
    return len(vectors) > 1 and bool((np.linalg.norm(vectors - vectors[0], axis=1) < ALIKE).all())


def temperature_warnings(encoder: Encoder) -> list[str]:
    """Warn of a temperature that makes nothing of the cosines, which are 1 at most."""
    if encoder.temperature <= 1:
        return []
    return [
        f"encoder {encoder.name} has the temperature {encoder.temperature:g}: cosines of at most 1 are divided by it,"
        " and all words come out alike. Is it the logit scale, whose inverse is meant (CLIP: 0.01)?"
    ]


def _vectors(encoder: Encoder, method: str, given: Any, count: int) -> NDArray[np.float32]:
    wanted = f"({count}, {encoder.dim}) float32 of unit vectors"
    if not isinstance(given, np.ndarray):
        raise misgiven("encoder", encoder, method, f"{_kind(given)}, expected an array {wanted}", SetupError)
    if given.shape != (count, encoder.dim) or given.dtype != np.float32:
        raise misgiven("encoder", encoder, method, f"{described(given)}, expected {wanted}", SetupError)
    bad = ~(np.abs(np.linalg.norm(given, axis=1) - 1) < UNIT)  # NaN is not near anything
    if bad.any():
        fault = f"{bad.sum()} of {count} rows that are no unit vectors: NaN, infinity or of another length"
        raise misgiven("encoder", encoder, method, fault, SetupError)
    return given


def _kind(given: Any) -> str:
    return f"a {type(given).__module__.partition('.')[0]} {type(given).__name__}"
