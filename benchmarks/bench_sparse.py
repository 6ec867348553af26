"""The engines of sparse convolutions, forward and backward of the encoder, against MinkowskiEngine (reference).

python -m benchmarks.bench_sparse
"""

from __future__ import annotations

import torch

from benchmarks.rows import Row, table
from benchmarks.setting import paired
from ovps.model import sparse
from ovps.model.config import EncoderConfig
from ovps.model.encoder import SparseUNet

VOXELS, INPUTS, WIDTH, ROUNDS = 10_000, 13, 96, 5
CHANNELS = (24, 48, 64, 96)


def main() -> None:
    print(table(rows()))


def rows() -> list[Row]:
    """Seconds of a step of the encoder, forward and backward, on one thread."""
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    ground = torch.randint(0, 160, (4 * VOXELS, 3), generator=g) // torch.tensor([1, 1, 16])  # a surface, as sweeps are
    coords = torch.unique(ground, dim=0)[:VOXELS]
    coords = torch.cat([torch.zeros(len(coords), 1), coords], dim=1).int()
    features = torch.randn(len(coords), INPUTS, generator=g)

    def step(network: SparseUNet) -> None:
        network(coords, features).square().sum().backward()

    networks = {
        name: SparseUNet(EncoderConfig(channels=CHANNELS, blocks=1, backend=name), INPUTS, WIDTH)
        for name in sparse.names()
    }
    reference = networks.pop("minkowski")
    found = []
    for name, network in networks.items():
        theirs, ours, _ = paired(lambda _: step(reference), lambda _, n=network: step(n), ROUNDS)
        found.append(Row(f"sparse backend `{name}`, {len(coords)} voxels", "minkowski", ours, theirs, "s"))
    return found


if __name__ == "__main__":
    main()
