"""Labels on disk: the submission format for the data set's own classes, plain arrays for any vocabulary."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nuscenes.utils.data_io import load_bin_file
from typer.testing import CliRunner

from ovps.cache.reader import Store
from ovps.cli import app
from ovps.errors import VocabularyError
from ovps.evaluation.submission import check_submission
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import Entry, Vocabulary, save_vocabulary
from pipelines.predict import predict
from tests.pipelines.untrained import LOOSE, untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("predict"))


def test_the_data_sets_own_classes_become_a_submission(made, tmp_path):
    summary = predict(*made, tmp_path, merge=LOOSE)
    assert (summary.format, summary.frames, summary.problems) == ("submission", 2, [])
    assert 0 < summary.unlabelled < summary.points == 1200
    store = Store.open(made[1])
    points = {ref.token: 600 for ref in store.frames if ref.subset == "val"}
    assert check_submission(tmp_path, "val", points, load_taxonomy("nuscenes")) == []
    labels = [load_bin_file(str(p), type="panoptic") for p in (tmp_path / "panoptic" / "val").glob("*.npz")]
    assert sum(int((x == 0).sum()) for x in labels) == summary.unlabelled
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["weights_random"] is False


def test_filling_labels_more_points(made, tmp_path):
    plain = predict(*made, tmp_path / "plain")
    filled = predict(*made, tmp_path / "filled", fill=True)
    assert filled.unlabelled < plain.unlabelled
    assert filled.problems == []


def test_the_command_line_changes_how_masks_are_named(made, tmp_path):
    run, cache = map(str, made)
    loose = ("merge.score=0", "merge.overlap=0", "merge.mask=0.02")
    pooled = (*loose, "classifier.classes=ensemble", "classifier.base_weight=1", "classifier.novel_weight=1")

    def labels(name, settings):
        arguments = ["predict", "--run", run, "--cache", cache, "--out", str(tmp_path / name), "--json"]
        result = CliRunner().invoke(app, [*arguments, *(f"--set={s}" for s in settings)])
        assert result.exit_code == 0, result.output
        files = sorted((tmp_path / name / "panoptic" / "val").glob("*.npz"))
        return np.concatenate([load_bin_file(str(p), type="panoptic") for p in files]) // 1000

    own, clip = labels("own", loose), labels("clip", pooled)
    assert (own != clip).any()
    about = json.loads((tmp_path / "clip" / "about.json").read_text())
    assert (about["classifier"]["classes"], about["merge"]["mask"]) == ("ensemble", 0.02)


def test_another_vocabulary_becomes_plain_arrays(made, tmp_path):
    own = Store.open(made[1]).vocabulary
    entries = (Entry("vehicle", "thing", ("car", "bus")), Entry("plant", "stuff", ("tree",)))
    rows = own.embeddings[[3, 2, 15]]
    vocabulary = Vocabulary(entries, rows, np.array([0, 0, 1]), own.encoder, own.weights_sha256)
    save_vocabulary(vocabulary, tmp_path / "v.safetensors")
    out = tmp_path / "out"
    summary = predict(*made, out, vocabulary=tmp_path / "v.safetensors", merge=LOOSE)
    assert (summary.format, summary.problems) == ("arrays", [])
    files = sorted((out / "labels" / "val").glob("*.npz"))
    assert len(files) == 2
    for file in files:
        with np.load(file) as arrays:
            entry, instance = arrays["entry"], arrays["instance"]
        assert (entry.dtype, instance.dtype, len(entry)) == (np.int16, np.int32, 600)
        assert set(entry.tolist()) <= {-1, 0, 1}
        assert ((instance > 0) == (entry == 0)).all()
    about = json.loads((out / "about.json").read_text())
    assert [e["name"] for e in about["entries"]] == ["vehicle", "plant"]


def test_a_vocabulary_of_another_clip_is_refused(made, tmp_path):
    own = Store.open(made[1]).vocabulary
    other = Vocabulary(own.entries, own.embeddings, own.class_index, own.encoder, "f" * 64)
    save_vocabulary(other, tmp_path / "v.safetensors")
    with pytest.raises(VocabularyError, match="another CLIP"):
        predict(*made, tmp_path / "out", vocabulary=tmp_path / "v.safetensors")
    assert not (tmp_path / "out").exists()
