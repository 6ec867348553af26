"""Codecs that lose something: what is exact stays exact, and what is lost is as little as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from ovps.cache import codecs
from ovps.cache.codecs.mixture import LEVELS, mixture_arrays, mixture_weights
from ovps.cache.codecs.principal_axes import PrincipalAxes
from ovps.cache.codecs.protocol import VoxelFeatures
from ovps.errors import ConfigError

LOSSY = [name for name in codecs.BUILT_IN if not codecs.get(name).lossless]
CHANNELS = 16


def mixed(seed: int, voxels: int, cells: int, density: float) -> csr_array:
    """Weights (voxels, cells) whose rows sum to 1, or are empty."""
    weights = random_array((voxels, cells), density=density, rng=np.random.default_rng(seed)).tocsr()
    sums = np.maximum(np.asarray(weights.sum(axis=1)).reshape(-1), 1e-12)
    return csr_array(weights.multiply(1 / sums[:, None]), dtype=np.float32)


def unit(seed: int, count: int, channels: int = CHANNELS) -> np.ndarray:
    """Unit rows with a mean and a falling spectrum, as features of cells are."""
    rows = np.random.default_rng(seed).normal(size=(count, channels)) / np.arange(1, channels + 1) + 0.3
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 30), st.sampled_from([0.0, 0.05, 0.4, 1.0]))
def test_a_mixture_keeps_its_cells_and_nearly_its_weights(seed, voxels, cells, density):
    weights = mixed(seed, voxels, cells, density)
    valid = np.diff(weights.indptr) > 0
    used, arrays = mixture_arrays(weights)
    back = mixture_weights(arrays, valid, len(used))
    assert np.array_equal(back.indptr, weights.indptr)
    assert np.array_equal(used[back.indices], weights.indices)
    assert np.allclose(back.sum(axis=1)[valid], 1)
    largest = np.maximum.reduceat(weights.data, weights.indptr[:-1][valid]) if valid.any() else np.zeros(0)
    per_row = np.repeat(largest * np.diff(weights.indptr)[valid] / LEVELS, np.diff(weights.indptr)[valid])
    assert (np.abs(back.data - weights.data) <= per_row + 1e-6).all()


@settings(max_examples=20)
@given(st.sampled_from(LOSSY), st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([0.0, 0.3, 1.0]))
def test_any_frame_comes_back_near_to_what_it_was(name, seed, voxels, density):
    codec = codecs.get(name)
    state = STATES.setdefault(name, codec.fit(unit(0, 600)))
    features = VoxelFeatures(unit(seed, 12), mixed(seed, voxels, 12, density))
    arrays = codec.encode(features, state)
    assert {spec.name for spec in codec.arrays} == set(arrays)
    assert all(arrays[spec.name].dtype == spec.dtype for spec in codec.arrays)
    back = codec.decode(arrays, features.valid, state)
    assert back.dtype == np.float32
    assert not back[~features.valid].any()
    wanted, found = features.dense()[features.valid], back[features.valid]
    cosines = (wanted * found).sum(1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(found, axis=1)
    assert (cosines > 0.9).all()


STATES: dict = {}


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_rounding_along_axes_takes_no_more_than_its_share_whatever_the_cells_are(noise):
    """Also of cells that are nothing like those that the axes were made of."""
    axes = PrincipalAxes(noise)
    state = axes.fit(unit(0, 2000, 64))
    for cells in (unit(1, 500, 64), np.random.default_rng(2).normal(size=(500, 64)).astype(np.float32) / 8, np.eye(64)):
        cells = np.asarray(cells, np.float32)
        error = np.square(axes.decode(axes.encode(cells, state), state) - cells).sum(axis=1)
        assert error.mean() <= 1.15 * noise
        assert error.max() <= 3 * noise * 1.01  # half a step off along every axis


def test_axes_are_the_same_whatever_way_they_point(monkeypatch):
    sample = unit(0, 500)
    first = PrincipalAxes(0.02).fit(sample)
    real = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (real(matrix)[0], -real(matrix)[1]))
    assert np.array_equal(PrincipalAxes(0.02).fit(sample)["basis"], first["basis"])


def test_channels_that_cannot_be_cut_into_pieces():
    with pytest.raises(ConfigError, match=r"18 CLIP channels cannot be cut into pieces of 4.*cells-pca"):
        codecs.get("cells-pq").fit(unit(0, 300, 18))


def test_product_quantisation_of_few_cells():
    codec = codecs.get("cells-pq")
    cells = unit(3, 5)
    state = codec.fit(cells)
    back = codec.coder.decode(codec.coder.encode(cells, state), state)
    np.testing.assert_allclose(back, cells, atol=1e-3)
