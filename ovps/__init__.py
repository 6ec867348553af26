"""Open-vocabulary 3D panoptic segmentation of LiDAR, with CLIP features computed once.

For a notebook: `open_store`, `load_run`, `segment`, `score` (docs/python.md). They are imported when first asked
for, so that `import ovps` itself takes milliseconds and loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovps.api import load_run, open_store, score, segment

__version__ = "0.1.0"
__all__ = ["load_run", "open_store", "score", "segment"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ovps import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
