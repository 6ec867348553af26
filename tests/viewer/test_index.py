"""The index of a store: the order of brute force in float64, and a file that knows what it was made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ovps.cache.frame_data import FrameRef
from ovps.viewer import index as module
from ovps.viewer.index import FrameObjects, ObjectIndex, best_frames, collect, load_index, save_index, search

MADE_OF = {"of": "objects", "frames": ["a", "b"], "step": 3}


def ref(token):
    return FrameRef("p", token, "scene", "val", 0, True)


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made():
    rng = np.random.default_rng(3)
    frames = {
        "a": FrameObjects(5 * unit(rng, 4, 8), np.array([True, False, True, True]), list("wxyz"), np.arange(4)),
        "b": FrameObjects(unit(rng, 2, 8), np.array([True, True]), ["u", ""], np.array([7, 8])),
    }
    return collect([ref("a"), ref("b")], lambda r: frames[r.token], 8)


@pytest.mark.parametrize("negatives", [0, 1, 4])
@pytest.mark.parametrize("block", [7, 10_000])
def test_the_best_are_those_of_brute_force(monkeypatch, negatives, block):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(negatives)
    vectors = unit(rng, 500, 32).astype(np.float16)
    query, others = unit(rng, 1, 32), unit(rng, negatives, 32)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    expected = exact @ query[0].astype(np.float64)
    if negatives:
        expected = expected - (exact @ others.T.astype(np.float64)).max(axis=1)
    found = search(vectors, query, others, 20)
    assert found.best.tolist() == np.argsort(-expected)[:20].tolist()
    np.testing.assert_allclose(found.margins[found.best], expected[found.best], atol=1e-6)
    np.testing.assert_allclose(found.margins, expected, atol=4e-3)  # float16


def test_what_may_not_be_found_is_not(made):
    query = np.asarray(made.vectors[2], np.float32)[None]
    usable = np.array([True, True, False, False, False])
    ranking = search(made.vectors, query / np.linalg.norm(query), np.zeros((0, 8), np.float32), 9, usable)
    assert sorted(ranking.best.tolist()) == [0, 1]
    assert [token for token, _ in best_frames(made, ranking, 5)] == ["a"]


def test_fewer_objects_than_were_asked_for_are_all_listed(made):
    query = np.asarray(made.vectors[2], np.float32)[None]
    found = search(made.vectors, query / np.linalg.norm(query), np.zeros((0, 8), np.float32), 50)
    assert sorted(found.best.tolist()) == list(range(5))
    assert found.best[0] == 2
    empty = collect([], lambda r: None, 8)
    assert len(search(empty.vectors, query, query, 3).best) == 0
    assert best_frames(empty, search(empty.vectors, query, query, 3), 3) == []


def test_what_no_camera_saw_is_left_out_and_numbers_stay_those_of_the_frame(made):
    assert made.frame.tolist() == ["a", "a", "a", "b", "b"]
    assert made.segment.tolist() == [0, 2, 3, 0, 1]
    assert made.name.tolist() == ["w", "y", "z", "u", ""]
    assert made.points.tolist() == [0, 2, 3, 7, 8]
    np.testing.assert_allclose(np.linalg.norm(made.vectors.astype(np.float32), axis=1), 1, atol=2e-3)
    assert made.row_of("a", 2) == 1
    assert made.row_of("a", 1) is None
    assert made.row_of("c", 0) is None


def test_frames_rank_by_their_best_object(made):
    query = np.asarray(made.vectors[4], np.float32)[None]
    ranking = search(made.vectors, query / np.linalg.norm(query), np.zeros((0, 8), np.float32), 3)
    assert [token for token, _ in best_frames(made, ranking, 5)] == ["b", "a"]
    assert best_frames(made, ranking, 1)[0][1] == pytest.approx(1, abs=2e-3)


def test_an_index_comes_back_as_it_was_until_what_it_was_made_of_changes(made, tmp_path):
    assert load_index(tmp_path, MADE_OF) is None
    save_index(made, tmp_path, MADE_OF)
    again = load_index(tmp_path, MADE_OF)
    for field in dataclasses.fields(made):
        assert getattr(again, field.name).tolist() == getattr(made, field.name).tolist()
    assert load_index(tmp_path, MADE_OF | {"step": 4}) is None


@pytest.mark.parametrize("file", ["vectors.npy", "objects.parquet"])
@pytest.mark.parametrize("content", [b"", b"nonsense", None, "another"])
def test_a_damaged_index_is_none(made, tmp_path, file, content):
    save_index(made, tmp_path, MADE_OF)
    if content is None:
        (tmp_path / file).unlink()
    elif content == "another":  # of as many objects
        turned = {field.name: getattr(made, field.name)[::-1] for field in dataclasses.fields(made)}
        save_index(ObjectIndex(**turned), tmp_path / "other", MADE_OF)
        (tmp_path / "other" / file).replace(tmp_path / file)
    else:
        (tmp_path / file).write_bytes(content)
    assert load_index(tmp_path, MADE_OF) is None
