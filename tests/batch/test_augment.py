import numpy as np
import pytest

from ovps.batch.augment import draw_transform, generator, transform_points
from ovps.batch.settings import AugmentationConfig

OFF = AugmentationConfig(rotate=False, flip_x=False, flip_y=False, scale=0, translate=0)


def matrix(config=AugmentationConfig(), seed=0, epoch=0, frame=0):
    return draw_transform(generator(seed, epoch, frame), config)


def test_depends_on_seed_epoch_and_frame_and_on_nothing_else():
    np.random.default_rng().random(3)
    assert np.array_equal(matrix(), matrix())
    others = [matrix(seed=1), matrix(epoch=1), matrix(frame=1), matrix(epoch=1, frame=1)]
    assert all(not np.array_equal(matrix(), other) for other in others)


def test_off_is_the_identity_bit_by_bit(frame):
    assert np.array_equal(matrix(OFF), np.eye(4))
    assert np.array_equal(transform_points(frame.xyz, matrix(OFF)), frame.xyz)


def test_is_a_similarity_within_the_ranges():
    angles = []
    for number in range(200):
        m = matrix(frame=number)
        scale = np.cbrt(abs(np.linalg.det(m[:3, :3])))
        assert 0.95 <= scale <= 1.05
        assert np.allclose(m[:3, :3] @ m[:3, :3].T, scale**2 * np.eye(3))
        assert np.allclose(m[2, :2], 0)
        assert m[2, 2] > 0
        angles.append(np.arctan2(m[1, 0], m[0, 0]))
    counts, _ = np.histogram(angles, bins=4, range=(-np.pi, np.pi))
    assert counts.min() > 25


@pytest.mark.parametrize("part", ["rotate", "flip_x", "flip_y", "scale", "translate"])
def test_each_part_can_be_switched_off_alone(part):
    without = AugmentationConfig.model_validate({part: 0})
    alone = OFF.model_copy(update={part: getattr(AugmentationConfig(), part)})
    assert any(not np.allclose(matrix(without, frame=n), matrix(frame=n)) for n in range(4))
    assert any(not np.allclose(matrix(alone, frame=n), np.eye(4)) for n in range(4))
