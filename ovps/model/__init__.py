"""The network and the panoptic merge."""
