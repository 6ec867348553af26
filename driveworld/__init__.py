"""Drive world: procedural streets, ray-cast into a real nuScenes data set.

raw_labels, paint, mesh -> assets -> ground, street_layout -> scene       what is there
raycast -> render (cameras), lidar, rig (where the sensors are)           what is seen
annotate, nuscenes_format -> drive (one scene) -> build (all of them)     what is written
"""

from ovps.extras import extra

with extra("driveworld"):
    from driveworld.build import WorldSummary, build_world

__all__ = ["WorldSummary", "build_world"]
