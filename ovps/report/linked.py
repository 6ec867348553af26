"""Pictures beside a page, as files of their own that it links to: PNGs are large, and people open them alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ovps.file_names import name_fault
from ovps.files import write_whole
from ovps.report.overlay import png

PICTURES = "pictures"


@dataclass(frozen=True)
class Picture:
    """A picture on a page: its address and what it shows."""

    url: str
    title: str


@dataclass(frozen=True)
class ShownFrame:
    """A frame on a page, its pictures, and perhaps one from above, which stands beside them."""

    token: str
    pictures: list[Picture]
    above: Picture | None = None


def write_picture(folder: Path, name: str, pixels: NDArray[np.uint8], title: str) -> Picture:
    """Write pixels (H, W, 3) uint8 as FOLDER/pictures/NAME.png, for a page in the folder.

    Raises:
        StorageError: the disk refuses.
    """
    plain = name if name_fault(name) is None else quote(name, safe="")  # no name leads out of the folder
    file = folder / PICTURES / f"{plain}.png"
    write_whole(file, png(pixels))
    return Picture(quote(file.relative_to(folder).as_posix()), title)
