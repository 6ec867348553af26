"""The seam: encoders by name, and open_clip's models as one, against open_clip itself."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ovps import clip as encoders
from ovps import defaults
from ovps.clip.dense import dense_encoder
from ovps.clip.loading import USUAL
from ovps.clip.protocol import Encoder
from ovps.errors import ConfigError, FrameError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.load("demo", "random")


def images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ["demo", "tiny-vit"])
def test_an_encoder_says_who_it_is(name):
    found = encoders.load(name, "random", upscale=2)
    assert (found.name, found.weights.random) == (name, True)
    assert found.embed(["car"]).shape == (1, found.dim)
    assert found.cells((128, 96)).stride * 2 == encoders.load(name, "random").cells((128, 96)).stride


def test_the_default_encoder_and_its_usual_weights_are_known_to_open_clip():
    assert (defaults.ENCODER, USUAL[defaults.ENCODER]) in open_clip.list_pretrained()
    assert encoders.get(defaults.ENCODER).worker_bytes > encoders.get("demo").worker_bytes


def test_an_unknown_name_is_refused_with_similar_ones():
    with pytest.raises(ConfigError, match=r"no encoder named 'convnext_large_d_32'.*convnext_large_d_320"):
        encoders.get("convnext_large_d_32")
    with pytest.raises(ConfigError, match=r"no encoder named 'zzzz'.*demo"):
        encoders.get("zzzz")


def test_dense_features_are_those_of_the_image_at_its_own_size(encoder):
    for size in ((64, 48), (96, 64)):
        batch = images(2, size[1], size[0])
        grid = encoder.cells(size)
        made = encoder.encode(batch)
        assert made.shape == (2, grid.rows, grid.cols, encoder.dim)
        assert torch.equal(made, dense_encoder(encoder.clip, size).encode(batch))
    with pytest.raises(FrameError, match="expected"):
        encoder.encode(batch[0])


@pytest.mark.parametrize("name", ["demo", "tiny-vit"])
def test_whole_images_go_through_clips_own_preprocessing(name):
    # open_clip's own transform for evaluation, its own image embedding
    encoder = encoders.load(name, "random")
    model = encoder.clip.model
    batch = [images(1, 60, 100)[0], images(1, 90, 70)[0]]
    prepare = open_clip.image_transform(
        model.visual.image_size, is_train=False, mean=encoder.clip.mean, std=encoder.clip.std
    )
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([prepare(Image.fromarray(image)) for image in batch]), normalize=True)
    np.testing.assert_allclose(encoder.embed_images(batch), expected, atol=1e-5)
    assert encoder.embed_images([]).shape == (0, encoder.dim)


def test_temperature_is_that_of_clips_own_logits(encoder):
    model = encoder.clip.model
    texts = ["car", "tree"]
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        own, _ = model.get_logits(pixels, encoder.clip.tokenizer(texts))
        image = F.normalize(model.encode_image(pixels), dim=-1)
    np.testing.assert_allclose(image.numpy() @ encoder.embed(texts).T / encoder.temperature, own, rtol=1e-4, atol=1e-5)


def test_what_is_read_of_a_text(encoder):
    nothing, blank, car, other, cut = encoder.read(["", "&nbsp;", "car", "Car", "car " * 100])
    assert nothing.seen == blank.seen != car.seen == other.seen
    assert [r.cut for r in (nothing, car, cut)] == [False, False, True]
