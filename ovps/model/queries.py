"""The queries and their order: learned ones, those of clusters, one per base stuff class in the classes' order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovps.model.layers import mlp


class Queries(nn.Module):
    """Start vectors of the queries: Q = learned + clusters + base_stuff, of width D.

    A query of a cluster starts from the mean of the cluster's voxels (ours): learned queries alone hardly find what no
    label has shown them. Frames with fewer clusters leave the rest at one learned vector.
    """

    def __init__(self, learned: int, clusters: int, base_stuff: int, width: int) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.randn(learned, width))
        self.stuff = nn.Parameter(torch.randn(base_stuff, width))
        self.clusters = clusters
        if clusters:
            self.from_cluster = mlp(width, width, width)
            self.no_cluster = nn.Parameter(torch.randn(width))

    def forward(self, voxels: list[Tensor], clusters: list[Tensor] | None) -> tuple[Tensor, list[Tensor] | None]:
        """Start vectors (B, Q, D), and the cluster that each starts from, B x (Q, V_b) bool; None: no query does.

        Args:
            voxels: B x (V_b, D).
            clusters: B x (V_b,) int64, see `VoxelBatch.cluster`.
        """
        if not self.clusters:
            return torch.cat([self.learned, self.stuff]).expand(len(voxels), -1, -1), None
        if clusters is None:
            raise ValueError("the network has queries of clusters, and the batch has no clusters")
        rank = torch.arange(self.clusters, device=self.learned.device)
        members = [cluster == rank[:, None] for cluster in clusters]
        started = [self._start(of_frame, inside) for of_frame, inside in zip(voxels, members, strict=True)]
        queries = torch.stack([torch.cat([self.learned, start, self.stuff]) for start in started])
        return queries, [F.pad(inside, (0, 0, len(self.learned), len(self.stuff))) for inside in members]

    def _start(self, voxels: Tensor, members: Tensor) -> Tensor:
        size = members.sum(dim=1, keepdim=True)
        mean = (members.to(voxels.dtype) @ voxels) / size.clamp(min=1)
        return torch.where(size > 0, self.from_cluster(mean), self.no_cluster)
