"""Classes shown by segments of a store: against features computed anew from points and labels, and without CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.examples import main as benchmark
from benchmarks.examples import objects, shown
from ovps import clip
from ovps.cache.reader import Store
from ovps.errors import ConfigError, VocabularyError
from ovps.examples import WEIGHT, ClassOf, add_examples, parse_examples, shift_to_texts
from ovps.inference.session import open_session
from ovps.segment_reference import Segment
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.vocabulary import load_vocabulary
from pipelines.examples import GAP_FRAMES, gap, no_names, show_examples
from pipelines.options import VocabularyOptions
from pipelines.vocabulary import build
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.untrained import untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    return untrained(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def store(made) -> Store:
    return Store.open(made[1])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def truth_of(store, subset, name):
    """Mean CLIP feature of every instance of a class, from the points alone."""
    found = []
    for ref in store.frames:
        frame = store.read(ref)
        semantic, instance = store.taxonomy.decode(frame.label)
        for one in np.unique(instance[semantic == store.taxonomy.by_name[name].id]):
            points = (semantic == store.taxonomy.by_name[name].id) & (instance == one) & (frame.views > 0)
            if ref.subset == subset and points.sum() >= store.taxonomy.min_points:
                found.append(frame.clip[frame.point_voxel[points]].mean(axis=0))
    return np.array(found)


def test_a_class_by_the_objects_of_a_subset_needs_neither_clip_nor_names(made, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clip, "load", lambda *_: pytest.fail("CLIP was loaded"))
    summary = build(
        VocabularyOptions(
            cache=str(made[1]), out=tmp_path / "v", examples=("coach=bus@train", "kerb:stuff=sidewalk@train")
        )
    )
    frames = sum(ref.subset == "train" for ref in store.frames)
    assert capsys.readouterr().err.count(f"examples: {frames} of {frames} frames") == 2
    assert (summary.classes, summary.embeddings, summary.weights_random) == (2, 2, store.provenance.weights_random)
    read = load_vocabulary(tmp_path / "v")
    assert [(e.name, e.kind) for e in read.entries] == [("coach", "thing"), ("kerb", "stuff")]
    assert (read.encoder, read.weights_sha256) == (store.vocabulary.encoder, store.vocabulary.weights_sha256)
    own = {name: row for row, name in enumerate(store.vocabulary.names)}
    best = (read.embeddings @ store.vocabulary.embeddings.T).argmax(axis=1)
    assert best.tolist() == [own["bus"], own["sidewalk"]]
    frames = [store.read(ref) for ref in store.frames if ref.subset == "train"]
    features = np.concatenate([f.clip[f.valid] for f in frames])
    shift = store.vocabulary.embeddings.mean(axis=0) - features.mean(axis=0)
    for row, name in enumerate(("bus", "sidewalk")):
        expected = unit(unit(unit(truth_of(store, "train", name)).mean(axis=0)) + shift)
        assert read.embeddings[row] @ expected > 0.99  # voxels share points: features of points differ a little


def test_texts_are_moved_towards_examples_and_others_stay(store):
    refs = [ref for ref in store.frames if ref.subset == "train"]
    one = store.objects(refs[0])
    row = int(np.flatnonzero(one.seen_points > 0)[0])
    named = (Segment("c|d,e.0", 81), ClassOf("a|b", "train"))
    for text in ('scooter="c|d,e.0:81"|"a|b@train"', 'scooter="c|d,e.0":81|"a|b"@train'):
        assert parse_examples(text).items == named
    asked = parse_examples(f"Car={refs[0].token}:{row}")
    assert asked.items == (Segment(refs[0].token, row),)
    found = show_examples(store.vocabulary, store, [asked])
    number = store.vocabulary.names.index("car")
    own = store.vocabulary.class_index == number
    expected = unit(store.vocabulary.embeddings[own] + WEIGHT * unit(one.embedding[row]))
    np.testing.assert_allclose(found.embeddings[own], expected, atol=1e-6)
    np.testing.assert_array_equal(found.embeddings[~own], store.vocabulary.embeddings[~own])
    np.testing.assert_array_equal(found.class_index, store.vocabulary.class_index)
    assert found.entries[number].synonyms[0].endswith("and 1 example")
    assert found.names == store.vocabulary.names


def test_what_classes_show_is_of_their_kind(store):
    asked = ("lawn=sidewalk@train", "verge:thing=sidewalk@train", "coach=bus@train", "both=bus@train|sidewalk@train")
    found = show_examples(no_names(store), store, [parse_examples(text) for text in asked])
    assert [(e.name, e.kind) for e in found.entries] == [
        ("lawn", "stuff"), ("verge", "thing"), ("coach", "thing"), ("both", "thing"),
    ]  # fmt: skip


@pytest.mark.parametrize(("labelled", "of"), [(True, "clusters:"), (False, "clusters:"), (False, "")])
def test_clusters_are_examples_where_they_are_named_or_there_is_nothing_else(tmp_path, labelled, of):
    store = Store.open(write_synthetic_store(tmp_path / "zarr", frames=1, labelled=labelled, subsets=("val",)))
    (ref,) = store.frames
    frame = store.read(ref)
    vectors, seen = pooled_clip(frame, label_free(frame))
    number = int(np.flatnonzero(seen)[-1])
    found = show_examples(no_names(store), store, [parse_examples(f"found={ref.token}:{of}{number}")])
    shift = shift_to_texts([frame.clip[frame.valid]], store.vocabulary.embeddings)
    np.testing.assert_allclose(found.embeddings[0], unit(unit(vectors[number]) + shift), atol=1e-5)


def test_the_way_from_images_to_texts_is_the_difference_of_means():
    rng = np.random.default_rng(0)
    features, texts = [rng.normal(size=(n, 5)) for n in (3, 8)], rng.normal(size=(4, 5))
    expected = texts.mean(axis=0) - np.concatenate(features).mean(axis=0)
    np.testing.assert_allclose(shift_to_texts(features, texts), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("car", "no examples"),
        ("car=", "no examples"),
        ("car, bus=x:1", "more than one name"),
        ("car=x", "names no segment and no class"),
        ("car=gone:1", "no frame gone"),
        ("car=tram@train", "no class of nuscenes"),
        ("car=car@test", "no labelled car in test"),
        ("car=FRAME:segments:1", "a segment of a run, and a store has none"),
        ("car=FRAME:clusters:99999", r"no segment .*:clusters:99999 that a camera sees"),
        ("car=FRAME:999", r"no segment .*:999 that a camera sees"),
        ("driveable_surface:thing=car@train", "is stuff, not thing"),
    ],
)
def test_what_shows_nothing_is_refused_and_the_remedy_works(store, text, words):
    frame = store.frames[0].token
    with pytest.raises(VocabularyError, match=words) as caught:
        show_examples(
            store.vocabulary, store, [parse_examples(text.replace("FRAME", frame).replace("road", "sidewalk"))]
        )
    assert caught.value.remedy
    if "999" in text:
        number = caught.value.remedy.split("has ")[1].split(",")[0].split(";")[0]
        mended = f"{text.replace('FRAME', frame).rpartition(':')[0]}:{number}"
        show_examples(store.vocabulary, store, [parse_examples(mended)])


@pytest.mark.parametrize("shown", [("bus=car@train", "Bus=bus@train"), ("bus=bus@train|bus@train",)])
def test_nothing_counts_twice(made, tmp_path, shown):
    with pytest.raises(ConfigError, match="twice") as caught:
        build(VocabularyOptions(cache=str(made[1]), out=tmp_path / "v", examples=shown))
    assert caught.value.remedy
    build(VocabularyOptions(cache=str(made[1]), out=tmp_path / "v", examples=("bus=car@train|bus@train",)))


def test_the_same_segments_under_two_names_are_warned_of(made, store, tmp_path):
    """In whatever order they are named; what examples set apart is not warned of."""
    frame = next(ref for ref in store.frames if ref.subset == "train")
    seen = np.flatnonzero(store.objects(frame).seen_points > 0)[:3]
    one, two, three = (f"{frame.token}:{number}" for number in seen)
    shown = (f"coach={one}|{two}", f"tram={two}|{one}", f"lorry={three}", "bus=bus@train")
    (warning,) = build(VocabularyOptions(cache=str(made[1]), out=tmp_path / "v", examples=shown)).warnings
    assert warning.startswith("coach (as '2 examples') and tram (as '2 examples') have the same embedding")


def test_the_same_words_with_other_examples_are_no_longer_equal(tmp_path):
    demo = clip.load("demo")
    known = {"encoder": "demo", "weights_sha256": demo.weights.sha256, "clip_dim": demo.dim}
    cache = str(write_synthetic_store(tmp_path / "zarr", frames=1, subsets=("train",), **known))
    options = VocabularyOptions(names="coach=bus, tram=bus", cache=cache, out=tmp_path / "v")
    assert "same embedding" in build(options).warnings[0]
    assert build(options.model_copy(update={"examples": ("coach=bus@train",)})).warnings == []
    both = ("coach=bus@train", "tram=bus@train")
    assert "same embedding" in build(options.model_copy(update={"examples": both})).warnings[0]


def test_the_order_of_segments_in_many_frames_changes_nothing(tmp_path):
    store = Store.open(write_synthetic_store(tmp_path / "zarr", frames=GAP_FRAMES + 5, points=60, subsets=("train",)))
    refs = list(store.frames)
    shuffled = [refs[i] for i in np.random.default_rng(0).permutation(len(refs))]
    np.testing.assert_array_equal(gap(store, shuffled), gap(store, refs))


def test_names_of_another_clip_are_refused(made, tmp_path):
    asked = {"names": "car", "encoder": "demo", "cache": str(made[1]), "out": tmp_path / "v"}
    with pytest.raises(VocabularyError, match="examples have features of") as caught:
        build(VocabularyOptions(**asked, examples=("car=car@train",)))
    assert "--encoder" in caught.value.remedy


def test_the_benchmark_draws_from_frames_that_it_does_not_score(made):
    session = open_session(*made, device="cpu")
    pool = objects(session.store, "train")
    bus = session.taxonomy.by_name["bus"].id
    np.testing.assert_allclose(unit(pool[bus]), unit(truth_of(session.store, "train", "bus")), atol=0.2)
    shift = gap(session.store, session.store.frames)
    assert shown(session, pool, shift, 0, 0) is session.vocabulary
    for draw in range(3):
        found = shown(session, pool, shift, 1, draw)
        moved = np.flatnonzero((found.embeddings != session.vocabulary.embeddings).any(axis=1))
        owners = {session.vocabulary.names[i] for i in session.vocabulary.class_index[moved]}
        assert owners == {session.taxonomy.by_id[i].name for i in session.novel if i in pool}
        choices = [add_examples(session.vocabulary, "bus", None, v[None], shift).embeddings for v in pool[bus]]
        own = session.vocabulary.class_index == session.vocabulary.names.index("bus")
        assert any(np.allclose(found.embeddings[own], c[own]) for c in choices)
    with pytest.raises(ConfigError, match="frames that are scored"):
        benchmark(*made, subset="val", source="val")


def test_examples_are_read_as_they_are_written():
    assert parse_examples("tree:stuff= a:1 | bus@train").items == (Segment("a", 1), ClassOf("bus", "train"))
    named = parse_examples('tree=a:b:objects:1|"c|d":clusters:2|segments:3').items
    assert named == (Segment("a:b", 1, "objects"), Segment("c|d", 2, "clusters"), Segment("segments", 3))
