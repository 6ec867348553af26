"""Segments: those of labels are numbered as a store's objects, those of a run as it predicts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from ovps.inference.predict_frame import predict_frame
from ovps.inference.session import open_session
from ovps.viewer.answers import answer_of
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.labelling import taxonomy_palette, vocabulary_palette
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.vocabulary import Entry, Vocabulary
from pipelines.train import TrainOptions, train
from tests.pipelines.untrained import LOOSE, TINY


def test_true_segments_are_the_objects_of_the_store(plain):
    frame, truth = plain.frame, plain.truth
    assert truth.size.tolist() == frame.object_points.tolist()
    assert truth.palette.class_id[truth.segment_entry].tolist() == frame.object_class.tolist()
    for row, key in enumerate(frame.object_instance):
        assert (truth.instance[truth.segment == row] == key).all()
    semantic, _ = plain.taxonomy.decode(frame.label)
    assert (truth.class_id == semantic).all()
    assert ((truth.segment < 0) == (semantic == 0)).all()


def test_the_store_reads_objects_alone_as_with_the_frame(session):
    for ref in session.store.frames:
        whole, alone = session.store.read(ref), session.store.objects(ref)
        assert (whole.object_embedding == alone.embedding).all()
        assert (whole.object_class == alone.classes).all()
        assert (whole.object_seen_points == alone.seen_points).all()


def test_pooled_features_are_means_over_seen_points(plain):
    frame, truth = plain.frame, plain.truth
    features, seen = pooled_clip(frame, truth)
    for row in range(len(features)):
        rows = (truth.segment == row) & (frame.views > 0)
        assert seen[row] == rows.any()
        expected = frame.clip[frame.point_voxel[rows]].mean(axis=0) if rows.any() else 0
        np.testing.assert_allclose(features[row], expected, atol=1e-6)


def test_label_free_clusters_stand_off_the_ground_and_need_no_label(plain):
    found = label_free(plain.frame)
    assert found.segment.max() >= 1
    road = plain.truth.class_id == plain.taxonomy.by_name["driveable_surface"].id
    assert (found.segment[road] >= 0).mean() < 0.2


def test_the_answer_is_what_the_run_predicts(session, view):
    batch = session.run.batch(view.frame)
    run = session.run
    labels = predict_frame(run.system, run.network, batch, session.classes, LOOSE, session.classifier).labels
    assert (view.predicted.entry == labels.entry).all()
    assert (view.predicted.instance == labels.instance).all()
    scores = view.answer.scores
    assert set(scores) == {"head", "ensemble"}
    own = scores["head"][np.arange(len(view.predicted.segment_entry)), view.predicted.segment_entry]
    things = session.vocabulary.is_thing[view.predicted.segment_entry]
    np.testing.assert_allclose(view.predicted.score[things], own[things], rtol=1e-5)  # one query each
    assert (scores["head"].argmax(axis=1)[things] == view.predicted.segment_entry[things]).all()
    np.testing.assert_allclose(np.linalg.norm(view.answer.embedding, axis=1), 1, rtol=1e-4)


def test_a_segment_has_five_nearest_names_by_each_that_gives_some(view, plain):
    seen = int(np.flatnonzero(view.pooled[1])[0])
    names = view.names(seen)
    assert list(names) == ["head", "pooled CLIP", "ensemble"]
    for found in names.values():
        assert len(found) == 5
        assert sorted((score for _, score in found), reverse=True) == [score for _, score in found]
    assert list(plain.names(int(np.flatnonzero(plain.pooled[1])[0]))) == ["pooled CLIP"]
    unseen = np.flatnonzero(~view.pooled[1])
    if len(unseen):
        assert "pooled CLIP" not in view.names(int(unseen[0]))


def test_scores_by_clip_are_of_the_runs_temperature(made, session):
    classifier = session.classifier.model_copy(update={"clip_tau": 0.2})
    own = replace(session, classifier=classifier)
    catalogue = Catalogue(own.store, own.store.frames, own.vocabulary, own, frozenset(), own.store.pictures)
    view = catalogue.view(own.store.frames[0])
    segment = int(np.flatnonzero(view.pooled[1])[0])
    vocabulary, feature = own.vocabulary, view.pooled[0][segment]
    cosines = vocabulary.embeddings @ (feature / np.linalg.norm(feature))
    by_entry = [cosines[vocabulary.class_index == entry].max() for entry in range(len(vocabulary.names))]
    expected = dict(zip(vocabulary.names, softmax(np.array(by_entry) / 0.2), strict=True))
    found = dict(view.names(segment)["pooled CLIP"])
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-4)


@pytest.mark.parametrize("system", ["closed_set", "openscene"])
def test_other_systems_answer_as_far_as_they_can(made, tmp_path, system):
    run = tmp_path / "run"
    train(TrainOptions(cache=made[1], out=run, system=system, overrides=TINY))
    session = open_session(run, made[1], merge=LOOSE)
    answer = answer_of(session, session.store.read(session.store.frames[0]))
    assert list(answer.scores) == ["head"]
    assert (answer.embedding is None) == (system == "closed_set")
    assert np.isfinite(answer.labels.score).all()
    assert answer.labels.score.min() >= 0
    assert answer.labels.score.max() <= 1


def test_names_that_are_no_classes_have_colours_of_their_own(plain):
    entries = tuple(Entry(n, "thing", (n,)) for n in ("Car", "fire engine", "unicycle"))
    vocabulary = Vocabulary(entries, np.eye(3, 4, dtype=np.float32), np.arange(3), "synthetic", "0" * 64)
    palette = vocabulary_palette(vocabulary, plain.taxonomy)
    classes = taxonomy_palette(plain.taxonomy)
    assert palette.colours[0].tolist() == classes.colours[classes.names.index("car")].tolist()
    assert len({tuple(c) for c in palette.colours.tolist()}) == 4
    assert palette.class_id.tolist() == [plain.taxonomy.by_name["car"].id, 0, 0, 0]
