"""The ground under a vehicle: the one thing in every sweep whose place is known, and so a check of the axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR_M, _FAR_M = 3.0, 20.0  # about the axis that is tried
_SLAB_M = 0.2
_MUCH = 0.25  # of the points near by lie in the slab of the ground: 0.33 to 0.67 on five rigs
_HEADROOM = 8  # slabs over the ground, where a ceiling may be
_NOTHING = 0.01  # of them lie beneath it: 0.003 at most there
_SOMETHING = 0.1  # of them lie above it

ABOVE = (
    "the ground lies above all other points: z points down, or its sign is lost. Write z upwards, in the points and in"
    " the poses of the cameras"
)


def axes_mistake(xyz: NDArray[np.floating]) -> str | None:
    """Say that z is not up, where the ground is somewhere else; None where it is below, or no ground is found.

    Args:
        xyz: (N, 3), metres, of one sweep or of several of one rig.
    """
    below, above = _is_ground(xyz, 2, 1), _is_ground(xyz, 2, -1)
    if below:
        return None
    if above:
        return ABOVE
    for axis, name in enumerate("xy"):
        for sign in (1, -1):
            if _is_ground(xyz, axis, sign):
                up = name if sign > 0 else f"-{name}"
                return f"the ground is square to {name}, as if {up} were up: z is to be up, turn the axes of the points"
    return None


def _is_ground(xyz: NDArray[np.floating], axis: int, sign: int) -> bool:
    """Tell whether a slab square to an axis holds much, and nothing lies behind it, and no second one before it."""
    across = np.delete(xyz, axis, axis=1)
    reach = np.hypot(across[:, 0], across[:, 1])
    height = sign * xyz[(reach > _NEAR_M) & (reach < _FAR_M), axis]
    if not len(height):
        return False
    steps = np.floor((height - height.min()) / _SLAB_M).astype(int)
    slabs = np.convolve(np.bincount(np.minimum(steps, 10_000)), [1, 1, 1], "same") / len(height)
    ground = int(slabs.argmax())
    lower, upper = (steps < ground - 3).mean(), (steps > ground + 3).mean()
    ceiling = slabs[ground + _HEADROOM :].max(initial=0)
    return bool(slabs[ground] > _MUCH and lower < _NOTHING and upper > _SOMETHING and ceiling < slabs[ground] / 2)
