"""Drive world: procedural streets, ray-cast into a nuScenes data set."""
