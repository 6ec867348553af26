"""Vocabulary files: what goes in comes out, and what is refused."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ovps.errors import StorageError, VocabularyError
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import (
    Entry,
    Vocabulary,
    digest,
    entries_of,
    first_synonyms,
    load_vocabulary,
    save_vocabulary,
)

ENTRIES = (Entry("car", "thing", ("car", "sedan")), Entry("road", "stuff", ("straße",)))


def _vocabulary(entries=ENTRIES, dim=8):
    index = np.array([i for i, e in enumerate(entries) for _ in e.synonyms], np.int64)
    embeddings = np.random.default_rng(0).normal(size=(len(index), dim)).astype(np.float32)
    return Vocabulary(
        entries, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), index, "RN50", "random-0"
    )


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "vocab.safetensors"
    before = _vocabulary()
    save_vocabulary(before, path)
    after = load_vocabulary(path)
    assert after.entries == before.entries
    assert (after.encoder, after.weights_sha256) == (before.encoder, before.weights_sha256)
    assert after.embeddings.dtype == np.float32
    assert after.class_index.dtype == np.int64
    np.testing.assert_array_equal(after.embeddings, before.embeddings)
    np.testing.assert_array_equal(after.class_index, before.class_index)
    assert after.names == ("car", "road")
    assert after.is_thing.tolist() == [True, False]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_strides_do_not_matter(tmp_path):
    normal = _vocabulary()
    fortran = np.asfortranarray(normal.embeddings)
    save_vocabulary(Vocabulary(normal.entries, fortran, normal.class_index, "RN50", "random-0"), tmp_path / "v")
    np.testing.assert_array_equal(load_vocabulary(tmp_path / "v").embeddings, normal.embeddings)


def test_equal_vocabularies_give_equal_bytes(tmp_path):
    files = [tmp_path / str(i) for i in range(8)]
    for file in files:
        save_vocabulary(_vocabulary(), file)
    assert len({file.read_bytes() for file in files}) == 1


def test_entries_of_a_taxonomy():
    entries = entries_of(load_taxonomy("nuscenes"))
    assert [e.name for e in entries][:2] == ["barrier", "bicycle"]
    assert sum(e.kind == "stuff" for e in entries) == 6
    assert all(e.synonyms for e in entries)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_refused(value):
    """As damaged weights make them: every score would be NaN."""
    embeddings = _vocabulary().embeddings.copy()
    embeddings[1, 3] = value
    with pytest.raises(VocabularyError, match="text embeddings of RN50 hold NaN"):
        Vocabulary(ENTRIES, embeddings, np.array([0, 0, 1]), "RN50", "random-0")


def test_embeddings_that_do_not_fit_the_entries():
    with pytest.raises(VocabularyError, match="disagree"):
        Vocabulary(ENTRIES, np.zeros((2, 8), np.float32), np.zeros(3, np.int64), "RN50", "x")
    for index in ([0, 0, 0], [0, 1, 2], [-1, 0, 1]):
        with pytest.raises(VocabularyError, match="at least one"):
            Vocabulary(ENTRIES, np.zeros((3, 8), np.float32), np.array(index), "RN50", "x")


def test_missing_file(tmp_path):
    with pytest.raises(VocabularyError, match="ovps vocab build") as caught:
        load_vocabulary(tmp_path / "gone.safetensors")
    assert caught.value.path == str(tmp_path / "gone.safetensors")


def _refused(path):
    with pytest.raises(VocabularyError) as caught:
        load_vocabulary(path)
    assert caught.value.path == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "v.safetensors"
    save_vocabulary(_vocabulary(), path)
    path.write_bytes(path.read_bytes()[:keep])
    _refused(path)


@pytest.mark.parametrize(
    "metadata",
    [
        *({}, {"ovps-vocabulary-2": "{}"}, {"ovps-vocabulary-1": "{"}, {"ovps-vocabulary-1": "[]"}),
        *(
            {"ovps-vocabulary-1": f'{{"encoder": "", "weights_sha256": "", "entries": {e}}}'}
            for e in ("[1]", "[]", "1")
        ),
    ],
)
def test_safetensors_that_are_no_vocabulary(tmp_path, metadata):
    path = tmp_path / "v.safetensors"
    tensors = {"embeddings": np.ones((1, 2), np.float32), "class_index": np.zeros(1, np.int64)}
    save_file(tensors, path, metadata=metadata)
    _refused(path)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "v.safetensors"
    save_vocabulary(_vocabulary(), path)
    before = path.read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
        with pytest.raises(StorageError) as caught:
            save_vocabulary(_vocabulary(dim=4_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.path == str(path)
    assert caught.value.remedy
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_first_synonyms_keeps_one_row_of_each_entry():
    entries = (Entry("a", "thing", ("x", "y")), Entry("b", "stuff", ("z",)), Entry("c", "thing", ("u", "v", "w")))
    whole = _vocabulary(entries)
    order = np.array([3, 0, 2, 4, 1, 5])  # rows need not lie in the order of the entries
    mixed = Vocabulary(entries, whole.embeddings[order], whole.class_index[order], "RN50", "random-0")
    for vocabulary in (whole, mixed):
        single = first_synonyms(vocabulary)
        assert [e.synonyms for e in single.entries] == [("x",), ("z",), ("u",)]
        assert single.class_index.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(single.embeddings, whole.embeddings[[0, 2, 3]])


def test_a_digest_is_of_what_labels_depend_on():
    one = _vocabulary()
    assert digest(one) == digest(_vocabulary())
    renamed = (Entry("lorry", "thing", ("car", "sedan")), ENTRIES[1])
    assert digest(_vocabulary(renamed)) != digest(one)
    assert digest(first_synonyms(one)) != digest(one)
    moved = one.embeddings.copy()
    moved[0, 0] += 1e-6
    assert digest(Vocabulary(one.entries, moved, one.class_index, "RN50", "random-0")) != digest(one)


@given(st.data())
def test_a_flipped_bit_is_never_read(data):
    """Every value of a float is a float: only the digest tells that it is another."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "v.safetensors"
        save_vocabulary(_vocabulary(), path)
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        remedy = ""
        try:
            found = load_vocabulary(path)
        except VocabularyError as error:
            found, remedy = None, error.remedy
        if found is not None:  # JSON may write a letter with \u00df or \u00Df
            assert (found.entries, digest(found)) == (ENTRIES, digest(_vocabulary()))
        else:
            assert remedy.startswith(("Build one", "Use the ovps that wrote it"))
