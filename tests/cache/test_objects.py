"""Object embeddings: of a segment's own points, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import random_array

from ovps.cache.object_embeddings import find_objects
from ovps.taxonomy import load_split, load_taxonomy

TAXONOMY = load_taxonomy("nuscenes")
NOVEL = load_split("b12n4").novel_ids(TAXONOMY)
CAR, PEDESTRIAN, BUS, ROAD, NOISE = 17000, 2000, 16000, 24000, 0


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    points, cells = 400, 50
    weights = random_array((points, cells), density=0.08, dtype=np.float32, rng=rng).tocsr()
    views = (rng.random(points) < 0.7).astype(np.uint8)
    weights = weights.multiply((views > 0)[:, None]).tocsr()
    weights.eliminate_zeros()
    views = (np.diff(weights.indptr) > 0).astype(np.uint8)
    raw = rng.choice([CAR + 1, CAR + 2, PEDESTRIAN + 3, PEDESTRIAN + 4, BUS + 5, ROAD, NOISE], points).astype(np.uint32)
    return raw, weights, views, rng.normal(size=(cells, 8)).astype(np.float32)


def test_mean_over_the_own_points_that_are_seen(frame):
    raw, weights, views, cells = frame
    objects = find_objects(raw, TAXONOMY, weights, views, cells)
    assert objects.classes.tolist() == [3, 4, 4, 7, 7, 11]
    assert objects.instance.tolist() == [BUS + 5, CAR + 1, CAR + 2, PEDESTRIAN + 3, PEDESTRIAN + 4, 0]
    of_points = weights @ cells
    for i, key in enumerate([BUS + 5, CAR + 1, CAR + 2, PEDESTRIAN + 3, PEDESTRIAN + 4, ROAD]):
        own = raw == key
        assert objects.points[i] == own.sum()
        assert objects.seen_points[i] == (own & (views > 0)).sum()
        np.testing.assert_allclose(objects.embedding[i], of_points[own & (views > 0)].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("change", ["permuted", "deleted", "all one object"])
def test_novel_labels_do_not_touch_base_embeddings(frame, change):
    raw, weights, views, cells = frame
    semantic, _ = TAXONOMY.decode(raw)
    novel = np.isin(semantic, NOVEL)
    other = raw.copy()
    if change == "permuted":
        other[novel] = np.random.default_rng(1).permutation(raw[novel])
    else:
        other[novel] = NOISE if change == "deleted" else PEDESTRIAN + 999
    assert (other != raw).any()
    a, b = (find_objects(labels, TAXONOMY, weights, views, cells) for labels in (raw, other))
    base_a, base_b = ~np.isin(a.classes, NOVEL), ~np.isin(b.classes, NOVEL)
    for name in ("classes", "instance", "points", "seen_points", "embedding"):
        assert getattr(a, name)[base_a].tobytes() == getattr(b, name)[base_b].tobytes(), name


def test_a_segment_that_no_camera_sees_has_a_zero_embedding(frame):
    raw, weights, views, cells = frame
    hidden = raw == CAR + 1
    weights = weights.multiply(~hidden[:, None]).tocsr()
    weights.eliminate_zeros()
    objects = find_objects(raw, TAXONOMY, weights, np.where(hidden, 0, views).astype(np.uint8), cells)
    row = objects.instance.tolist().index(CAR + 1)
    assert objects.seen_points[row] == 0
    assert not objects.embedding[row].any()


def test_a_frame_of_noise_has_no_objects(frame):
    raw, weights, views, cells = frame
    objects = find_objects(np.zeros_like(raw), TAXONOMY, weights, views, cells)
    assert len(objects.classes) == 0
    assert objects.embedding.shape == (0, 8)
