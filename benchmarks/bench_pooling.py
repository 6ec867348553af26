"""Mask pooling after CLIP's projection, as the cache allows it, against pooling before it, as FC-CLIP does (reference).

No question of speed: how near the two embeddings of an object are, and how often they name it alike and rightly. The
objects are those of held-out streets of the drive world; the CLIP is the demo CLIP, a ConvNeXt, its linear head behind
a layer norm. Between the two lie that norm and the L2-normalisation of cells.

python -m benchmarks.bench_pooling
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from driveworld.demo_clip.evaluation import best_class, vocabulary_of_classes, world_pictures
from ovps.clip import demo
from ovps.clip.loading import Clip, load_clip
from ovps.clip.towers import convnext_map

SCENES = 3
STRIDE = 8
SMALLEST = 4  # cells of an object


def cell_masks(objects: Tensor, rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Object ids (H, W), -1 none, to ids (M,) and masks (M, rows, cols) bool: cells whose middle shows the object."""
    middle = objects[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE][:rows, :cols]
    ids = middle[middle >= 0].unique()
    masks = middle[None] == ids[:, None, None]
    large = masks.flatten(1).sum(1) >= SMALLEST
    return ids[large], masks[large]


@torch.inference_mode()
def both(clip: Clip, image: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Object ids (M,), embeddings pooled before projection (M, C) and after it (M, C), L2-normalised."""
    visual = clip.model.visual
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (clip.mean, clip.std))
    pixels = (image.permute(2, 0, 1)[None].float() / 255 - mean) / std
    trunk = visual.trunk.forward_features(pixels)
    cells = F.normalize(convnext_map(visual, pixels), dim=1)
    ids, masks = cell_masks(objects, *trunk.shape[2:])
    weights = masks.float() / masks.flatten(1).sum(1)[:, None, None]
    pooled = torch.einsum("mhw,chw->mc", weights, trunk[0])
    before = visual.head(visual.trunk.head.norm(pooled[:, :, None, None])[:, :, 0, 0])
    after = torch.einsum("mhw,chw->mc", weights, cells[0])
    return ids, F.normalize(before, dim=1), F.normalize(after, dim=1)


def main() -> None:
    clip = load_clip(demo.NAME)
    vocabulary = vocabulary_of_classes(clip)
    cosines, alike, before_right, after_right = [], [], [], []
    for picture, class_ids in world_pictures(SCENES):
        ids, before, after = both(clip, torch.from_numpy(picture.rgb), torch.from_numpy(picture.objects).long())
        if not len(ids):
            continue
        truth = torch.from_numpy(class_ids[ids.numpy()]).long()
        first, second = best_class(before, vocabulary), best_class(after, vocabulary)
        cosines.append((before * after).sum(1))
        alike.append(first == second)
        before_right.append(first == truth)
        after_right.append(second == truth)
    cosine = torch.cat(cosines)
    print(f"{len(cosine)} objects of {SMALLEST} cells and more, {SCENES} held-out streets, demo CLIP")
    print(f"cosine of the two embeddings  median {cosine.median():.3f}, lowest tenth {cosine.quantile(0.1):.3f}")
    print(f"named alike                   {100 * torch.cat(alike).float().mean():.1f} %")
    print(f"named rightly, before (ref.)  {100 * torch.cat(before_right).float().mean():.1f} %")
    print(f"named rightly, after          {100 * torch.cat(after_right).float().mean():.1f} %")


if __name__ == "__main__":
    main()
