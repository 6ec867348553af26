"""Stands in for scikit-learn, which nuscenes-devkit imports for maps only."""
