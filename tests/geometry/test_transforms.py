"""Ways along transforms, against products written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ovps.geometry.transforms import inverse, transform_along


def rigid(seed: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    matrix[:3, 3] = np.random.default_rng(seed).normal(0, 5, 3)
    return matrix


@given(st.integers(0, 10**6), st.lists(st.booleans(), min_size=1, max_size=6), st.randoms())
def test_a_chain_is_the_product_of_its_links_whichever_way_and_order_they_are_written(seed, forth, order):
    links = [rigid(seed + number) for number in range(len(forth))]
    steps = [
        (f"f{n}", f"f{n + 1}", link) if forward else (f"f{n + 1}", f"f{n}", np.linalg.inv(link))
        for n, (link, forward) in enumerate(zip(links, forth, strict=True))
    ]
    order.shuffle(steps)
    found = transform_along(steps, "f0", f"f{len(forth)}")
    np.testing.assert_allclose(found, np.linalg.multi_dot([np.eye(4), *links[::-1], np.eye(4)]), atol=1e-9)
    assert transform_along(steps, "f0", "elsewhere") is None
    np.testing.assert_array_equal(transform_along(steps, "f0", "f0"), np.eye(4))


@given(st.integers(0, 10**6))
def test_the_inverse_of_a_rigid_transform(seed):
    np.testing.assert_allclose(inverse(rigid(seed)), np.linalg.inv(rigid(seed)), atol=1e-12)
