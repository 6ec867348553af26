from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovps import clip as encoders
from ovps.clip.text import build_vocabulary, fill, load_templates, prompt_warnings
from ovps.entries import Entry, parse_entries
from ovps.errors import ConfigError, VocabularyError
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import entries_of, equal_entries, load_vocabulary, save_vocabulary


@pytest.fixture(scope="module")
def clip():
    return encoders.load("demo", "random")


def test_embeddings_are_unit_means_over_templates(clip):
    entries = parse_entries("car, bus=city bus|coach, road:stuff")
    templates = ("a photo of a {}.", "the {}")
    vocabulary = build_vocabulary(clip, entries, templates)
    assert vocabulary.embeddings.dtype == np.float32
    assert vocabulary.class_index.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(vocabulary.embeddings, axis=1), 1, rtol=1e-6)
    with torch.inference_mode():
        prompts = clip.clip.model.encode_text(clip.clip.tokenizer(["a photo of a coach.", "the coach"]), normalize=True)
    np.testing.assert_allclose(vocabulary.embeddings[2], F.normalize(prompts.mean(0), dim=0), atol=1e-6)


def test_a_vocabulary_survives_its_file(clip, tmp_path):
    entries = entries_of(load_taxonomy("nuscenes"))[:3]
    made = build_vocabulary(clip, entries)
    save_vocabulary(made, tmp_path / "vocab.safetensors")
    read = load_vocabulary(tmp_path / "vocab.safetensors")
    assert read.entries == made.entries
    assert (read.encoder, read.weights_sha256) == ("demo", clip.weights.sha256)
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


@pytest.mark.parametrize("encoder", ["demo", "tiny-resnet"])  # 32 and 77 tokens
def test_the_shipped_classes_are_read_whole_and_apart(encoder):
    clip, entries = encoders.load(encoder, "random"), entries_of(load_taxonomy("nuscenes"))
    assert prompt_warnings(clip, entries) == equal_entries(build_vocabulary(clip, entries)) == []


@pytest.mark.parametrize(
    "text",
    [
        "car=sedan|van, bus=coach|van",  # a shared synonym
        "van, car=car|Van",  # one that is another entry's name
        'fruit="caf\N{LATIN SMALL LETTER E WITH ACUTE}", car="cafe\N{COMBINING ACUTE ACCENT}"',
        'sign="give &amp; take", car="give & take"',  # what only the tokenizer knows to be equal
    ],
)
def test_entries_with_one_embedding_are_warned_of_by_name(clip, text):
    entries = parse_entries(text)
    vocabulary = build_vocabulary(clip, entries)
    (warning,) = equal_entries(vocabulary)
    assert all(e.name in warning for e in entries)
    assert "same embedding" in warning
    cosines = vocabulary.embeddings @ vocabulary.embeddings.T
    assert cosines[np.not_equal.outer(vocabulary.class_index, vocabulary.class_index)].max() > 1 - 1e-6


def test_synonyms_of_one_entry_may_be_equal(clip):
    assert equal_entries(build_vocabulary(clip, parse_entries("car=car|Car, bus"))) == []


@pytest.mark.parametrize("encoder", ["demo", "tiny-resnet"])
def test_a_prompt_is_called_cut_exactly_when_a_word_more_changes_nothing(encoder):
    clip = encoders.load(encoder, "random")
    context, template = clip.clip.tokenizer([""]).shape[1], ("the {}",)
    lengths = range(context - 5, context + 2)
    warned, lost = [], []
    for words in lengths:  # each word is one token; start, "the" and end are three
        name = "car " * (words - 1) + "car"
        warned += [bool(prompt_warnings(clip, [Entry("long", "thing", (name,))], template))]
        lost += [bool((clip.clip.tokenizer([f"the {name} bus"]) == clip.clip.tokenizer([f"the {name}"])).all())]
    assert warned == [words + 3 > context for words in lengths]
    assert lost == [words + 3 >= context for words in lengths]


def test_a_warning_of_a_long_name_is_short(clip):
    (warning,) = prompt_warnings(clip, parse_entries(f"{'very ' * 200}long:stuff, car"))
    assert warning.startswith("very very")
    assert len(warning) < 250


def test_a_name_that_the_tokenizer_does_not_read_is_refused(clip):
    with pytest.raises(VocabularyError, match="reads nothing in the name '&nbsp;'"):
        build_vocabulary(clip, parse_entries('car, x="&nbsp;"'))
