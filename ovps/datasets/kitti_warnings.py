"""Warnings of what is odd in KITTI sequences and may be meant: a sentence for each kind, of however many sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from ovps.datasets.clocks import odd_steps
from ovps.datasets.kitti_calibration import read_poses, read_times
from ovps.datasets.kitti_sequence import CAMERAS, IMAGES, LABELS, POINTS, TIMES, is_number, list_scans, poses_file


def sequence_warnings(sequences: Sequence[Path]) -> list[str]:
    """Warn of scans that are missing, and of times and poses that are odd or not used.

    Args:
        sequences: folders, whose scans can be listed.

    Raises:
        DatasetError: times or poses that cannot be read.
    """
    return [
        text
        for find in (_missing_scans, _odd_times, _odd_unit, _unused_times, _unused_poses)
        for text in _of(find, sequences)
    ]


def _of(find: Callable[[Path], str | None], sequences: Sequence[Path]) -> list[str]:
    """Summary of what is found in the first sequence, and in how many more there is something."""
    found = [text for text in map(find, sequences) if text]
    more = f" (and {len(found) - 1} more of {len(sequences)} sequences)" if len(found) > 1 else ""
    return [found[0] + more] if found else []


def _missing_scans(sequence: Path) -> str | None:
    """Scans whose number lies between others, or of which there is an image or a label."""
    numbers = [int(scan.stem) for scan in list_scans(sequence / POINTS)]
    there = set(numbers)
    gaps = [(one + 1, other) for one, other in pairwise(numbers) if other > one + 1]
    named = _numbers(sequence / LABELS, (".label",)).union(*(_numbers(sequence / name, IMAGES) for name in CAMERAS))
    outside = [number for number in named - there if not numbers[0] < number < numbers[-1]]
    count = sum(end - start for start, end in gaps) + len(outside)
    if not count:
        return None
    first = min([*outside, *(start for start, _ in gaps)])
    return (
        f"{count} scans are missing in sequence {sequence.name}, between others or beside images and labels of theirs,"
        f" the first is {sequence / POINTS / f'{first:06d}.bin'}: fine if they were left out on purpose"
    )


def _numbers(folder: Path, endings: Sequence[str]) -> set[int]:
    """Numbers of the files of a folder that may be missing."""
    if not folder.is_dir():
        return set()
    return {int(p.stem) for p in folder.iterdir() if p.suffix.lower() in endings and is_number(p.stem)}


def _odd_times(sequence: Path) -> str | None:
    times = read_times(sequence / TIMES) if (sequence / TIMES).exists() else []
    late = [(line, time, before) for (_, before), (line, time) in pairwise(times) if time <= before]
    if not late:
        return None
    line, time, before = late[0]
    return (
        f"{len(late)} of {len(times)} times are not later than the one before, the first is line {line} of"
        f" {sequence / TIMES}: {time / 1e6:g} s after {before / 1e6:g} s. The store's record of a frame has them so;"
        " the order of scans is that of their numbers"
    )


def _odd_unit(sequence: Path) -> str | None:
    """By its lines, one for each scan that was recorded: of these some may have been left out."""
    times = read_times(sequence / TIMES) if (sequence / TIMES).exists() else []
    return next(iter(odd_steps([b - a for (_, a), (_, b) in pairwise(times)])), None)


def _unused_times(sequence: Path) -> str | None:
    path = sequence / TIMES
    return _short(sequence, path, len(read_times(path)), "scans count as 0.1 s apart") if path.exists() else None


def _unused_poses(sequence: Path) -> str | None:
    path = poses_file(sequence)
    return _short(sequence, path, len(read_poses(path)), "no motion is known") if path.exists() else None


def _short(sequence: Path, path: Path, lines: int, instead: str) -> str | None:
    """A list that ends before the last scan."""
    last = list_scans(sequence / POINTS)[-1]
    if lines > int(last.stem):
        return None
    return (
        f"{path} has {lines} lines and the last scan is {last.name}, which needs line {int(last.stem) + 1}: none of its"
        f" lines is used, {instead}"
    )
