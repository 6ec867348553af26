"""CLIP's own head at every location, for the three kinds of image towers in open_clip.

Each function takes (B, 3, H, W) float32 normalised images and returns (B, C, rows, cols) float32, not L2-normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.convnext import ConvNeXt
from torch import Tensor
from torch.nn import functional as F

from ovps.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Tower:
    """Recipe to run an image tower densely.

    Attributes:
        stride: pixels per cell.
        features: (B, 3, H, W) to (B, C, rows, cols).
        round_up_first: the first halving rounds up (a padded convolution), all others round down.
    """

    stride: int
    features: Callable[[Tensor], Tensor]
    round_up_first: bool = False

    def size(self, pixels: int) -> int:
        """Cells along a side of so many pixels."""
        if self.round_up_first:
            return (pixels + 1) // 2 // (self.stride // 2)
        return pixels // self.stride


def tower_of(visual: Any, name: str) -> Tower:
    """The dense way to run a model's `visual`.

    Raises:
        ConfigError: a tower of another kind.
    """
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, ConvNeXt):
        return Tower(visual.trunk.feature_info[-1]["reduction"], partial(convnext_map, visual))
    if isinstance(visual, ModifiedResNet):
        return Tower(32, partial(resnet_map, visual), round_up_first=True)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.proj is not None:
        last = visual.transformer.resblocks[-1]
        if (
            isinstance(getattr(last, "attn", None), torch.nn.MultiheadAttention)
            and visual.patch_size[0] == visual.patch_size[1]
        ):
            return Tower(visual.patch_size[0], partial(vit_map, visual))
    raise ConfigError(
        f"no dense features for {name}: its image tower is neither a ConvNeXt, a CLIP ResNet nor a plain ViT",
        remedy="Choose for example convnext_large_d_320, RN50x16-quickgelu or ViT-L-14",
    )


def convnext_map(visual: TimmModel, images: Tensor) -> Tensor:
    """Trunk without its pooling, its norm, then the projection, channels last.

    `trunk.head` itself pools when it is given a map, so only its norm is used. The norm acts on the channels of one
    location; pooling this function's input to the norm first gives the model's own image embedding.
    """
    features = visual.trunk.forward_features(images)
    norm = getattr(visual.trunk.head, "norm", torch.nn.Identity())  # head_norm_first models normalise in the trunk
    return visual.head(norm(features).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def resnet_map(visual: ModifiedResNet, images: Tensor) -> Tensor:
    """Last stage, then the value and output projections of the attention pooling.

    As MaskCLIP does: every location attends to itself alone, without the pooling's positional embedding, which is
    made for 7 x 7 cells. Padded 3 x 3 convolutions put a cell half a pixel left and up of its nominal centre.
    """
    features = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
    tokens = visual.attnpool.v_proj(features.permute(0, 2, 3, 1))
    return visual.attnpool.c_proj(tokens).permute(0, 3, 1, 2)


def vit_map(visual: VisionTransformer, images: Tensor) -> Tensor:
    """All blocks but the last; in the last every patch attends to itself alone (MaskCLIP); then ln_post and proj."""
    patches = visual.conv1(images)
    batch, width, rows, cols = patches.shape
    cls = visual.class_embedding.expand(batch, 1, width)
    tokens = torch.cat([cls, patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = visual.ln_pre(tokens + resized_positions(visual, rows, cols))

    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    tokens = tokens[:, 1:]  # only the patches from here on
    tokens = tokens + last.ls_1(_value_projection(last.attn, last.ln_1(tokens)))
    tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
    return (visual.ln_post(tokens) @ visual.proj).transpose(1, 2).reshape(batch, -1, rows, cols)


def resized_positions(visual: VisionTransformer, rows: int, cols: int) -> Tensor:
    """Positional embedding (1 + rows * cols, width) for another grid, resized as open_clip's `resize_pos_embed`."""
    if (rows, cols) == tuple(visual.grid_size):
        return visual.positional_embedding
    cls, grid = visual.positional_embedding[:1], visual.positional_embedding[1:]
    grid = grid.reshape(1, *visual.grid_size, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, cols), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([cls, grid[0].flatten(1).transpose(0, 1)])


def _value_projection(attention: torch.nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """What attention returns where every token sees only itself: (B, N, width) to (B, N, width)."""
    width = attention.embed_dim
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * width :]
    return attention.out_proj(F.linear(tokens, attention.in_proj_weight[2 * width :], bias))
