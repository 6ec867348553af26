"""Positions of the cells of a dense feature map in the image it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CellGrid:
    """A feature map laid over an image.

    Cell (i, j) is centred at pixel (u, v) = (stride * (j + 0.5) - 0.5, stride * (i + 0.5) - 0.5), where pixel (u, v)
    is the centre of column u, row v. Rows and columns that do not fill a whole cell have none of their own:
    900 rows at stride 32 make 28 cells.

    Attributes:
        rows, cols: of the map.
        stride: pixels of the original image per cell; a fraction where the image was enlarged before encoding.
    """

    rows: int
    cols: int
    stride: float

    def __len__(self) -> int:
        return self.rows * self.cols

    def centres(self) -> NDArray[np.float64]:
        """Centres (rows, cols, 2) float64 as pixels (u, v)."""
        u = self.stride * (np.arange(self.cols) + 0.5) - 0.5
        v = self.stride * (np.arange(self.rows) + 0.5) - 0.5
        return np.stack(np.meshgrid(u, v), axis=-1)
