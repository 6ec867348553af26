"""Names in the folder of a KITTI odometry sequence, and its scans."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ovps.datasets.near_names import renamed
from ovps.errors import DatasetError

CAMERAS = {"image_2": 2, "image_3": 3}
POINTS, LABELS, CALIBRATION, POSES, TIMES = "velodyne", "labels", "calib.txt", "poses.txt", "times.txt"
NAMES = (POINTS, LABELS, *CAMERAS, CALIBRATION, POSES, TIMES)  # what is read
IMAGES = (".png", ".jpg", ".jpeg")
AGAIN = {
    "velodyne": "Take the file again from data_odometry_velodyne.zip (a drive world is built again)",
    "image": "Take the file again from data_odometry_color.zip (a drive world is built again)",
    "labels": "Take the file again from data_odometry_labels.zip (a drive world is built again)",
}
_DIGITS = 9  # of the number of a scan: KITTI's have 6


def list_scans(folder: Path) -> list[Path]:
    """List the point files of a sequence, absolute, in order of their numbers; files that begin with a dot are none.

    Raises:
        DatasetError: no folder, nothing in it, or a scan under a name that is not read.
    """
    if not folder.is_dir():
        raise DatasetError("the sequence has no folder velodyne", path=folder, remedy=AGAIN["velodyne"])
    there = sorted(path for path in folder.absolute().iterdir() if not path.name.startswith("."))
    scans = [path for path in there if path.suffix.lower() == ".bin"]
    astray = [path.name for path in scans if not is_number(path.stem)]
    if astray:
        raise DatasetError(
            f"{astray[0]} is not the number of a scan", path=folder, remedy="Name scans 000000.bin and so on, in order"
        )
    scans.sort(key=lambda path: (int(path.stem), path.name))
    for one, other in pairwise(scans):
        if int(one.stem) == int(other.stem):
            raise DatasetError(
                f"{one.name} and {other.name} are one number", path=folder, remedy="Give every scan a number of its own"
            )
    _check_endings(there, scans)
    if not scans:
        raise DatasetError("no scans (*.bin)", path=folder, remedy=AGAIN["velodyne"])
    return scans


def poses_file(sequence: Path) -> Path:
    """Find the poses of a sequence: its poses.txt, or ROOT/poses/NN.txt where KITTI's own archive has put them."""
    own, apart = sequence / POSES, sequence.parent.parent / "poses" / f"{sequence.name}.txt"
    return apart if apart.exists() and not own.exists() else own


def is_number(stem: str) -> bool:
    """Tell whether the name of a file, without its ending, is the number of a scan."""
    return stem.isascii() and stem.isdigit() and len(stem) <= _DIGITS


def _check_endings(there: Sequence[Path], scans: Sequence[Path]) -> None:
    """No scan is left out because its file ends otherwise; other files beside a scan that is read are no matter."""
    upper = [path for path in scans if path.suffix != ".bin"]
    if upper:
        name = f"{upper[0].stem}.bin"
        raise DatasetError(
            f"{len(upper)} of {len(scans)} scans do not end in .bin, in small letters, the first is {upper[0].name}",
            path=upper[0],
            remedy=renamed(upper[0], name),
        )
    read = {int(path.stem) for path in scans}
    for path in there:
        stem = path.name.partition(".")[0]
        if is_number(stem) and int(stem) not in read and path.is_file():
            raise DatasetError(
                f"scan {stem} is there as {path.name} alone, which is not read",
                path=path,
                remedy=f"Unpack or convert it to {stem}.bin, or move it elsewhere. {AGAIN['velodyne']}",
            )
