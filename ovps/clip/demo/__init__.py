"""The demo CLIP: a small open_clip model that ships with the package.

`demo.json` is its open_clip config, `demo.safetensors` its weights in float16, `trunk` its vision trunk.
`driveworld/demo_clip` trains it. It is taught every class of the drive world in 2D, the novel ones included,
and stands in for a CLIP trained on the internet where there is none.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import open_clip

NAME = "demo"


def weights_path() -> Path:
    """The shipped weights."""
    return Path(str(resources.files(__name__))) / "demo.safetensors"


def register() -> None:
    """Make open_clip know the model `demo`, and timm its trunk. Calling it again does nothing."""
    from ovps.clip.demo import trunk  # noqa: F401  importing it registers it with timm

    if NAME not in open_clip.list_models():
        open_clip.add_model_config(Path(str(resources.files(__name__))) / f"{NAME}.json")
