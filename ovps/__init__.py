"""Open-vocabulary 3D panoptic segmentation of LiDAR, with CLIP features computed once."""

__version__ = "0.1.0"
