"""Settings of the network. The defaults are the full-scale model; small ones are set in YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, PositiveInt, model_validator

from ovps.model import sparse
from ovps.model.clusters import ClusterConfig

Norm = Literal["batch", "layer"]


class EncoderConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The sparse-convolution U-Net.

    Attributes:
        channels: of each level, fine to coarse; a level halves the resolution of the one before.
        blocks: residual blocks per level, on the way down and on the way up.
        kernel: side of the convolutions inside a level, odd.
        backend: engine of the sparse convolutions, by name: `minkowski` (MinkowskiEngine), or `torch`, which needs no
            compiler. Weights fit both. By default the first where it is installed.
        norm: `batch`, or `layer`, which depends on no other voxel and so on no other frame or process.
    """

    channels: tuple[PositiveInt, ...] = Field((32, 64, 128, 256), min_length=1)
    blocks: int = Field(2, ge=1)
    kernel: int = Field(3, ge=1)
    norm: Norm = "batch"
    backend: str = Field(default_factory=sparse.default)

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        return self


class ModelConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The whole network.

    Attributes:
        encoder: see `EncoderConfig`.
        fusion: False: LiDAR only; the CLIP features of the batch are never looked at.
        width: D, of voxel features and queries.
        queries: learned queries, for things and everything novel; base stuff has its own on top of them.
        cluster_queries: further queries, which start from the largest label-free clusters of a frame, each leaning
            towards its own (ours); 0: none.
        clusters: how these are found.
        layers, heads, ffn, dropout: of the transformer decoder. Dropout is off [P3Former].
        position_branch: masks are the sum of a feature and a position branch [P3Former: position-aware segmentation].
        position_bands: Fourier bands of the positional encoding (ours); 0 leaves the bare coordinates [P3Former].
        position_range: metres that make 1 in the positional encoding, also half the longest wavelength.
        mask_prior: probability that a voxel is in a mask before training, best about 1 / Q (ours; P3Former: 0.5).
        tau: initial temperature of the classifier by text, learned within `tau_range` (ours).
        class_prior: class probability before training where the cosine is 0; sets the initial bias (ours).
    """

    encoder: EncoderConfig = EncoderConfig()
    fusion: bool = True
    width: int = Field(256, gt=0)
    queries: int = Field(128, gt=0)
    cluster_queries: int = Field(0, ge=0)
    clusters: ClusterConfig = ClusterConfig()
    layers: int = Field(6, ge=1)
    heads: int = Field(8, gt=0)
    ffn: int = Field(2048, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    position_branch: bool = True
    position_bands: int = Field(6, ge=0)
    position_range: float = Field(50.0, gt=0)
    mask_prior: float = Field(0.02, gt=0, lt=1)
    tau: float = Field(0.07, gt=0)
    tau_range: tuple[float, float] = (0.01, 1.0)
    class_prior: float = Field(0.01, gt=0, lt=1)

    @property
    def input_clusters(self) -> ClusterConfig | None:
        """Settings by which the input's voxels are clustered; None: no query starts from a cluster."""
        return self.clusters if self.cluster_queries else None

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        low, high = self.tau_range
        if not 0 < low < self.tau < high:
            raise ValueError(f"tau {self.tau} is outside its range {self.tau_range}")
        return self
