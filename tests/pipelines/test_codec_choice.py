"""The codec of a new store where none is asked for: a small one, where it is seen to lose next to nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ovps.cache import codecs
from ovps.cache.codecs import choice
from ovps.cache.codecs.choice import SMALL, fidelity
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.errors import ConfigError, ProvenanceError
from pipelines.options import MergeOptions
from pipelines.precompute import codec_choice, estimate, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import voxel_features
from pipelines.precompute.options import resolved
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import tools_of
from pipelines.stores.select import merge
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.pipelines.test_precompute import options_for

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    """Three frames to train on, three to validate."""
    return write_mini_nuscenes(tmp_path_factory.mktemp("world"), scenes=2, frames=3, points=300)


@pytest.fixture
def many(monkeypatch):
    """As if three training frames were 160."""
    monkeypatch.setattr(codec_choice, "FRAMES_PER_FITTED", 3 / codecs.get(SMALL[0]).fit_frames)


def choosing(dataroot, out, **changes):
    return options_for(dataroot, out, **{"codec": None, "cameras": ("CAM_FRONT",)} | changes)


def test_few_frames_are_stored_exactly(dataroot, tmp_path):
    done = precompute(choosing(dataroot, tmp_path / "s"))
    assert codecs.get(done.codec).lossless
    assert done.fidelity is None
    assert Store.open(tmp_path / "s").provenance.codec == done.codec


def test_many_are_stored_small_and_as_near_as_is_said(dataroot, many, tmp_path):
    done = precompute(choosing(dataroot, tmp_path / "s"))
    assert done.codec == Store.open(tmp_path / "s").provenance.codec == "cells-pca-small"
    assert done.fidelity is not None
    assert done.fidelity.enough
    assert not verify_store(tmp_path / "s")
    precompute(choosing(dataroot, tmp_path / "exact", codec="cells"))
    small, exact = Store.open(tmp_path / "s"), Store.open(tmp_path / "exact")
    cosines = []
    for ref, other in zip(small.frames, exact.frames, strict=True):
        a, b = small.read(ref), exact.read(other)
        a, b = a.clip[a.valid], b.clip[b.valid]
        cosines.append((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    assert np.concatenate(cosines).mean() >= done.fidelity.mean - 1e-4  # means of cells are nearer than cells


def test_a_codec_that_loses_too_much_is_passed_over(dataroot, many, monkeypatch, tmp_path):
    options = resolved(choosing(dataroot, tmp_path / "s"))
    frames = frames_of(options)
    real = choice.fidelity
    lost = {SMALL[0]: 0.9899, SMALL[1]: 0.9901}
    monkeypatch.setattr(codec_choice, "fidelity", lambda c, s, rows: real(c, s, rows)._replace(mean=lost[c.name]))
    assert prepare(options, frames)[0].codec == SMALL[1]
    lost[SMALL[1]] = 0.9899
    assert codecs.get(prepare(options, frames)[0].codec).lossless


def test_only_training_frames_are_fitted_to(dataroot, many, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        codec_choice, "voxel_features", lambda frame, tools: (asked.append(frame), voxel_features(frame, tools))[1]
    )
    options = resolved(choosing(dataroot, tmp_path / "s"))
    prepare(options, sorted(frames_of(options), key=lambda frame: frame.subset != "val"))
    assert {frame.subset for frame in asked} == {"train"}
    assert len(asked) == 3


def test_features_that_are_not_finite_are_no_part_of_the_fit(dataroot, many, monkeypatch, tmp_path):
    first = frames_of(resolved(choosing(dataroot, tmp_path / "s")))[0].token

    def spoiled(frame, tools):
        features = voxel_features(frame, tools)
        return replace(features, cells=np.full_like(features.cells, np.nan)) if frame.token == first else features

    monkeypatch.setattr(codec_choice, "voxel_features", spoiled)
    options = resolved(choosing(dataroot, tmp_path / "s"))
    state = prepare(options, frames_of(options))[0].state
    assert state
    assert all(np.isfinite(array).all() for array in state.values())


def test_what_an_exact_store_grows_into_is_told(dataroot, many, tmp_path):
    precompute(choosing(dataroot, tmp_path / "s", codec="cells", limit=1))
    done = precompute(choosing(dataroot, tmp_path / "s"))
    assert done.codec == "cells"
    assert any("begun with codec cells" in warning for warning in done.warnings)
    assert not precompute(choosing(dataroot, tmp_path / "s")).warnings  # nothing is left to do


def test_stores_of_one_fit_can_be_merged(dataroot, many, tmp_path):
    like = str(tmp_path / "train")
    precompute(choosing(dataroot, like, subsets=("train",)))
    precompute(choosing(dataroot, tmp_path / "val", subsets=("val",)))
    with pytest.raises(ProvenanceError, match="codec_state"):
        merge(MergeOptions(caches=(like, str(tmp_path / "val")), out=tmp_path / "no"))
    done = precompute(choosing(dataroot, tmp_path / "like", subsets=("val",), like=like))
    assert done.codec == "cells-pca-small"
    assert done.fidelity is None
    merge(MergeOptions(caches=(like, str(tmp_path / "like")), out=tmp_path / "all"))
    precompute(choosing(dataroot, tmp_path / "whole"))
    together, whole = Store.open(tmp_path / "all"), Store.open(tmp_path / "whole")
    clip = {ref.token: whole.read(ref).clip for ref in whole.frames}
    assert len(together.frames) == 6
    for ref in together.frames:
        np.testing.assert_array_equal(together.read(ref).clip, clip[ref.token])
    with pytest.raises(ProvenanceError, match="codec_state"):  # a store is no mixture of two fits
        precompute(choosing(dataroot, tmp_path / "val", like=like))
    with pytest.raises(ConfigError, match=r"codec 'cells-pca-small', not 'cells'"):
        precompute(choosing(dataroot, tmp_path / "other", codec="cells", like=like))


def test_a_dry_run_takes_the_codec_of_the_store_that_the_run_would_be_like(dataroot, tmp_path):
    """Whose encoder has other weights than those that a dry run is timed with."""
    like = str(tmp_path / "train")
    precompute(choosing(dataroot, like, weights=None, codec="dense", subsets=("train",), limit=1))
    asked = choosing(dataroot, tmp_path / "val", weights=None, subsets=("val",), like=like)
    assert estimate(asked).codec == precompute(asked).codec == "dense"
    with pytest.raises(ConfigError, match=r"codec 'dense', not 'cells'"):
        estimate(asked.model_copy(update={"codec": "cells", "out": str(tmp_path / "other")}))
    other = asked.model_copy(update={"grid": "cartesian:0.5", "out": str(tmp_path / "other")})
    for use in (estimate, precompute):
        with pytest.raises(
            ProvenanceError, match=r"could not be merged with: grid 'cylinder.*' there, 'cartesian"
        ) as no:
            use(other)
        assert no.value.path == like


def test_a_dry_run_speaks_of_the_exact_codec_and_fits_none(dataroot, many, monkeypatch, tmp_path):
    monkeypatch.setattr(codec_choice, "voxel_features", lambda *_: pytest.fail("CLIP was run to fit a codec"))
    assert codecs.get(estimate(choosing(dataroot, tmp_path / "s")).codec).lossless


@pytest.mark.parametrize("name", SMALL)
def test_fidelity_is_the_cosine_of_rows(name):
    rows = (RNG.normal(size=(500, 16)) * np.arange(16, 0, -1) + RNG.normal(size=16)).astype(np.float32)
    codec = codecs.get(name)
    state = codec.fit(rows)
    step, mean, basis = float(state["step"][0]), state["mean"].astype(float), state["basis"].astype(float)
    rounded = np.round((rows - mean) @ basis.T / step) * step @ basis + mean  # the codec in plain words
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(rows.astype(float), rounded, strict=True)]
    found = fidelity(codec, state, rows)
    np.testing.assert_allclose(found.mean, np.mean(cosines), atol=2e-4)
    np.testing.assert_allclose(found.first_percentile, np.percentile(cosines, 1), atol=2e-3)
    assert fidelity(codecs.get("cells"), {}, rows).mean > 0.999999


def test_a_tool_for_frames_is_made_of_the_chosen_codec(dataroot, many, tmp_path):
    options = resolved(choosing(dataroot, tmp_path / "s"))
    job, provenance = prepare(options, frames_of(options))
    assert tools_of(job).codec.name == job.codec == provenance.codec == "cells-pca-small"
