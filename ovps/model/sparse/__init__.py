"""Sparse convolutions: the engines that the LiDAR encoder can run on, found by name (`model.encoder.backend`)."""

from __future__ import annotations

from ovps import plugins
from ovps.model.sparse.protocol import SparseBackend

GROUP = "ovps.sparse_backends"
BUILT_IN = {
    "minkowski": "ovps.model.sparse.minkowski:BACKEND",
    "torch": "ovps.model.sparse.gather:BACKEND",
}


def get(name: str) -> SparseBackend:
    """A backend by name.

    Raises:
        ConfigError: none of that name; the remedy lists those there are.
        SetupError: the engine is not installed.
    """
    return plugins.find(GROUP, name, BUILT_IN)


def names() -> tuple[str, ...]:
    """List the names of all backends: the built-in ones, and those of other installed packages."""
    return plugins.names(GROUP, BUILT_IN)
