"""Defaults that several commands share."""

from __future__ import annotations

from pathlib import Path

ENCODER = "convnext_large_d_320"
STORE = Path("zarr")
