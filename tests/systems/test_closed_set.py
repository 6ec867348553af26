"""Learned logits: entries find the class they are named after, and nothing else can be named."""

from __future__ import annotations

import pytest
import torch

from ovps.cache.reader import Store
from ovps.errors import ConfigError, VocabularyError
from ovps.inference.session import inference_settings, open_session
from ovps.systems.closed_set import SYSTEM, LearnedClassifier, closed_text
from ovps.systems.openscene import VoxelSystem
from ovps.taxonomy import load_split, load_taxonomy
from ovps.training.run_files import load_settings
from ovps.vocabulary import Entry, Vocabulary
from pipelines.evaluate import evaluate
from pipelines.predict import predict
from tests.model import tiny
from tests.training.small import small_run

TRAINED = ("car", "road", "tree", "bus")


def test_entries_in_any_order_find_their_class():
    torch.manual_seed(0)
    classifier = LearnedClassifier(6, len(TRAINED), 0.01)
    embedding = torch.nn.functional.normalize(torch.randn(3, 5, 6), dim=-1)
    own = classifier(embedding, tiny.classes(closed_text(TRAINED, TRAINED), range(4), [True] * 4))
    asked = ("bus", "car", "tree")
    found = classifier(embedding, tiny.classes(closed_text(asked, TRAINED), range(3), [True] * 3))
    for e, name in enumerate(asked):
        torch.testing.assert_close(found[..., e], own[..., TRAINED.index(name)])
    for q in range(5):  # slowly: a linear layer on embeddings of length sqrt(C)
        for k in range(4):
            weight, bias = classifier.linear.weight[k].detach(), classifier.linear.bias[k].detach()
            expected = sum(float(w) * float(x) * 6**0.5 for w, x in zip(weight, embedding[0, q], strict=True)) + float(
                bias
            )
            assert float(own[0, q, k]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_what_was_not_trained_cannot_be_named():
    with pytest.raises(ValueError, match="not in list"):
        closed_text(("car", "tram"), TRAINED)
    entries = tuple(Entry(name, "thing", (name,)) for name in ("car", "tram"))
    vocabulary = Vocabulary(entries, torch.eye(2).numpy(), torch.arange(2).numpy(), "synthetic", "0" * 64)
    with pytest.raises(VocabularyError, match="cannot name tram"):
        SYSTEM.classes(vocabulary, TRAINED)


def test_a_run_with_all_labels_is_scored_by_any_split(store, tmp_path):
    small_run(store, tmp_path / "run", "steps=2", system="closed_set")
    whole = evaluate(tmp_path / "run", store, out=tmp_path / "all")
    assert whole.split == "all"
    assert "novel" not in whole.system.panoptic.groups
    result = evaluate(tmp_path / "run", store, split="b12n4", out=tmp_path / "b12n4")
    taxonomy = load_taxonomy("nuscenes")
    assert result.novel == frozenset(load_split("b12n4").novel_ids(taxonomy))
    assert result.system.panoptic.groups["novel"].classes == 4
    assert result.system.panoptic.groups["all"] == whole.system.panoptic.groups["all"]
    assert len(Store.open(store).vocabulary.entries) == 16
    assert [v.name for v in result.variants] == ["unsplit"]  # the others name things by text, which it does not know


@pytest.fixture(scope="module", params=["closed_set", "openscene"])
def other(request, store, tmp_path_factory):
    run = tmp_path_factory.mktemp("other") / "run"
    small_run(store, run, "steps=1", system=request.param)
    return run


def test_filling_needs_masks_with_classes_from_text(store, tmp_path, other):
    with pytest.raises(ConfigError, match=r"to fill with.*--fill"):
        predict(other, store, tmp_path / "out", fill=True)


def test_settings_that_a_system_does_not_look_at_are_told(store, other):
    def told(run, *settings):
        merge, classifier = inference_settings(run, settings)
        return open_session(run, store, merge=merge, classifier=classifier).warnings()

    queries = load_settings(other)[0].system == "closed_set"
    for run, name in ((other, "closed_set" if queries else "voxels"), (None, "clip")):
        assert told(run) == told(run, "merge.split_gap=0.7", "merge.split_gap_per_metre=0.1") == []
        (warning,) = told(run, "classifier.margin=0.2", "merge.score=0.9", "merge.split_gap=0.7")
        read = run is not None and queries
        named = "classifier.margin" if read else "merge.score, classifier.margin"
        assert warning == f"system {name} does not look at {named}: the given values change nothing"


def test_a_system_that_does_not_say_what_it_looks_at_looks_at_everything(store, tmp_path, monkeypatch):
    merge, classifier = inference_settings(None, ["classifier.margin=0.2", "merge.score=0.9"])
    assert open_session(None, store, merge=merge, classifier=classifier).warnings()
    monkeypatch.delattr(VoxelSystem, "reads")
    assert open_session(None, store, merge=merge, classifier=classifier).warnings() == []
