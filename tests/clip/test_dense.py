"""Dense features against each model's own image embedding, or an independent reference where pooling is attention."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from ovps.clip.dense import dense_encoder
from ovps.clip.loading import load_clip
from ovps.clip.towers import tower_of
from ovps.errors import ConfigError, FrameError
from ovps.geometry.cells import CellGrid

CONVNEXTS = ["tiny-convnext-linear", "tiny-convnext-mlp", "demo"]
ALL = [*CONVNEXTS, "tiny-resnet", "tiny-vit", "tiny-vit-scaled"]


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONVNEXTS)
@torch.inference_mode()
def test_pooling_the_map_then_the_heads_is_the_models_own_image_embedding(name):
    visual = load_clip(name, "random").model.visual
    images = _images(2, 3, 96, 128)
    pooled = visual.head(visual.trunk.head(visual.trunk.forward_features(images)))
    torch.testing.assert_close(pooled, visual(images))
    # and the dense head is that head, applied to one location at a time
    features = visual.trunk.forward_features(images)
    dense = tower_of(visual, name).features(images)
    one = visual.head(visual.trunk.head(features[:, :, 2:3, 1:2]))
    torch.testing.assert_close(dense[:, :, 2, 1], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONVNEXTS)
@torch.inference_mode()
def test_an_image_of_one_cell_gives_the_models_own_embedding(name):
    clip = load_clip(name, "random")
    tower = tower_of(clip.model.visual, name)
    images = _images(2, 3, tower.stride, tower.stride)
    torch.testing.assert_close(tower.features(images)[..., 0, 0], clip.model.visual(images), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_resnet_locations_equal_attention_pooling_of_a_single_location():
    visual = load_clip("tiny-resnet", "random").model.visual
    images = _images(2, 3, 64, 96)
    dense = tower_of(visual, "tiny-resnet").features(images)
    features = visual.forward_intermediates(images, intermediates_only=True)["image_intermediates"][-1]
    pool = visual.attnpool
    pool.positional_embedding = torch.nn.Parameter(torch.zeros(2, pool.positional_embedding.shape[1]))
    for row in range(2):
        for col in range(3):
            # one location: the mean token equals it, attention has nothing else to look at
            torch.testing.assert_close(dense[:, :, row, col], pool(features[:, :, row : row + 1, col : col + 1]))


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-vit-scaled"])
@torch.inference_mode()
def test_vit_features_equal_the_last_block_masked_to_the_diagonal(name, tmp_path):
    clip = load_clip(name, "random")
    torch.save(clip.model.state_dict(), tmp_path / "weights.pt")
    # open_clip's own way to another size: create it there, positional embedding resized while loading
    visual = open_clip.create_model(
        name, pretrained=str(tmp_path / "weights.pt"), force_image_size=(64, 96)
    ).visual.eval()
    images = _images(2, 3, 64, 96)
    tokens = visual._embeds(images)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    count = tokens.shape[1]
    alone = torch.full((count, count), float("-inf")).fill_diagonal_(0)
    expected = visual.ln_post(last(tokens, attn_mask=alone))[:, 1:] @ visual.proj
    rows, cols = visual.grid_size
    dense = tower_of(clip.model.visual, name).features(images)
    assert dense.shape == (2, 24, rows, cols)
    torch.testing.assert_close(dense.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_cells_are_unit_vectors_of_the_stated_grid(name):
    clip = load_clip(name, "random")
    encoder = dense_encoder(clip, (101, 75), batch_size=2)
    images = np.random.default_rng(0).integers(0, 256, (3, 75, 101, 3), np.uint8)
    cells = encoder.encode(images)
    assert cells.shape == (3, encoder.cells.rows, encoder.cells.cols, encoder.dim)
    assert cells.dtype == torch.float32
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(cells.shape[:-1]))
    alone = dense_encoder(clip, (101, 75)).encode(torch.from_numpy(images[2:]))
    torch.testing.assert_close(cells[2:], alone, rtol=1e-3, atol=1e-4)  # batching changes nothing
    assert encoder.encode(images[:0]).shape == (0, *cells.shape[1:])


def test_cells_of_the_default_encoder_at_nuscenes_size():
    encoder = dense_encoder(load_clip("tiny-convnext-mlp", "random"), (1600, 900))
    assert encoder.cells == CellGrid(rows=28, cols=50, stride=32)
    assert encoder.cells.centres()[1, 2].tolist() == [79.5, 47.5]
    assert len(encoder.cells) == 1400


@pytest.mark.parametrize("name", ["demo", "tiny-convnext-linear", "tiny-vit"])
@pytest.mark.parametrize("upscale", [1, 2])
def test_a_patch_changes_the_features_where_it_lies(name, upscale):
    encoder = dense_encoder(load_clip(name, "random"), (320, 256), upscale=upscale)
    row, col = encoder.cells.rows // 2, encoder.cells.cols // 2 + 1
    u, v = encoder.cells.centres()[row, col]
    half = encoder.cells.stride / 2
    plain = np.full((1, 256, 320, 3), 128, np.uint8)
    bright = plain.copy()
    bright[:, round(v - half + 0.5) : round(v + half + 0.5), round(u - half + 0.5) : round(u + half + 0.5)] = 255
    change = (encoder.encode(bright) - encoder.encode(plain)).square().sum(-1)[0].numpy()
    change[change < change.max() / 10] = 0
    centroid = np.tensordot(change / change.sum(), encoder.cells.centres(), 2)  # (u, v) in pixels
    np.testing.assert_allclose(centroid, (u, v), atol=half)


def test_only_mean_and_std_are_applied():
    clip = load_clip("demo", "random")
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    pixels = (torch.from_numpy(image) / 255 - torch.tensor(clip.mean)) / torch.tensor(clip.std)
    expected = F.normalize(tower_of(clip.model.visual, "demo").features(pixels.permute(0, 3, 1, 2)), dim=1)
    cells = dense_encoder(clip, (64, 64)).encode(image)
    torch.testing.assert_close(cells.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 64, 65, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)],
)
def test_images_of_another_size_or_type_are_refused(images):
    encoder = dense_encoder(load_clip("demo", "random"), (64, 64))
    with pytest.raises(FrameError, match="expected"):
        encoder.encode(images)


def test_towers_without_dense_features_and_tiny_images_are_refused():
    with pytest.raises(ConfigError, match="tiny-swin"):
        dense_encoder(load_clip("tiny-swin", "random"), (224, 224))
    with pytest.raises(ConfigError, match="smaller than one cell"):
        dense_encoder(load_clip("tiny-vit", "random"), (15, 64))
