"""Times of frames that do not go on, and of images that are not those of their sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from ovps.frame import Frame

MOST_US = 2**62  # what a store holds, and more than any clock says
APART_US = 250_000  # between an image and its sweep
_STEPS_US = (1_000, 30_000_000)  # between sweeps of a drive, of which some are left out


def standing_clocks(frames: Sequence[Frame]) -> list[str]:
    """Warn of frames that are not later than the one before them in their scene, in one sentence, or none.

    Args:
        frames: scene after scene, each in its order.
    """
    pairs = [(one, other) for one, other in pairwise(frames) if one.scene == other.scene]
    late = [(one, other) for one, other in pairs if other.timestamp_us <= one.timestamp_us]
    if not late:
        return []
    one, other = late[0]
    return [
        f"{len(late)} of {len(frames)} frames are not later than the one before in their scene, the first is"
        f" {other.token} at {other.timestamp_us} us, after {one.token} at {one.timestamp_us} us: the order of frames"
        " may be wrong"
    ]


def odd_unit(frames: Sequence[Frame]) -> list[str]:
    """Warn of sweeps that follow one another as on no drive, by times in another unit, in one sentence, or none.

    Args:
        frames: scene after scene, each in its order; only those that follow one another in it count.
    """
    follow = [(a, b) for a, b in pairwise(frames) if a.scene == b.scene and b.index == a.index + 1]
    return odd_steps([b.timestamp_us - a.timestamp_us for a, b in follow])


def odd_steps(steps: Sequence[int]) -> list[str]:
    """Warn of microseconds between one sweep and the next as on no drive, in one sentence, or none."""
    usual = median(steps) if steps else _STEPS_US[0]
    if usual <= 0 or _STEPS_US[0] <= usual <= _STEPS_US[1]:
        return []
    size = "larger" if usual < _STEPS_US[0] else "smaller"
    return [
        f"by their times sweeps are {duration(usual)} apart: these seem to be written in a {size} unit than they are"
        " read in (microseconds in readings.csv and in nuScenes, seconds in times.txt)"
    ]


def images_apart(frames: Sequence[Frame]) -> list[str]:
    """Warn of an image that was taken far from its sweep, in one sentence, or none."""
    most, camera, token = farthest_apart(frames)
    if most <= APART_US:
        return []
    return [
        f"the image of {camera} and its sweep {token} are {duration(most)} apart: is it of another sweep,"
        " or its time in another unit?"
    ]


def farthest_apart(frames: Sequence[Frame]) -> tuple[int, str, str]:
    """Find the most microseconds between an image and its sweep, with the camera and the token of the frame."""
    apart = [(abs(c.timestamp_us - f.timestamp_us), c.channel, f.token) for f in frames for c in f.cameras]
    return max(apart, default=(0, "", ""))


def duration(microseconds: float) -> str:
    """Write microseconds in a unit that people read.

    >>> duration(3_000_000)
    '3 s'
    """
    for size, unit in ((3600e6, "h"), (60e6, "min"), (1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            number = microseconds / size
            return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"
    return f"{microseconds:.3g} µs"
