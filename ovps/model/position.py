"""Mixed positional encoding: where a voxel is, in Cartesian and in polar coordinates [P3Former]."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ovps.model.layers import mlp


class MixedPosition(nn.Module):
    """Positions (V, 3) in metres to encodings (V, D)."""

    def __init__(self, width: int, bands: int, reach: float) -> None:
        super().__init__()
        self.bands = bands
        self.reach = reach
        self.cartesian = mlp(3 * (1 + 2 * bands), width, width)
        self.polar = mlp(4 + 2 * bands, width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, position: Tensor) -> Tensor:
        xyz = position / self.reach
        rho = xyz[:, :2].norm(dim=1, keepdim=True)
        # cos and sin of phi rather than phi: the encoding has no seam behind the car (P3Former's has)
        phi = torch.atan2(xyz[:, 1:2], xyz[:, :1])
        cartesian = torch.cat([xyz, fourier(xyz, self.bands)], dim=1)
        polar = torch.cat([rho, phi.cos(), phi.sin(), xyz[:, 2:], fourier(rho, self.bands)], dim=1)
        return self.norm(self.cartesian(cartesian) + self.polar(polar))


def fourier(x: Tensor, bands: int) -> Tensor:
    """Map x (V, K) to sin, cos of pi * 2^b * x, b < bands: (V, 2 K bands). Wavelengths 2, 1, 1/2, ... of x's unit."""
    angle = (x[..., None] * (math.pi * 2.0 ** torch.arange(bands, device=x.device))).flatten(1)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
