"""Submissions in SemanticKITTI's layout: what is written reads back as it was, and faults are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovps.errors import ConfigError
from ovps.inference.formats import format_of
from ovps.inference.kitti_submission import encode, label_path
from ovps.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("semantickitti")
FORMAT = format_of(TAXONOMY)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 2**32 - 1).map(lambda i: i % 5)), max_size=60))
def test_raw_classes_come_back_and_segments_stay_apart(pairs):
    semantic, instance = np.array(pairs, np.int64).reshape(-1, 2).T
    labels = encode(semantic, instance, TAXONOMY)
    np.testing.assert_array_equal(TAXONOMY.decode(labels)[0], semantic)
    things = {(c, i) for c, i in pairs if c in TAXONOMY.thing_ids}
    assert len({int(label) for label in labels if label >> 16}) == len(things)
    for class_id in {c for c, _ in things}:
        numbers = {int(label >> 16) for label in labels[semantic == class_id]}
        assert numbers == set(range(1, len(numbers) + 1))
    assert all(label >> 16 == 0 for label in labels[~np.isin(semantic, TAXONOMY.thing_ids)])


def test_more_instances_than_the_format_holds():
    assert encode(np.ones(65_535, int), np.arange(65_535), TAXONOMY).max() >> 16 == 65_535
    with pytest.raises(ConfigError, match="65,535 instances"):
        encode(np.ones(65_536, int), np.arange(65_536), TAXONOMY)


@pytest.fixture
def submission(tmp_path):
    """Two scans, one of things and stuff, one of nothing."""
    semantic, instance = np.array([1, 1, 6, 9, 0]), np.array([5, 7, 5, 3, 0])
    FORMAT.write(tmp_path, "val", "08_000000", semantic, instance, TAXONOMY)
    unlabelled = FORMAT.write(tmp_path, "val", "08_000720", np.zeros(3, int), np.zeros(3, int), TAXONOMY)
    assert unlabelled == 3
    return tmp_path


POINTS = {"08_000000": 5, "08_000720": 3}


def test_the_layout_is_the_benchmarks(submission):
    path = submission / "sequences" / "08" / "predictions" / "000000.label"
    assert path == label_path(submission, "08_000000")
    labels = np.fromfile(path, "<u4")
    assert labels.tolist() == [1 << 16 | 10, 2 << 16 | 10, 1 << 16 | 30, 40, 0]
    assert FORMAT.check(submission, "val", POINTS, TAXONOMY) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder, path: path.unlink(), "08_000000: no file"),
        (lambda folder, path: path.write_bytes(path.read_bytes()[:-1]), "08_000000: 19 bytes, expected 20"),
        (lambda folder, path: path.write_bytes(b""), "08_000000: 0 bytes"),
        (lambda folder, path: np.arange(5, dtype="<u2").tofile(path), "08_000000: 10 bytes"),
        (lambda folder, path: np.arange(2, 7, dtype="<u4").tofile(path), "5 points of no class of the benchmark"),
        (lambda folder, path: np.full(5, 10, "<u4").tofile(path), "5 points of things without an instance"),
        (lambda folder, path: np.full(5, 40 | 1 << 16, "<u4").tofile(path), "5 points of stuff with an instance"),
        (lambda folder, path: path.rename(path.with_name("000007.label")), "08_000007: not a frame of val"),
        (lambda folder, path: path.rename(path.with_suffix(".bin")), "000000.bin: not a frame of val"),
    ],
)
def test_faults_are_told(submission, spoil, told):
    spoil(submission, label_path(submission, "08_000000"))
    problems = FORMAT.check(submission, "val", POINTS, TAXONOMY)
    assert any(told in problem for problem in problems), problems
