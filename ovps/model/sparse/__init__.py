"""Sparse convolutions: the engines that the LiDAR encoder can run on, found by name (`model.encoder.backend`)."""

from __future__ import annotations

from functools import cache

from ovps.extras import installed
from ovps.model.sparse.protocol import SparseBackend
from ovps.plugins import Registry
from ovps.progress import say

GROUP = "ovps.sparse_backends"
BUILT_IN = {
    "minkowski": "ovps.model.sparse.minkowski:BACKEND",
    "torch": "ovps.model.sparse.gather:BACKEND",
}
REGISTRY = Registry[SparseBackend](GROUP, SparseBackend, BUILT_IN)
get, names = REGISTRY.get, REGISTRY.names


def default() -> str:
    """Name the backend of trainings that ask for none: `minkowski` where MinkowskiEngine is installed, else `torch`."""
    return "minkowski" if installed("MinkowskiEngine") else "torch"


def for_weights_of(trained: str) -> str:
    """Name the backend to use weights with: that which trained them, or the default where that is not installed."""
    there = trained in names() and (trained != "minkowski" or default() == trained)
    if not there:
        tell(trained, default())
    return trained if there else default()


@cache  # once in a process
def tell(missing: str, used: str) -> None:
    """Say on stderr that another backend stands in for one that is not installed."""
    say(f"sparse backend {missing} is not installed: {used} is used, with the same results to rounding")
