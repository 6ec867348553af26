"""How `v2` was made: `python -m tests.cache.stores.make FOLDER`. From the first release on it is never made again.

It stands for old stores: a change of the code that cannot read it is a change of the schema, and needs a new version.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from hashlib import sha256
from pathlib import Path

import numpy as np

from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from tests.helpers.synthetic_store import write_synthetic_store


def digests(store: Path) -> dict[str, dict[str, str]]:
    """Of every frame by token, and of every field of it: type, shape and hash of the content."""
    opened = Store.open(store)
    return {ref.token: _digests(opened.read(ref)) for ref in opened.frames}


def _digests(frame: CachedFrame) -> dict[str, str]:
    values = {}
    for field in fields(CachedFrame):
        value = getattr(frame, field.name)
        if isinstance(value, np.ndarray):
            value = f"{value.dtype} {value.shape} {sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]}"
        values[field.name] = str(value)
    return values


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for codec in ("dense", "cells"):
        small = {"frames": 2, "points": 60, "clip_dim": 4, "subsets": ("train",), "grid": "cylinder:20x15x4"}
        made = write_synthetic_store(folder / codec, codec=codec, **small)
        (folder / f"{codec}.json").write_text(json.dumps(digests(made), indent=1) + "\n")
