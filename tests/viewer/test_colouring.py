"""What colours a cloud, as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovps.report.colours import DIM
from ovps.taxonomy import load_taxonomy
from ovps.viewer import colouring
from ovps.viewer.labelling import Palette, cluster_labelling, labelling, taxonomy_palette
from ovps.viewer.view import COLOURINGS, available, legend, paint

TAXONOMY = load_taxonomy("nuscenes")
PALETTE = taxonomy_palette(TAXONOMY)
CAR, ROAD = PALETTE.names.index("car"), PALETTE.names.index("driveable_surface")


def luminance(colours):
    return np.asarray(colours, float) @ (0.2126, 0.7152, 0.0722)


def test_classes_have_their_colours_and_the_rest_that_of_nothing():
    labels = labelling(PALETTE, np.array([CAR, -1, ROAD]), np.array([1, 0, 0]))
    colours = colouring.by_class(labels)
    assert colours.dtype == np.uint8
    assert colours.tolist() == [PALETTE.colours[CAR].tolist(), list(DIM), PALETTE.colours[ROAD].tolist()]


def test_each_thing_has_one_hue_and_stuff_is_dim():
    labels = labelling(PALETTE, np.array([CAR, CAR, CAR, ROAD, -1]), np.array([7, 7, 9, 0, 0]))
    a, b, c, road, nothing = colouring.by_instance(labels).tolist()
    assert a == b != c
    assert road == nothing == list(DIM) != a


def test_a_thing_takes_the_hue_of_the_one_it_covers():
    true = labelling(PALETTE, np.array([CAR] * 6), np.array([5, 5, 5, 8, 8, 8]))
    found = labelling(PALETTE, np.array([ROAD - 1] * 6), np.array([2, 2, 2, 2, 1, 1]))  # IoU 3/4 and 2/3
    first, second = colouring.by_instance(true), colouring.by_instance(found, true)
    assert second[0].tolist() == first[0].tolist()
    assert second[5].tolist() == first[5].tolist()
    apart = labelling(PALETTE, np.array([CAR] * 6), np.array([1, 2, 3, 4, 5, 6]))  # none covers half
    hues = colouring.by_instance(apart, true)
    assert not {tuple(h) for h in hues.tolist()} & {tuple(h) for h in first.tolist()}


def test_clusters_are_coloured_as_things_are():
    colours = colouring.by_instance(cluster_labelling(np.array([0, 0, 1, -1])))
    assert colours[0].tolist() == colours[1].tolist() != colours[2].tolist()
    assert colours[3].tolist() == list(DIM)
    assert len({tuple(c) for c in colouring.by_instance(cluster_labelling(np.array([0, 1]))).tolist()}) == 2


def test_things_of_a_class_differ_in_lightness_but_not_in_hue():
    labels = labelling(PALETTE, np.array([CAR, CAR, ROAD]), np.array([1, 2, 0]))
    one, other, road = colouring.by_class_and_instance(labels)
    assert abs(luminance(one) - luminance(other)) > 20
    assert road.tolist() == PALETTE.colours[ROAD].tolist()
    assert np.argsort(one.astype(int), kind="stable").tolist() == np.argsort(other.astype(int), kind="stable").tolist()


def test_right_wrong_and_unlabelled_are_told_apart_also_without_colour():
    predicted = labelling(PALETTE, np.array([3, 2, -1, 3]), np.array([1, 1, 0, 1]))  # classes 4, 3, none and 4
    colours = colouring.right_or_wrong(np.array([4, 4, 4, 0]), predicted)
    assert colours.tolist() == [list(c) for c in (colouring.RIGHT, colouring.WRONG, colouring.WRONG, DIM)]
    shades = luminance([colouring.RIGHT, colouring.WRONG, DIM])
    assert min(abs(np.subtract.outer(shades, shades))[np.triu_indices(3, 1)]) > 20


def test_a_word_that_is_no_class_is_neither_right_nor_wrong():
    words = Palette(("car", "fire engine"), np.array([[255, 0, 0], [0, 255, 0], DIM], np.uint8), np.array([4, 0, 0]))
    predicted = labelling(words, np.array([0, 1, -1]), np.array([1, 1, 0]))
    colours = colouring.right_or_wrong(np.array([4, 4, 4]), predicted)
    assert colours.tolist() == [list(c) for c in (colouring.RIGHT, DIM, colouring.WRONG)]


def test_base_and_novel():
    colours = colouring.base_or_novel(np.array([4, 3, 0]), frozenset({3}))
    assert colours.tolist() == [list(c) for c in (colouring.BASE, colouring.NOVEL, DIM)]


def test_scores_rise_in_luminance_and_no_score_is_dim():
    colours = colouring.by_score(np.array([0.0, 0.3, 0.6, 1.0, np.nan]))
    assert (np.diff(luminance(colours[:4])) > 0).all()
    assert colours[4].tolist() == list(DIM)


def test_cameras_are_counted_up_to_three():
    colours = colouring.by_views(np.array([0, 1, 2, 3, 6], np.uint8))
    assert colours.tolist() == [list(c) for c in (*colouring.VIEWS, colouring.VIEWS[3])]


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(0, 1))
def test_exactly_what_reaches_the_threshold_lights_up(relevance, threshold):
    relevance = np.array(relevance)
    lit = (colouring.by_relevance(relevance, threshold) != np.array(DIM)).any(axis=1)
    assert (lit == (relevance >= threshold)).all()


def test_every_colouring_paints_every_point_of_a_frame_and_explains_itself(view):
    titles = available(has_truth=True, has_run=True, has_novel=True)
    assert "clusters, label-free" not in titles
    for title in titles:
        colours = paint(view, title)
        assert colours.shape == view.frame.xyz.shape, title
        assert colours.dtype == np.uint8
        assert (colours != np.array(DIM)).any(), title
        assert legend(view, title), title


@pytest.mark.parametrize("title", ["truth", "prediction", "CLIP arg-max"])
def test_a_legend_of_classes_names_the_colours_that_are_there(view, title):
    shown = {tuple(colour) for colour in paint(view, title).tolist()}
    assert {colour for _, colour in legend(view, title)} == shown


def test_without_a_run_only_what_it_takes_none_for_is_offered(plain):
    titles = available(has_truth=True, has_run=False, has_novel=False)
    assert titles == ["truth", "truth, instances", "CLIP arg-max", "number of cameras"]
    assert available(has_truth=False, has_run=False, has_novel=False)[-1] == "clusters, label-free"
    assert (paint(plain, "score") == np.array(DIM)).all()  # dim, not an error
    assert len({c.title for c in COLOURINGS}) == len(COLOURINGS)
