"""The vision trunk of the demo CLIP: a small ConvNeXt of stride 8.

open_clip's vision config takes no output stride, so the trunk is registered with timm under its own name.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import LayerNorm2d
from timm.models import build_model_with_cfg, register_model
from timm.models.convnext import ConvNeXt

DEPTHS = (2, 4)
DIMS = (40, 112)
KERNELS = (7, 5)  # small: trained on small crops, a cell must not see much further than the objects it is to name


@register_model
def ovps_demo_convnext(pretrained: bool = False, **kwargs: Any) -> torch.nn.Module:
    """Two stages, strides 4 and 8: a pedestrian 20 m away, 47 x 18 pixels in a 704 x 396 image, fills 6 x 2 cells.

    timm's ConvNeXt always has four stages; those after the second are built empty and dropped. Its `output_stride`
    would keep them at stride 8 with dilation, but joins them by padded 2 x 2 convolutions that move the map by
    half a cell and more.

    Batch norm, ReLU, no layer scale and larger first weights: so small a network learns faster with them from few
    pictures. The head keeps its layer norm, since it sees pooled features and maps alike.
    """
    kwargs = {k: v for k, v in kwargs.items() if k not in ("pretrained_cfg", "pretrained_cfg_overlay")}
    model = build_model_with_cfg(
        ConvNeXt,
        "ovps_demo_convnext",
        pretrained,
        pretrained_cfg={"architecture": "ovps_demo_convnext", "num_classes": 1000, "pool_size": (8, 8)},
        depths=(*DEPTHS, 0, 0),
        dims=(*DIMS, DIMS[-1], DIMS[-1]),
        kernel_sizes=(*KERNELS, 1, 1),
        ls_init_value=None,
        norm_layer="batchnorm2d",
        act_layer="relu",
        conv_mlp=True,  # 1x1 convolutions, faster in channels_last than permuting to linear layers
        **kwargs,
    )
    model.stages = model.stages[: len(DEPTHS)]
    model.feature_info = model.feature_info[: len(DEPTHS)]
    model.head.norm = LayerNorm2d(DIMS[-1])
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
    return model
