"""`label_free`: no label reaches a weight, masks are learned, and named by CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ovps.cache.reader import Store
from ovps.entries import Entry
from ovps.errors import ConfigError
from ovps.evaluation.results import HARMONIC
from ovps.model.classify import ClassifierConfig
from ovps.model.inputs import LayerOutput
from ovps.model.panoptic import MergeConfig
from ovps.systems.label_free import SYSTEM, mean_probability
from ovps.training.metrics import read_metrics
from ovps.training.run import load_run
from ovps.vocabulary import Vocabulary
from pipelines.evaluate import evaluate
from pipelines.train import TrainOptions, resolve
from tests.helpers.synthetic_store import write_synthetic_store
from tests.model import tiny
from tests.pipelines.untrained import LOOSE
from tests.training.relabel import relabelled_store
from tests.training.small import same_bits, small_run, weights

SETTINGS = ("steps=4", "data.grid=cylinder:60x60x32", "model.queries=24")


@pytest.fixture(scope="module", autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("label_free")
    write_synthetic_store(folder / "zarr")
    small_run(folder / "zarr", folder / "run", *SETTINGS, system="label_free")
    return folder / "run", folder / "zarr"


def rolled(raw, semantic, rng):
    """Every class becomes another one, thing or stuff, base or novel; a tenth of the points are unlabelled."""
    classes = np.array([9_001, 14_002, 15_003, 17_004, 18_005, 21_006, 2_007, 12_008, 22_009, 23_010, 24_000, 30_000])
    return np.where(rng.random(len(raw)) < 0.1, 0, classes[(semantic * 5 + 3) % len(classes)])


def drawn(raw, semantic, rng):
    return rng.choice([0, 9_001, 17_004, 23_010, 24_000, 28_000, 30_000], len(raw))


@pytest.mark.parametrize("relabel", [rolled, drawn, None], ids=["rolled", "drawn", "deleted"])
def test_no_label_at_all_reaches_the_weights(made, tmp_path, relabel):
    run, store = made
    if relabel is None:
        write_synthetic_store(tmp_path / "zarr", labelled=False)
    else:
        relabelled_store(store, tmp_path / "zarr", relabel, seed=1)
    one, other = (next(iter(Store.open(path).frames)) for path in (store, tmp_path / "zarr"))
    before, after = Store.open(store).read(one).label, Store.open(tmp_path / "zarr").read(other).label
    assert after is None or (before != after).mean() > 0.5
    small_run(tmp_path / "zarr", tmp_path / "run", *SETTINGS, system="label_free")
    assert same_bits(weights(run), weights(tmp_path / "run"))
    for name in ("statistics.safetensors", "vocabulary.safetensors", "run.json"):
        assert (run / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_no_split_says_what_it_was_taught(made):
    run, store = made
    result = evaluate(run, store, split="b10n6", out=run.parent / "b10n6")
    assert (result.novel_taught, result.base_hidden) == ([], [])
    assert not any("trained by split" in warning for warning in result.warnings)


def test_it_has_no_head_to_name_masks_by(made):
    run, store = made
    with pytest.raises(ConfigError, match=r"label_free cannot name masks by classifier\.classes=unified") as told:
        evaluate(run, store, classifier=ClassifierConfig(classes="unified"), out=run.parent / "unified")
    for rule in ("per_mask", "ensemble"):
        assert rule in told.value.remedy
        evaluate(run, store, classifier=ClassifierConfig(classes=rule), out=run.parent / rule)
    for system, way in (("label_free", "unified"), ("closed_set", "per_mask")):
        with pytest.raises(ConfigError, match=f"{system} cannot name masks by classifier.classes={way}"):
            resolve(TrainOptions(cache=store, out=run, system=system, overrides=(f"classifier.classes={way}",)))


def test_masks_of_proposals_and_their_features_are_what_is_learned(made):
    lines = read_metrics(made[0])
    for part in ("proposal_focal", "proposal_dice", "proposal_object", "voxel", "coverage"):
        assert min(line[f"loss/last/{part}"] for line in lines) > 0, part
    for part in ("class", "mask_focal", "mask_dice", "object", "exclusion"):
        assert max(line[f"loss/last/{part}"] for line in lines) == 0, part
    assert load_run(made[0]).network.queries.stuff.shape[0] == 0


def test_it_is_scored_by_any_split(made, tmp_path):
    for split in ("b12n4", "pla_b10n5"):
        result = evaluate(*made, split=split, merge=LOOSE, out=tmp_path / split)
        assert result.split == split
        assert result.system.score(HARMONIC, "pq") is not None
        assert result.system.panoptic.groups["all"].miou > 0


@pytest.mark.parametrize("rule", ["per_mask", "ensemble"])
def test_a_mask_is_named_by_clip_inside_it_or_by_its_embedding_and_is_as_sure_as_its_voxels(made, rule):
    network = load_run(made[0]).network
    batch = tiny.frame(40)
    batch.clip_valid[:] = True
    batch.clip_valid[30:] = False
    generator = torch.Generator().manual_seed(3)
    masks = 4 * torch.randn(5, 40, generator=generator)
    masks[4] = torch.where(torch.arange(40) < 30, -9.0, 5.0)  # only where no camera sees
    embedding = torch.randn(5, tiny.CLIP_DIM, generator=generator)
    classes = SYSTEM.classes(vocabulary(4), ["a", "b"])
    output = LayerOutput(embedding[None], [masks], None)
    config = ClassifierConfig(classes=rule, novel_weight=1.0)
    found = SYSTEM.probability(network, output, batch, classes, MergeConfig(), config)
    for q in range(5):
        probability = [1 / (1 + np.exp(-float(x))) for x in masks[q]]
        inside = [v for v, p in enumerate(probability) if p > 0.5]
        seen = [v for v in inside if v < 30]
        feature = batch.clip[seen].mean(dim=0) if seen else embedding[q]
        cosine = torch.nn.functional.normalize(feature, dim=0) @ classes.text.T
        expected = (cosine / config.clip_tau).softmax(dim=0) * np.mean([probability[v] for v in inside])
        torch.testing.assert_close(found[q], expected.float(), atol=1e-4, rtol=1e-3)


def vocabulary(entries):
    rows = np.random.default_rng(0).normal(size=(entries, tiny.CLIP_DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(Entry(name, "thing", (name,)) for name in "abcdef"[:entries])
    return Vocabulary(names, rows, np.arange(entries), "made up", "0" * 64)


def test_an_empty_mask_is_no_object():
    masks = torch.tensor([[0.2, 0.4], [0.9, 0.1], [0.6, 0.8]])
    assert mean_probability(masks).tolist() == pytest.approx([0.0, 0.9, 0.7])
