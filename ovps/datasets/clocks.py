"""Times of frames that do not go on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ovps.frame import Frame

MOST_US = 2**62  # what a store holds, and more than any clock says


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
