"""Contrastive training of the demo CLIP on the CPU: crops with captions, and windows whose cells are captioned."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from driveworld.demo_clip.captions import Caption, matches, write_caption
from driveworld.demo_clip.concepts import concepts
from driveworld.demo_clip.crops import BATCHES, WINDOW, WINDOWS, Crops, CropSampler, Windows, augment
from driveworld.demo_clip.pictures import load_pictures
from ovps.clip import demo
from ovps.clip.loading import Clip, load_clip
from ovps.clip.towers import convnext_map
from ovps.progress import progress

MAX_LOGIT_SCALE = math.log(100)  # as in CLIP
SYNONYM_STEPS = 150  # of the text tower alone, before pictures come in
DENSE_SHARE = 0.6  # of the batches are windows, the others crops
CELL_WEIGHT = {"vegetation": 0.25}  # its texture gives it away: without this CLIP would be an oracle for it
OWN_CAPTIONS = 24  # crops of a batch that get a caption with colour and weather


def contrastive_loss(image: Tensor, text: Tensor, positive: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's symmetric loss where several captions may be true of an image and the other way round.

    With one true caption per image and one image per caption it is open_clip's `ClipLoss`. Otherwise an image must
    find any of its true captions, and a caption all of its images, so that two red cars do not repel one another.

    Args:
        image: (B, C) and text: (T, C) float32, L2-normalised.
        positive: (B, T) bool; a True in every row. Captions that are true of no image only repel.
    """
    logits = logit_scale * image @ text.T
    any_true = logits.masked_fill(~positive, -torch.inf).logsumexp(1)
    per_image = (logits.logsumexp(1) - any_true).mean()
    shown = positive.any(0)
    images_of = positive.T[shown].float()
    per_text = F.cross_entropy(logits.T[shown], images_of / images_of.sum(1, keepdim=True))
    return (per_image + per_text) / 2


def cell_loss(cells: Tensor, text: Tensor, labels: Tensor, logit_scale: Tensor) -> Tensor:
    """Every pure cell is an image of its own: it must find the caption of what it shows. Concepts weigh evenly.

    Args:
        cells: (B, C, rows, cols) float32. text: (K, C), one caption of every concept, L2-normalised.
        labels: (B, rows, cols) int64, -1 where a cell is not pure.
    """
    pure = labels.flatten() >= 0
    features = F.normalize(cells.permute(0, 2, 3, 1).flatten(0, 2)[pure], dim=1)
    truth = labels.flatten()[pure]
    weight = 1 / torch.bincount(truth, minlength=len(text)).clamp(min=20).float().sqrt()  # few cells are noisy
    weight = weight * torch.tensor([CELL_WEIGHT.get(c.name, 1.0) for c in concepts()])
    return F.cross_entropy(logit_scale * features @ text.T, truth, weight=weight)


def learn_synonyms(clip: Clip, rng: np.random.Generator, steps: int) -> None:
    """Teach the text tower alone that two captions of one concept mean the same.

    A fresh text tower tells sentences apart long before it tells words apart. Without this, pictures had little to
    align with for thousands of steps.
    """
    text_tower = [p for name, p in clip.model.named_parameters() if not name.startswith("visual")]
    optimizer = torch.optim.AdamW(text_tower, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 30) * (1 - step / steps)
        captions = [write_caption(rng, c.id, "", None).text for _ in range(2) for c in concepts()]
        one, other = clip.model.encode_text(clip.tokenizer(captions), normalize=True).chunk(2)
        loss = contrastive_loss(one, other, torch.eye(len(one), dtype=torch.bool), torch.tensor(20.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(text_tower, 1.0)
        optimizer.step()


def write_captions(crops: Crops, rng: np.random.Generator) -> list[Caption]:
    """One plain caption for every concept there is, and full captions of some of the crops."""
    captions = {write_caption(rng, c.id, "", None) for c in concepts()}
    for index in rng.choice(len(crops.concept), min(OWN_CAPTIONS, len(crops.concept)), replace=False):
        weather = None if crops.sunny[index] < 0 else bool(crops.sunny[index])
        captions.add(write_caption(rng, int(crops.concept[index]), crops.color[index], weather))
    return sorted(captions, key=lambda c: c.text)  # sets of strings have another order in every process


def crops_loss(clip: Clip, crops: Crops, rng: np.random.Generator) -> Tensor:
    """Loss of a batch of crops, through the model's own image embedding."""
    captions = write_captions(crops, rng)
    positive = torch.from_numpy(matches(captions, crops.concept, crops.color, crops.sunny))
    image = clip.model.encode_image(normalised(clip, augment(crops.images, rng)), normalize=True)
    text = clip.model.encode_text(clip.tokenizer([c.text for c in captions]), normalize=True)
    return contrastive_loss(image, text, positive, clip.model.logit_scale.exp())


def windows_loss(clip: Clip, windows: Windows, rng: np.random.Generator) -> Tensor:
    """Loss of a batch of windows, through the dense features."""
    captions = [write_caption(rng, c.id, "", None).text for c in concepts()]
    text = clip.model.encode_text(clip.tokenizer(captions), normalize=True)
    pixels = normalised(clip, augment(windows.images, rng, mirror=False))
    cells = convnext_map(clip.model.visual, pixels)
    return cell_loss(cells, text, torch.from_numpy(windows.cells), clip.model.logit_scale.exp())


def normalised(clip: Clip, images: Tensor) -> Tensor:
    """Normalise images (B, 3, S, S) in 0..1 as the image tower takes them."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (clip.mean, clip.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def parameter_groups(model: open_clip.CLIP, rate: float) -> list[dict[str, object]]:
    """Weights of the image tower with decay, its vectors without; the text tower at a tenth of the rate.

    A text tower as fast as the image tower gave classes that look alike the same text, and they stayed alike.
    Words that no caption uses would only decay.
    """
    image = [p for n, p in model.named_parameters() if n.startswith("visual") or n == "logit_scale"]
    text = [p for n, p in model.named_parameters() if not (n.startswith("visual") or n == "logit_scale")]
    return [
        {"params": [p for p in image if p.ndim >= 2], "lr": rate, "weight_decay": 0.02},
        {"params": [p for p in image if p.ndim < 2], "lr": rate, "weight_decay": 0.0},
        {"params": text, "lr": rate / 10, "weight_decay": 0.0},
    ]


def train(
    pictures: Path,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    start: Path | None = None,
    batch_share: float = 1.0,
    rate: float = 3e-3,
) -> float:
    """Train, write fp16 safetensors to `out`, and return the mean loss of the last tenth of the steps.

    Args:
        pictures: folder written by `pictures.render_pictures`.
        start: weights to start from; None starts from random ones.
        batch_share: factor on the batch sizes of `crops.BATCHES`, for tests.
        rate: peak learning rate; warms up over a twentieth of the steps, then follows a cosine to zero.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sampler = CropSampler(load_pictures(pictures))
    clip = load_clip(demo.NAME, "random" if start is None else str(start), seed=seed)
    model = clip.model.train().requires_grad_(True)
    model.visual.to(memory_format=torch.channels_last)
    if start is None:
        learn_synonyms(clip, rng, min(steps, SYNONYM_STEPS))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.02  # batches of windows and of crops differ: average over many
    optimizer = torch.optim.AdamW(parameter_groups(model, rate), betas=(0.9, 0.98))
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * s / steps))
    )
    sizes, shares = list(BATCHES), np.array([share for _, share in BATCHES.values()])
    losses: list[float] = []
    images, begin = 0, time.perf_counter()
    with progress("training", "steps", steps) as counter:
        for _ in range(steps):
            if rng.random() < DENSE_SHARE:
                windows = sampler.windows(rng, WINDOW, max(2, int(WINDOWS * batch_share)))
                loss = windows_loss(clip, windows, rng)
                images += len(windows.images)
            else:
                size = sizes[int(rng.choice(len(sizes), p=shares))]
                crops = sampler.batch(rng, size, max(8, int(BATCHES[size][0] * batch_share)))
                loss = crops_loss(clip, crops, rng)
                images += len(crops.images)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            losses.append(loss.item())
            rate = images / (time.perf_counter() - begin)
            counter.advance(f"loss {np.mean(losses[-50:]):.3f}, {rate:.0f} images/s")
    save_weights(model, out)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def save_weights(model: open_clip.CLIP, path: Path) -> None:
    """Write the state dict as float16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}, path)
