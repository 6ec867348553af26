"""Colours that are told apart."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from ovps.report.colours import LEAST_LUMINANCE, UNLABELLED_COLOUR, _lab, entry_colours, separated_colours, visible


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


WHITE = "from ovps.report.colours import visible; print(visible((255, 255, 255)))"


@pytest.mark.parametrize("kernels", ["", "Haswell", "Prescott"])
def test_white_stays_white_whatever_kernels_numpy_multiplies_with(kernels):
    """Some say that the luminance of white is 255, others nearly so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)} | ({"OPENBLAS_CORETYPE": kernels} if kernels else {})
    told = subprocess.run([sys.executable, "-c", WHITE], env=environment, capture_output=True, text=True, check=False)
    assert told.stdout == "(255, 255, 255)\n", told.stderr


def test_a_dark_colour_is_as_light_as_it_has_to_be_and_a_light_one_stays():
    for colour in ((0, 0, 0), (0, 0, 255), (90, 0, 0)):
        assert np.array(visible(colour)) @ (0.2126, 0.7152, 0.0722) == pytest.approx(LEAST_LUMINANCE, abs=0.6)
    assert visible((200, 230, 180)) == (200, 230, 180)
