"""One sweep that two rules read, and two sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovps.geometry.same_sweep import is_same_sweep
from tests.helpers.recording import xyz_of

SWEEP = xyz_of(0)
INTENSITY = np.random.default_rng(0).uniform(0, 1, (len(SWEEP), 1))
READ_OTHERWISE = {
    "units": SWEEP / 1000,
    "axes": SWEEP[:, [1, 0, 2]],
    "a mount": Rotation.from_euler("xyz", [3, 1, 90], degrees=True).apply(SWEEP) + np.array([1, 0, 2]),
    "a column": np.hstack([SWEEP[:, :2], INTENSITY]),
    "without some": SWEEP[::3],
    "with others": np.vstack([SWEEP, SWEEP + 40])[: 2 * len(SWEEP) - 9],
    "in another order": SWEEP[::-1],
}


@pytest.mark.parametrize("how", READ_OTHERWISE)
def test_a_sweep_that_is_read_by_other_rules(how):
    assert is_same_sweep(SWEEP.astype(np.float32), READ_OTHERWISE[how].astype(np.float32))
    assert is_same_sweep(READ_OTHERWISE[how].astype(np.float32), SWEEP.astype(np.float32))


def test_two_sweeps():
    """Of as many points, some in nearly the same place, all on one ground; and of one drive that goes on."""
    assert not is_same_sweep(SWEEP, xyz_of(1))
    assert not is_same_sweep(SWEEP, xyz_of(1)[:400])
    ranges = np.random.default_rng(0).uniform(5, 40, (2, 600, 1))
    beams = np.random.default_rng(1).normal(size=(600, 3))
    beams /= np.linalg.norm(beams, axis=1, keepdims=True)
    assert not is_same_sweep(*(ranges * beams))  # as of a LiDAR that writes each beam in its place
