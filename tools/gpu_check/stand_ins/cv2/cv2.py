"""Stands in for OpenCV, which nuscenes-devkit imports for drawing only."""
