"""Colours that are told apart."""

from __future__ import annotations

import numpy as np

from ovps.report.colours import UNLABELLED_COLOUR, _lab, entry_colours, separated_colours


def test_lab_is_that_of_the_standard():
    """Values of the CIE for the primaries of sRGB under D65."""
    found = _lab(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]]))
    np.testing.assert_allclose(found, [[100, 0, 0], [53.24, 80.09, 67.2], [32.3, 79.19, -107.86]], atol=0.1)


def test_colours_of_free_names_lie_far_apart_from_each_other_and_from_what_has_none():
    for count, least in ((5, 35), (20, 25)):  # golden-ratio hues: 8 among 20
        colours = _lab(np.vstack([separated_colours(count), [UNLABELLED_COLOUR]]))
        apart = np.linalg.norm(colours[:, None] - colours, axis=2)[~np.eye(count + 1, dtype=bool)]
        assert apart.min() > least, (count, apart.min())
    assert separated_colours(0).shape == (0, 3)


def test_the_last_colour_is_that_of_what_has_no_name():
    colours = entry_colours(["car", "tree"], None)
    assert colours.shape == (3, 3)
    assert tuple(colours[-1]) == UNLABELLED_COLOUR
