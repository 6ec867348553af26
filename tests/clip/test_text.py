from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovps.clip.loading import load_clip
from ovps.clip.text import build_vocabulary, fill, load_templates
from ovps.errors import ConfigError
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import entries_of, load_vocabulary, parse_entries, save_vocabulary


@pytest.fixture(scope="module")
def clip():
    return load_clip("demo", "random")


def test_embeddings_are_unit_means_over_templates(clip):
    entries = parse_entries("car, bus=city bus|coach, road:stuff")
    templates = ("a photo of a {}.", "the {}")
    vocabulary = build_vocabulary(clip, entries, templates)
    assert vocabulary.embeddings.dtype == np.float32
    assert vocabulary.class_index.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(vocabulary.embeddings, axis=1), 1, rtol=1e-6)
    with torch.inference_mode():
        prompts = clip.model.encode_text(clip.tokenizer(["a photo of a coach.", "the coach"]), normalize=True)
    np.testing.assert_allclose(vocabulary.embeddings[2], F.normalize(prompts.mean(0), dim=0), atol=1e-6)


def test_a_vocabulary_survives_its_file(clip, tmp_path):
    entries = entries_of(load_taxonomy("nuscenes"))[:3]
    made = build_vocabulary(clip, entries)
    save_vocabulary(made, tmp_path / "vocab.safetensors")
    read = load_vocabulary(tmp_path / "vocab.safetensors")
    assert read.entries == made.entries
    assert (read.encoder, read.weights_sha256) == ("demo", clip.weights_sha256)
    np.testing.assert_array_equal(read.embeddings, made.embeddings)


def test_shipped_templates_are_distinct_and_have_one_place_for_the_name():
    for name in ("vild", "short", "imagenet"):
        templates = load_templates(name)
        assert len(set(templates)) == len(templates)
        assert all(t.count("{}") == 1 for t in templates)
    assert len(load_templates()) == 14
    with pytest.raises(ConfigError, match="vild"):
        load_templates("nonsense")


def test_fill_chooses_the_article():
    assert fill("a photo of a {}.", "excavator") == "a photo of an excavator."
    assert fill("a photo of a {}.", "car") == "a photo of a car."
    assert fill("there is the {} in the scene.", "island") == "there is the island in the scene."


def test_templates_without_a_place_for_the_name_are_refused(clip):
    with pytest.raises(ConfigError, match="a photo"):
        build_vocabulary(clip, parse_entries("car"), ["a photo"])
    with pytest.raises(ConfigError, match="no prompt templates"):
        build_vocabulary(clip, parse_entries("car"), [])
