"""The method and what it is compared with: one object each, found by name."""

from __future__ import annotations

from ovps.plugins import Registry
from ovps.systems.protocol import System

GROUP = "ovps.systems"
BUILT_IN = {
    "queries": "ovps.systems.queries:SYSTEM",
    "closed_set": "ovps.systems.closed_set:SYSTEM",
    "label_free": "ovps.systems.label_free:SYSTEM",
    "voxels": "ovps.systems.openscene:SYSTEM",
    "clip": "ovps.systems.clip_alone:SYSTEM",
}
REGISTRY = Registry[System](GROUP, System, BUILT_IN)
get, names = REGISTRY.get, REGISTRY.names
