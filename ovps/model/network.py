"""Voxels to queries: encoder, fusion, decoder, and the two scalars of the class head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ovps.model.classify import class_logits
from ovps.model.config import ModelConfig
from ovps.model.decoder import Decoder
from ovps.model.encoder import SparseUNet
from ovps.model.fusion import Fusion, LidarOnly
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.layers import logit
from ovps.model.position import MixedPosition
from ovps.model.queries import Queries


class Network(nn.Module):
    """The method's network.

    Args:
        config: its shape.
        input_dim: D_in, channels of `VoxelBatch.features`.
        clip_dim: C.
        base_stuff: number of base stuff classes; each has a fixed query, behind the learned ones (`queries.py`).
    """

    def __init__(self, config: ModelConfig, input_dim: int, clip_dim: int, base_stuff: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = SparseUNet(config.encoder, input_dim, config.width)
        self.fusion: nn.Module = Fusion(clip_dim, config.width) if config.fusion else LidarOnly(config.width)
        self.norm = nn.LayerNorm(config.width)
        self.position = MixedPosition(config.width, config.position_bands, config.position_range)
        self.queries = Queries(config.queries, base_stuff, config.width)
        self.decoder = Decoder(config, clip_dim)
        low, high = (math.log(t) for t in config.tau_range)
        self.raw_tau = nn.Parameter(torch.tensor(logit((math.log(config.tau) - low) / (high - low))))
        self.class_bias = nn.Parameter(torch.tensor(logit(config.class_prior)))

    def forward(self, batch: VoxelBatch) -> list[LayerOutput]:
        """What the queries say before the first decoder layer and after each: L + 1 outputs, the last one counts.

        May run under autocast; the encoder stays in float32 and so do the outputs.
        """
        lidar = self.encoder(batch.coords, batch.features)
        place = self.position(batch.position)
        voxels = self.norm(self.fusion(lidar, batch.clip, batch.clip_valid)) + place
        frames = [batch.voxels_of(b) for b in range(batch.frames)]
        return self.decoder(self.queries(batch.frames), [voxels[f] for f in frames], [place[f] for f in frames])

    def class_logits(self, class_embedding: Tensor, text: Tensor, class_index: Tensor, classes: int) -> Tensor:
        """Logits (..., E) of the classes of any vocabulary; see `ovps.model.classify`. Call it outside autocast."""
        return class_logits(class_embedding, text, class_index, classes, self.tau, self.class_bias)

    @property
    def tau(self) -> Tensor:
        """The temperature. A sigmoid between the logs of its bounds: a clamp that binds would have no gradient."""
        low, high = (math.log(t) for t in self.config.tau_range)
        return (low + (high - low) * self.raw_tau.sigmoid()).exp()
