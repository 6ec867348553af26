"""Reference rows on the synthetic store, and the tally of a perfect prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ovps.cache.reader import Store
from ovps.errors import VocabularyError
from ovps.evaluation.reference import clip_argmax, nearest_entry, random_class, true_masks
from ovps.evaluation.tally import Tally
from ovps.inference.prediction import FramePrediction, PointLabels, class_ids, class_warnings, mixed_kinds
from ovps.model.class_text import ClassText
from ovps.systems import closed_set
from ovps.taxonomy import load_split, load_taxonomy
from ovps.vocabulary import Entry, Vocabulary, entries_of
from tests.helpers.synthetic_store import write_synthetic_store

TAXONOMY = load_taxonomy("nuscenes")
NOVEL = load_split("b12n4").novel_ids(TAXONOMY)
ENTRY_OF = np.array([-1, *range(16)])  # entries of the store's vocabulary by class id


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(write_synthetic_store(tmp_path_factory.mktemp("store") / "zarr", subsets=("val",), frames=3))


@pytest.fixture(scope="module")
def frame(store):
    return store.read(store.frames[0])


def test_nearest_entry_takes_the_best_synonym():
    eye = np.eye(3, dtype=np.float32)
    entries = (Entry("a", "thing", ("a", "b")), Entry("c", "stuff", ("c",)))
    vocabulary = Vocabulary(entries, eye, np.array([0, 0, 1]), "x", "y")
    features = np.array([[0.1, 0.9, 0.5], [0.1, 0.3, 0.5], [0, 0, 0]], np.float32)
    assert nearest_entry(features, np.array([True, True, False]), vocabulary).tolist() == [0, 1, -1]
    assert nearest_entry(features[:0], np.zeros(0, bool), vocabulary).tolist() == []


def test_clip_argmax_and_true_masks_find_what_clean_features_say(store, frame):
    semantic, instance = TAXONOMY.decode(frame.label)
    entry = clip_argmax(frame, store.vocabulary)
    assert ((entry >= 0) == frame.valid[frame.point_voxel]).all()
    seen = (entry >= 0) & (semantic > 0)
    assert (entry[seen] == ENTRY_OF[semantic[seen]]).mean() > 0.7  # voxels are coarse, some hold two classes

    entry, number = true_masks(frame, semantic, instance, store.vocabulary)
    named = entry >= 0
    assert named.mean() > 0.7  # a car may stand where no camera looks
    assert (entry[named] == ENTRY_OF[semantic[named]]).all()
    assert not named[semantic == 0].any()
    for key in set(zip(semantic[named].tolist(), instance[named].tolist(), strict=True)):
        segment = (semantic == key[0]) & (instance == key[1])
        assert len(set(zip(entry[segment], number[segment], strict=True))) == 1


def test_random_class_keeps_segments_and_kinds(store):
    rng = np.random.default_rng(0)
    entry = np.repeat([-1, 3, 3, 10, 15], 20)
    instance = np.repeat([0, 1, 2, 0, 0], 20)
    kinds = store.vocabulary.is_thing
    drawn = [random_class(entry, instance, store.vocabulary, rng) for _ in range(400)]
    for classes, number in drawn:
        assert (classes[:20] == -1).all()
        assert kinds[classes[20:60]].all()
        assert not kinds[classes[60:]].any()
        assert len(set(zip(classes[20:60].tolist(), number[20:60].tolist(), strict=True))) == 2
        assert (number[60:] == 0).all()
    hits = np.mean([c[20] == 3 for c, _ in drawn])
    assert hits == pytest.approx(0.1, abs=0.05)  # one of ten things


def perfect(frame):
    semantic, instance = TAXONOMY.decode(frame.label)
    labels = PointLabels(ENTRY_OF[semantic], instance.astype(np.int64))
    masks = np.stack(
        [np.bincount(frame.point_voxel[semantic == c.id], minlength=len(frame.coords)) > 0 for c in TAXONOMY.classes]
    )
    return FramePrediction(labels, {"unsplit": labels}, frame.point_voxel, masks)


def test_a_perfect_prediction_scores_one_and_chance_far_less(store):
    tally = Tally(TAXONOMY, NOVEL, store.vocabulary)
    for number, ref in enumerate(store.frames):
        frame = store.read(ref)
        tally.add(frame, perfect(frame), number)
    summary = tally.summary()
    system, chance, argmax, ceiling = summary["system"], *summary["references"]
    assert system.panoptic.groups["all"].pq_present == pytest.approx(1)
    assert system.panoptic.groups["novel/things"].miou == pytest.approx(3 / 3)
    assert summary["variants"][0].panoptic == system.panoptic
    assert chance.panoptic.groups["all"].pq < 0.3
    assert not argmax.instances
    assert 0.2 < argmax.panoptic.groups["all"].miou_present < 1
    assert ceiling.panoptic.groups["all"].pq_present > 0.8
    assert summary["mask_recall"]["merged"].groups["all"].recall == 1
    assert 0 < summary["mask_recall"]["queries"].groups["all"].recall < 1
    assert summary["miou"]["seen"]["all"] == summary["miou"]["unseen"]["all"] == 1
    assert 0.5 < summary["seen_points"] < 0.9


def test_entries_that_do_not_fit_the_classes_are_told_of():
    names = [
        "Construction Vehicle",
        *(c.name for c in TAXONOMY.classes if c.name not in ("construction_vehicle", "bus")),
    ]
    kinds = ["thing" if n in ("car", "terrain") else "stuff" for n in names]
    entries = tuple(Entry(n, k, (n,)) for n, k in zip([*names, "unicorn"], [*kinds, "thing"], strict=True))
    rows = np.eye(len(entries), dtype=np.float32)
    vocabulary = Vocabulary(entries, rows, np.arange(len(entries)), "x", "y")
    assert class_ids(vocabulary, TAXONOMY)[0] == TAXONOMY.by_name["construction_vehicle"].id
    unnamed, distractors, kinds = *class_warnings(vocabulary, TAXONOMY), *mixed_kinds(vocabulary, TAXONOMY)
    assert "named after bus:" in unnamed
    assert distractors.startswith("unicorn: no class of nuscenes")
    assert "Construction Vehicle:thing" in kinds
    assert "terrain:stuff" in kinds
    assert "car" not in kinds.replace("cargo", "")
    own = Vocabulary(entries_of(TAXONOMY), np.eye(16, dtype=np.float32), np.arange(16), "x", "y")
    assert class_warnings(own, TAXONOMY) == mixed_kinds(own, TAXONOMY) == []


def test_base_entries_are_known_however_they_are_spelt():
    entries = tuple(Entry(n, "thing", (n,)) for n in ("Construction vehicle", "BUS", "unicorn"))
    vocabulary = Vocabulary(entries, np.eye(3, dtype=np.float32), np.arange(3), "x", "y")
    assert ClassText.of(vocabulary, ("bus", "construction_vehicle")).trained.tolist() == [True, True, False]
    closed = closed_set.SYSTEM.classes(
        replace(vocabulary, entries=entries[:2], embeddings=vocabulary.embeddings[:2], class_index=np.arange(2)),
        ("bus", "construction_vehicle"),
    )
    assert closed.text.tolist() == [[0, 1], [1, 0]]


def test_an_unseen_prediction_is_a_miss_and_distractors_are_no_class(store, frame):
    names = [c.name for c in TAXONOMY.classes] + ["unicorn"]
    rows = np.concatenate([store.vocabulary.embeddings, store.vocabulary.embeddings[:1]])
    entries = tuple(Entry(n, "thing", (n,)) for n in names)
    vocabulary = Vocabulary(entries, rows, np.arange(17), "x", "y")
    assert class_ids(vocabulary, TAXONOMY).tolist() == [*range(1, 17), 0, 0]
    tally = Tally(TAXONOMY, NOVEL, vocabulary)
    everything_unicorn = PointLabels(np.full(len(frame.xyz), 16), np.zeros(len(frame.xyz), np.int64))
    no_masks = np.zeros((0, len(frame.coords)), bool)
    tally.add(frame, FramePrediction(everything_unicorn, {}, frame.point_voxel, no_masks), 0)
    summary = tally.summary()
    assert summary["system"].panoptic.groups["all"].pq == 0
    assert summary["mask_recall"]["queries"].groups["all"].found == 0

    with pytest.raises(VocabularyError, match="unicorn"):
        class_ids(Vocabulary((Entry("unicorn", "thing", ("u",)),), rows[:1], np.array([0]), "x", "y"), TAXONOMY)


def test_true_masks_find_stuff_whose_segments_are_whole_raw_labels(frame):
    """In SemanticKITTI road and lane marking are two segments to the evaluator, and one object with one embedding."""
    kitti, points = load_taxonomy("semantickitti"), len(frame.label)
    road, marking, car = 40, 60, 7 << 16 | 10
    label = np.repeat([road, marking, car], [300, 60, points - 360]).astype(np.uint32)
    entries = entries_of(kitti)
    rows = [entry.name for entry in entries]
    text = np.eye(len(entries), frame.clip.shape[1], dtype=np.float32)
    vocabulary = Vocabulary(entries, text, np.arange(len(entries)), "x", "y")
    _, instance = kitti.decode(label)
    seen = replace(
        frame, label=label,
        object_class=np.array([kitti.by_name["road"].id, kitti.by_name["car"].id]),
        object_instance=np.array([0, instance[-1]]), object_seen_points=np.array([360, points - 360]),
        object_points=np.array([360, points - 360]), object_embedding=text[[rows.index("road"), rows.index("car")]],
    )  # fmt: skip
    nothing = PointLabels(np.full(points, -1), np.zeros(points, np.int64))
    tally = Tally(kitti, (), vocabulary)
    tally.add(seen, FramePrediction(nothing, {}, seen.point_voxel, np.zeros((0, len(seen.coords)), bool)), 0)
    ceiling = tally.summary()["references"][-1].panoptic
    found = {row.name: row for row in ceiling.classes if row.name in ("road", "car")}
    assert found["car"].pq == 1
    assert found["road"].iou == 1  # every point of it is named
    assert (found["road"].tp, found["road"].fp, found["road"].fn) == (1, 0, 1)  # of 300 points; of 60, the marking
