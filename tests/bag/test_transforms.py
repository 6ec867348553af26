"""Places of frames between the times that a bag knows, against scipy's interpolation of all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation, Slerp

from pipelines.bag.transforms import Link


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=8, unique=True), st.integers(0, 10**6), st.floats(0, 1))
def test_a_place_lies_between_its_neighbours_in_time_whatever_order_they_came_in(times, seed, share):
    rng = np.random.default_rng(seed)
    link = Link("map")
    matrices = np.tile(np.eye(4), (len(times), 1, 1))
    matrices[:, :3, :3] = Rotation.random(len(times), random_state=seed).as_matrix()
    matrices[:, :3, 3] = rng.normal(0, 10, (len(times), 3))
    for time, matrix in zip(times, matrices, strict=True):
        link.times.append(time)
        link.matrices.append(matrix)
    order = np.argsort(times)
    known = np.array(times)[order]
    asked = int(known[0] + share * (known[-1] - known[0]))
    found = link.at(asked)
    assert found is not None
    turned = Slerp(known / 1e9, Rotation.from_matrix(matrices[order, :3, :3]))(asked / 1e9).as_matrix()
    np.testing.assert_allclose(found[:3, :3], turned, atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], interp1d(known, matrices[order, :3, 3], axis=0)(asked), atol=1e-6)
    assert link.at(int(known[0]) - 1) is None
    assert link.at(int(known[-1]) + 1) is None
