"""The demo CLIP's pipeline on a tiny render, and the shipped file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from open_clip import ClipLoss
from safetensors import safe_open
from torch.nn import functional as F
from typer.testing import CliRunner

from driveworld.assets import VARIANTS
from driveworld.demo_clip import evaluation
from driveworld.demo_clip.__main__ import app
from driveworld.demo_clip.captions import Caption, matches, write_caption
from driveworld.demo_clip.concepts import OBJECTS, SHAPES, concept_id, concepts
from driveworld.demo_clip.crops import FLAT, CropSampler, augment
from driveworld.demo_clip.distractors import MESHES, draw_shape
from driveworld.demo_clip.pictures import Pictures, load_pictures, render_pictures
from driveworld.demo_clip.training import contrastive_loss, train
from ovps.clip import demo
from ovps.clip.loading import load_clip
from ovps.taxonomy import load_taxonomy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    render_pictures(path, scenes=1, per_scene=3)
    return path


@pytest.fixture(scope="module")
def pictures(folder) -> Pictures:
    return load_pictures(folder)


def test_pictures_agree_with_their_regions(pictures):
    assert pictures.rgb.shape == (3, 396, 704, 3)
    assert len(pictures.regions) > 20
    for region in pictures.regions:
        concept = pictures.concept[region.picture]
        assert all(concept[v, u] == region.concept for u, v in region.points)
        x0, y0, x1, y1 = region.box
        assert (concept[y0:y1, x0:x1] == region.concept).sum() >= region.pixels
    assert len({r.concept for r in pictures.regions} & set(range(1, 17))) >= 10


def test_pictures_are_the_same_every_time(pictures, tmp_path):
    render_pictures(tmp_path, scenes=1, per_scene=1)
    again = load_pictures(tmp_path)
    np.testing.assert_array_equal(again.rgb[0], pictures.rgb[0])
    assert again.regions == tuple(r for r in pictures.regions if r.picture == 0)


@pytest.mark.parametrize("size", [32, 96])
def test_crops_show_what_they_are_said_to_show(pictures, size):
    crops = CropSampler(pictures).batch(np.random.default_rng(0), size, 64)
    assert crops.images.shape == (64, size, size, 3)
    assert len(set(crops.concept.tolist())) > 8
    kinds = {concepts()[c].kind for c in crops.concept}
    assert {"class", "shape"} <= kinds
    pixels = augment(crops.images, np.random.default_rng(0))
    assert pixels.shape == (64, 3, size, size)
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


def test_words_are_distinct_and_cover_the_taxonomy():
    words = [w for c in concepts() for w in c.words]
    assert len(words) == len(set(words))
    for info in load_taxonomy("nuscenes").classes:
        assert concepts()[info.id].words == info.synonyms
    assert set(FLAT) <= {c.name for c in concepts()}
    assert set(MESHES) == set(OBJECTS)
    assert all(draw_shape(name, np.random.default_rng(0), 32)[0].shape == (32, 32, 3) for name in SHAPES)


def test_captions_contain_distractor_words():
    rng = np.random.default_rng(0)
    texts = [write_caption(rng, int(rng.integers(len(concepts()))), "red", True).text for _ in range(500)]
    words = set(" ".join(texts).replace(".", "").split())
    assert {"red", "sunny", "dog", "stripes", "sky", "distant", "photo", "bus"} <= words
    class_words = {w for c in concepts() if c.kind == "class" for name in c.words for w in name.split()}
    assert len(words - class_words) > 50


def test_true_captions_follow_concept_colour_and_weather():
    car = concept_id("car")
    captions = [
        Caption("a car", car, None, None),
        Caption("a red car", car, "red", None),
        Caption("a sunny car", car, None, True),
    ]
    truth = matches(captions, np.array([car, car, car, 1]), ["red", "blue", "", "red"], np.array([1, 0, -1, 1]))
    assert truth.tolist() == [[True, True, True], [True, False, False], [True, False, False], [False, False, False]]


def test_loss_is_clips_where_every_image_has_one_caption():
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=generator), dim=1) for _ in range(2))
    scale = torch.tensor(10.0)
    ours = contrastive_loss(image, text, torch.eye(6, dtype=torch.bool), scale)
    torch.testing.assert_close(ours, ClipLoss()(image, text, scale))


def test_images_of_one_caption_do_not_repel():
    image, text = F.normalize(torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]]), dim=1), torch.eye(2)
    positive = torch.tensor([[True, False], [True, False], [False, True]])
    assert contrastive_loss(image, text, positive, torch.tensor(100.0)) < 0.4  # log(2) / 2: two images share one text


def test_two_steps_of_training_give_weights_that_load(folder, tmp_path):
    out = tmp_path / "weights.safetensors"
    first = train(folder, out, steps=2, batch_share=0.1)
    assert np.isfinite(first)
    clip = load_clip("demo", str(out))
    assert not clip.weights_random
    assert clip.weights_sha256 != load_clip("demo", "random").weights_sha256
    assert train(folder, tmp_path / "again.safetensors", steps=2, batch_share=0.1) == first


def test_evaluation_counts_every_class_pixel():
    clip = load_clip("demo", "random")
    vocabulary = evaluation.vocabulary_of_classes(clip)
    pictures = evaluation.world_pictures(1, times=(0.0,))[:2]
    dense, confusion = evaluation.dense_accuracy(clip, vocabulary, [p for p, _ in pictures])
    seen = sum(int((p.classes[::2, ::2] > 0).sum()) for p, _ in pictures)
    assert sum(dense.total.values()) == confusion[1:].sum() == seen
    assert 0 <= dense.overall < 0.5
    crops = evaluation.crop_accuracy(clip, vocabulary, pictures, per_class=4)
    assert 0 < sum(crops.total.values()) <= 64
    json.dumps(crops.as_json())


def test_the_two_families_share_no_object():
    for class_name, variants in VARIANTS["world"].items():
        others = VARIANTS["demo_clip"][class_name]
        assert not set(variants.values()) & set(others.values()), class_name


def test_commands_explain_themselves():
    for command in ("render", "train", "evaluate"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0, result.output


def test_shipped_weights_are_small_float16_and_go_through_open_clip():
    assert demo.weights_path().stat().st_size <= 16e6
    with safe_open(demo.weights_path(), framework="pt") as file:
        dtypes = {k: file.get_tensor(k).dtype for k in file.keys()}  # noqa: SIM118  not a dict
    assert {d for k, d in dtypes.items() if not k.endswith("num_batches_tracked")} == {torch.float16}
    clip = load_clip("demo")
    assert clip.name == "demo"
    assert not clip.weights_random


def test_shipped_weights_know_the_world_they_have_not_seen():
    clip = load_clip("demo")
    vocabulary = evaluation.vocabulary_of_classes(clip)
    pictures = evaluation.world_pictures(1, times=(0.0,))
    assert evaluation.crop_accuracy(clip, vocabulary, pictures, per_class=20).mean > 0.6
    assert evaluation.dense_accuracy(clip, vocabulary, [p for p, _ in pictures])[0].overall > 0.45
