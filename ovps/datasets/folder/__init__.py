"""Recordings of one's own, laid out in one folder."""

from ovps.datasets.folder.dataset import DATASET, Folder

__all__ = ["DATASET", "Folder"]
