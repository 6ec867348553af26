"""Voxels to queries: encoder, fusion, decoder, and the classifier of what the queries say."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ovps.model.class_text import ClassText
from ovps.model.classify import TextClassifier
from ovps.model.config import ModelConfig
from ovps.model.decoder import Decoder
from ovps.model.encoder import SparseUNet
from ovps.model.fusion import Fusion, LidarOnly
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.position import MixedPosition
from ovps.model.queries import Queries


class Network(nn.Module):
    """The method's network.

    Args:
        config: its shape.
        input_dim: D_in, channels of `VoxelBatch.features`.
        clip_dim: C.
        base_stuff: number of base stuff classes; each has a fixed query, behind the learned ones (`queries.py`).
        classifier: class embeddings and classes to logits, as `TextClassifier`, which is the default.
    """

    def __init__(
        self,
        config: ModelConfig,
        input_dim: int,
        clip_dim: int,
        base_stuff: int,
        classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = SparseUNet(config.encoder, input_dim, config.width)
        self.fusion: nn.Module = Fusion(clip_dim, config.width) if config.fusion else LidarOnly(config.width)
        self.norm = nn.LayerNorm(config.width)
        self.position = MixedPosition(config.width, config.position_bands, config.position_range)
        self.queries = Queries(config.queries, config.cluster_queries, base_stuff, config.width)
        self.decoder = Decoder(config, clip_dim)
        self.classifier = classifier or TextClassifier(config.tau, config.tau_range, config.class_prior)

    def forward(self, batch: VoxelBatch) -> list[LayerOutput]:
        """Run the network: queries answer before the first layer and after each, L + 1 times; the last one counts.

        May run under autocast; the encoder stays in float32 and so do the outputs.
        """
        lidar = self.encoder(batch.coords, batch.features)
        place = self.position(batch.position)
        frames = [batch.voxels_of(b) for b in range(batch.frames)]
        rows = torch.cat([found + frame.start for found, frame in zip(batch.clip_rows, frames, strict=True)])
        voxels = self.norm(self.fusion(lidar, batch.clip, batch.clip_valid, rows)) + place
        of_frame, place_of_frame = [voxels[f] for f in frames], [place[f] for f in frames]
        clusters = None if batch.cluster is None else [batch.cluster[f] for f in frames]
        queries, own = self.queries(of_frame, clusters)
        return self.decoder(queries, of_frame, place_of_frame, own)

    def class_logits(self, class_embedding: Tensor, classes: ClassText) -> Tensor:
        """Logits (..., E) of any classes, as the classifier takes them. Call it outside autocast."""
        return self.classifier(class_embedding, classes)
