"""Tiny architectures of each kind, registered with open_clip for the tests."""

from __future__ import annotations

import json

import open_clip
import pytest

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CONVNEXT = {"timm_model_name": "convnext_atto", "timm_model_pretrained": False, "timm_pool": "", "image_size": 64}
VISION = {
    "tiny-convnext-linear": {**CONVNEXT, "timm_proj": "linear"},
    "tiny-convnext-mlp": {**CONVNEXT, "timm_proj": "mlp"},
    "tiny-convnext-old": {**CONVNEXT, "timm_model_name": "convnext_atto_ols", "timm_proj": "linear"},  # padded stem
    "tiny-resnet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64},
    "tiny-vit": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 64},
    "tiny-vit-scaled": {
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
        "image_size": 64,
        "ls_init_value": 0.3,
    },
    "tiny-swin": {
        **CONVNEXT,
        "timm_model_name": "swin_tiny_patch4_window7_224",
        "timm_proj": "linear",
        "image_size": 224,
    },
}


@pytest.fixture(scope="session", autouse=True)
def _tiny_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    for name, vision in VISION.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}))
    open_clip.add_model_config(folder)
