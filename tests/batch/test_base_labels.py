from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovps.batch.base_labels import ClassSplit, base_points, make_targets, vote
from ovps.errors import CacheError
from ovps.taxonomy import ClassInfo, Split, Taxonomy
from tests.training.small import classes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1))
def test_vote_against_a_slow_reference(points):
    present = sorted({v for v, _ in points})
    voxel = np.array([present.index(v) for v, _ in points])
    segment = np.array([s for _, s in points])
    for row, winner in enumerate(vote(voxel, segment, len(present))):
        counts = Counter(segment[voxel == row].tolist())
        assert winner == min(counts, key=lambda s: (-counts[s], s))


def test_a_tie_with_unlabelled_points_is_unlabelled():
    assert vote(np.array([0, 0]), np.array([-1, 0]), 1).tolist() == [-1]


def test_novel_points_have_neither_class_nor_instance(frame):
    base = classes()
    semantic, instance = base_points(frame.label, base)
    true, _ = base.taxonomy.decode(frame.label)
    novel = np.isin(true, base.split.novel_ids(base.taxonomy))
    assert novel.any()
    assert not semantic[novel].any()
    assert not instance[novel].any()
    assert np.array_equal(semantic[~novel], true[~novel])


def test_targets_against_a_slow_reference(frame):
    base = classes()
    targets = make_targets(frame, frame.point_voxel, len(frame.coords), base)
    semantic, instance = base_points(frame.label, base)
    winner = []
    for voxel in range(len(frame.coords)):
        inside = frame.point_voxel == voxel
        counts = Counter(zip(semantic[inside].tolist(), instance[inside].tolist(), strict=True))
        winner.append(min(counts, key=lambda key: (-counts[key], key)))
    segments = sorted({key for key in winner if key[0]})
    assert [segments.index(key) if key[0] else -1 for key in winner] == targets.voxel_segment.tolist()
    assert [base.names.index(base.taxonomy.by_id[c].name) for c, _ in segments] == targets.segment_class.tolist()
    assert [base.taxonomy.by_id[c].kind == "thing" for c, _ in segments] == targets.segment_is_thing.tolist()
    objects = list(zip(frame.object_class.tolist(), frame.object_instance.tolist(), strict=True))
    for row, key in enumerate(segments):
        seen = frame.object_seen_points[objects.index(key)] > 0
        assert bool(targets.object_valid[row]) == seen
        expected = frame.object_embedding[objects.index(key)] if seen else np.zeros(16)
        assert np.array_equal(targets.object_embedding[row], expected)


def test_targets_do_not_change_with_the_novel_labels(frame):
    base = classes()
    true, _ = base.taxonomy.decode(frame.label)
    novel = np.isin(true, base.split.novel_ids(base.taxonomy))
    coarse = frame.point_voxel // 7  # voxels of many classes
    _, coarse = np.unique(coarse, return_inverse=True)
    before = make_targets(frame, coarse, coarse.max() + 1, base)
    for other in (0, 16_001, 2_005, 30_000):  # deleted, bus, pedestrian, vegetation
        changed = replace(frame, label=np.where(novel, other, frame.label).astype(np.uint32))
        after = make_targets(changed, coarse, coarse.max() + 1, base)
        for name, value in vars(before).items():
            assert np.array_equal(value, getattr(after, name)), name


def test_class_ids_need_not_be_contiguous_or_ascending(frame):
    """Classes 40 (thing), 7 (stuff, novel), 3 (stuff): positions follow the taxonomy, not the ids."""
    info = [(40, "car", "thing"), (7, "tree", "stuff"), (3, "road", "stuff")]
    taxonomy = Taxonomy(
        name="odd",
        min_points=1,
        instance_divisor=1000,
        classes=tuple(ClassInfo(id=i, name=n, kind=k, color=(0, 0, 0), synonyms=(n,)) for i, n, k in info),
        raw_to_id={17: 40, 30: 7, 24: 3},
    )
    base = ClassSplit(taxonomy, Split(name="s", taxonomy="odd", novel=("tree",)))
    assert base.names == ("car", "road")
    assert base.stuff == (1,)
    targets = make_targets(frame, frame.point_voxel, len(frame.coords), base)
    assert targets.segment_class.tolist() == [1, 0, 0]  # road, two cars: by ascending class id
    assert targets.segment_is_thing.tolist() == [False, True, True]


def test_a_frame_without_base_labels_has_no_segments(frame):
    targets = make_targets(
        replace(frame, label=np.zeros_like(frame.label)), frame.point_voxel, len(frame.coords), classes()
    )
    assert len(targets.segment_class) == 0
    assert (targets.voxel_segment == -1).all()
    assert targets.object_embedding.shape == (0, 16)


def test_a_frame_without_labels_is_refused(frame):
    with pytest.raises(CacheError, match=frame.token):
        make_targets(replace(frame, label=None), frame.point_voxel, len(frame.coords), classes())
