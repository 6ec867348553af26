"""Dense CLIP features of whole camera images, at the images' own resolution.

Nothing of CLIP's preprocessing is used but its mean and std: its crop and resize would move and lose pixels.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ovps.clip.loading import Clip
from ovps.clip.towers import Tower, tower_of
from ovps.errors import ConfigError, FrameError
from ovps.geometry.cells import CellGrid


@dataclass(frozen=True, eq=False)
class DenseEncoder:
    """A CLIP image tower for images of one size; made by `dense_encoder`.

    Attributes:
        name: of the CLIP model.
        dim: C, channels of a cell.
        cells: where the cells lie, in pixels of the original image.
        image_size: (width, height) that `encode` accepts.
        upscale: the image is enlarged by this factor first.
        batch_size: images that go through the tower at once, always so many: what is missing is black. A GPU chooses
            how it computes by the size of the batch, and an image must give the same bits whatever else is in it.
        bfloat16: the tower computes in bfloat16 where that is good enough (autocast of a GPU), with float32 weights.
    """

    name: str
    dim: int
    cells: CellGrid
    image_size: tuple[int, int]
    upscale: float
    batch_size: int
    bfloat16: bool
    _tower: Tower
    _mean: Tensor
    _std: Tensor

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 RGB to cells (B, rows, cols, C) float32, each L2-normalised, on the model's device.

        Raises:
            FrameError: images of another size or type.
        """
        batch = torch.as_tensor(images)
        width, height = self.image_size
        if batch.ndim != 4 or tuple(batch.shape[1:]) != (height, width, 3) or batch.dtype != torch.uint8:
            raise FrameError(
                f"images {tuple(batch.shape)} of {batch.dtype}, expected (B, {height}, {width}, 3) of uint8",
                remedy="All images of a data set must have the size the encoder was made for",
            )
        if not len(batch):
            return torch.empty(0, self.cells.rows, self.cells.cols, self.dim, device=self._mean.device)
        return torch.cat([self._encode(self._filled(part))[: len(part)] for part in batch.split(self.batch_size)])

    def _filled(self, images: Tensor) -> Tensor:
        missing = self.batch_size - len(images)
        return torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images

    def _encode(self, images: Tensor) -> Tensor:
        # a permuted (B, H, W, 3) tensor is already channels_last in memory
        pixels = images.to(self._mean.device).permute(0, 3, 1, 2).float() / 255
        if self.upscale != 1:
            pixels = F.interpolate(pixels, size=self._enlarged(), mode="bilinear", align_corners=False)
        pixels = ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        # none at all where it is off: one that is disabled would end that of a caller
        with torch.autocast(pixels.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
            features = self._tower.features(pixels).float()
        if features.shape[2:] != (self.cells.rows, self.cells.cols):
            raise RuntimeError(f"{self.name} made {tuple(features.shape[2:])} cells, not {self.cells}")
        return F.normalize(features.permute(0, 2, 3, 1), dim=-1).contiguous()

    def _enlarged(self) -> tuple[int, int]:
        width, height = self.image_size
        return round(height * self.upscale), round(width * self.upscale)


def dense_encoder(
    clip: Clip, image_size: tuple[int, int], *, upscale: float = 1.0, batch_size: int = 1, bfloat16: bool = False
) -> DenseEncoder:
    """An encoder of images of one size.

    Args:
        clip: stays where it is; move `clip.model` to a GPU before to run there.
        image_size: (width, height) in pixels.
        upscale: enlarge the image by this factor first, so that small objects fill cells; the stride shrinks by it.
        batch_size: 1 keeps convnext_large_d_320 at 1600 x 900 under 8 GB on a CPU; larger pays on a GPU.
        bfloat16: pays on a GPU.

    Raises:
        ConfigError: an image tower that has no dense features, or an image smaller than one cell.
    """
    tower = tower_of(clip.model.visual, clip.name)
    width, height = image_size
    rows, cols = tower.size(round(height * upscale)), tower.size(round(width * upscale))
    if rows < 1 or cols < 1:
        raise ConfigError(
            f"images of {width}x{height} pixels are smaller than one cell of {clip.name} (stride {tower.stride})",
            remedy="Enlarge the image (upscale), or choose an encoder with a smaller stride",
        )
    clip.model.visual.to(memory_format=torch.channels_last)
    device = next(clip.model.parameters()).device
    return DenseEncoder(
        name=clip.name,
        dim=clip.dim,
        cells=CellGrid(rows, cols, tower.stride / upscale),
        image_size=(width, height),
        upscale=upscale,
        batch_size=batch_size,
        bfloat16=bfloat16,
        _tower=tower,
        _mean=torch.tensor(clip.mean, device=device).view(1, 3, 1, 1),
        _std=torch.tensor(clip.std, device=device).view(1, 3, 1, 1),
    )
