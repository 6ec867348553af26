"""Where the ground lies says whether z is up."""

from __future__ import annotations

import numpy as np
import pytest

from ovps.geometry.ground import ABOVE, axes_mistake


def street(*, ceiling: bool = False) -> np.ndarray:
    """Ground 1.8 m below the sensor, houses to both sides, (N, 3)."""
    rng = np.random.default_rng(0)
    ground = np.column_stack([rng.uniform(-25, 25, (4000, 2)), rng.normal(-1.8, 0.03, 4000)])
    walls = np.column_stack(
        [rng.uniform(-25, 25, 3000), rng.choice([-9, 11], 3000) + rng.normal(0, 0.5, 3000), rng.uniform(-1.8, 6, 3000)]
    )
    above = np.column_stack([rng.uniform(-25, 25, (4500, 2)), np.full(4500, 1.2)])
    return np.concatenate([ground, walls, above] if ceiling else [ground, walls])


def test_ground_below_is_right_with_and_without_a_ceiling():
    assert axes_mistake(street()) is None
    assert axes_mistake(street(ceiling=True)) is None
    assert axes_mistake(np.zeros((0, 3))) is None


def test_ground_above_is_told():
    assert axes_mistake(street() * (1, 1, -1)) == ABOVE


@pytest.mark.parametrize(("order", "sign", "up"), [((2, 0, 1), 1, "x"), ((0, 2, 1), -1, "-y")])
def test_ground_to_the_side_is_told_with_what_is_up(order, sign, up):
    xyz = street()[:, order].copy()
    xyz[:, order.index(2)] *= sign
    assert f"as if {up} were up" in str(axes_mistake(xyz))
