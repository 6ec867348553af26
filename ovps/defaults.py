"""Defaults that several commands share."""

from __future__ import annotations

ENCODER = "convnext_large_d_320"
STORE = "zarr"
