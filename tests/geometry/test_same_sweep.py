"""One sweep that two rules read, and two sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovps.geometry.same_sweep import rows_correspond, share_points
from tests.helpers.recording import xyz_of

SWEEP = xyz_of(0)
INTENSITY = np.random.default_rng(0).uniform(0, 1, (len(SWEEP), 1))
IN_ORDER = {
    "units": SWEEP / 1000,
    "axes": SWEEP[:, [1, 0, 2]],
    "a mount": Rotation.from_euler("xyz", [3, 1, 90], degrees=True).apply(SWEEP) + np.array([1, 0, 2]),
    "a column": np.hstack([SWEEP[:, :2], INTENSITY]),
}
SHARED = {
    "without some": SWEEP[::3],
    "with others": np.vstack([SWEEP, SWEEP + 40])[: 2 * len(SWEEP) - 9],
    "in another order": SWEEP[::-1],
}


@pytest.mark.parametrize("how", [*IN_ORDER, *SHARED])
def test_a_sweep_that_is_read_by_other_rules(how):
    now = (IN_ORDER | SHARED)[how].astype(np.float32)
    for clouds in ((SWEEP.astype(np.float32), now), (now, SWEEP.astype(np.float32))):
        assert rows_correspond(*clouds) == (how in IN_ORDER)
        assert share_points(*clouds) == (how in SHARED)


def test_two_sweeps():
    """Of as many points, some in nearly the same place, all on one ground; and of beams that have their rows."""
    ranges = np.random.default_rng(0).uniform(5, 40, (2, 600, 1))
    beams = np.random.default_rng(1).normal(size=(600, 3))
    beams /= np.linalg.norm(beams, axis=1, keepdims=True)
    for clouds in ((SWEEP, xyz_of(1)), (SWEEP, xyz_of(1)[:400]), ranges * beams):
        assert not rows_correspond(*clouds)
        assert not share_points(*clouds)
