"""Empty modules under the names of packages that nuscenes-devkit imports for drawing only.

A machine without a network may lack them, and the real ones are large. They come last on the module path, and only
where the real one is missing.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def missing() -> list[Path]:
    """Folders to put at the end of the module path."""
    folders = [folder for folder in sorted(Path(__file__).parent.iterdir()) if folder.is_dir()]
    return [folder for folder in folders if folder.name != "__pycache__" and find_spec(folder.name) is None]
