"""The class of a segment must not follow from its colour, its reflectance, or from standing alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.utils.class_weight import compute_sample_weight

from driveworld.raw_labels import CLASSES, FLAT
from tests.driveworld.streets import Street, look, near_share

pytestmark = pytest.mark.slow

MIN_POINTS = 15
SEEDS = range(100, 110)


@pytest.fixture(scope="module")
def streets() -> list[Street]:
    return [look(seed) for seed in SEEDS]


def _balanced_accuracy(features: np.ndarray, classes: np.ndarray, street: np.ndarray) -> float:
    """Of a classifier that is tested on other streets than it has learnt from."""
    assert len(np.unique(classes)) == len(CLASSES)
    weights = compute_sample_weight("balanced", classes)
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, random_state=0)
    found = cross_val_predict(
        model, features, classes, groups=street, cv=GroupKFold(5), params={"sample_weight": weights}
    )
    return float(balanced_accuracy_score(classes, found))


def test_intensity_does_not_tell_the_class(streets: list[Street]) -> None:
    rows = []
    for number, street in enumerate(streets):
        for index in np.unique(street.objects):
            intensity = street.points[street.objects == index, 3]
            if len(intensity) >= MIN_POINTS:
                rows.append((*np.quantile(intensity, (0.1, 0.5, 0.9)), intensity.mean(), index, number))
    table = np.array(rows)
    classes = np.array([streets[int(r[5])].scene.class_ids[int(r[4])] for r in rows])
    accuracy = _balanced_accuracy(table[:, :4], classes, table[:, 5])
    print(f"balanced accuracy from intensity alone: {accuracy:.3f} over {len(rows)} segments")
    assert accuracy < 0.35


def test_mean_color_does_not_tell_the_class(streets: list[Street]) -> None:
    rows = [(*rgb, i, n) for n, street in enumerate(streets) for i, rgb in street.colors.items()]
    table = np.array(rows)
    classes = np.array([streets[int(r[4])].scene.class_ids[int(r[3])] for r in rows])
    accuracy = _balanced_accuracy(table[:, :3], classes, table[:, 4])
    print(f"balanced accuracy from mean colour alone: {accuracy:.3f} over {len(rows)} segments")
    assert accuracy < 0.35


def test_clustering_does_not_find_the_things(streets: list[Street]) -> None:
    found = total = 0
    for street in streets:
        flat = np.array([o.class_name in FLAT for o in street.scene.objects])[street.objects]
        points, objects = street.points[~flat, :3], street.objects[~flat]
        cluster = DBSCAN(eps=0.5, min_samples=3).fit_predict(points)
        for index in np.unique(objects):
            own = objects == index
            if not street.scene.objects[index].is_thing or own.sum() < MIN_POINTS:
                continue
            total += 1
            best = np.bincount(cluster[own] + 1)[1:]
            if len(best):
                label = int(best.argmax())
                overlap = (own & (cluster == label)).sum() / (own | (cluster == label)).sum()
                found += int(overlap > 0.5)
    print(f"clustering finds {found / total:.3f} of {total} thing segments")
    assert found / total <= 0.60


def test_a_third_of_the_things_touch_another_segment(streets: list[Street]) -> None:
    share = np.mean([near_share(street.scene) for street in streets[:3]])
    print(f"things within 0.3 m of another segment: {share:.3f}")
    assert share > 1 / 3
