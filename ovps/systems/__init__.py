"""The method and what it is compared with: one object each, found by name."""

from __future__ import annotations

from ovps import plugins
from ovps.systems.protocol import System

GROUP = "ovps.systems"
BUILT_IN = {
    "queries": "ovps.systems.queries:SYSTEM",
    "closed_set": "ovps.systems.closed_set:SYSTEM",
    "label_free": "ovps.systems.label_free:SYSTEM",
    "voxels": "ovps.systems.openscene:SYSTEM",
    "clip": "ovps.systems.clip_alone:SYSTEM",
}


def get(name: str) -> System:
    """Load a system by name.

    Raises:
        ConfigError: none of that name; the remedy lists those there are.
        SetupError: it cannot be imported.
    """
    return plugins.find(GROUP, name, BUILT_IN)


def names() -> tuple[str, ...]:
    """List the names of all systems: the built-in ones, and those of other installed packages."""
    return plugins.names(GROUP, BUILT_IN)
