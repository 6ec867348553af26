"""Contrastive training of the demo CLIP on the CPU."""

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

from ovps.clip import demo
from ovps.clip.loading import Clip, load_clip
from ovps.progress import progress_bar
from pipelines.demo_clip.captions import matches, write_caption
from pipelines.demo_clip.crops import BATCHES, Crops, CropSampler, augment
from pipelines.demo_clip.pictures import load_pictures

MAX_LOGIT_SCALE = math.log(100)  # as in CLIP


def contrastive_loss(image: Tensor, text: Tensor, positive: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's symmetric loss where several captions may be true of an image and the other way round.

    With one true caption per image it is open_clip's `ClipLoss`. Otherwise the target of an image is spread evenly
    over its true captions, so that two crops of a red car do not push one another away.

    Args:
        image: (B, C) and text: (T, C) float32, L2-normalised. positive: (B, T) bool, a True in every row and column.
    """
    logits = logit_scale * image @ text.T
    per_image = positive / positive.sum(1, keepdim=True)
    per_text = positive.T / positive.T.sum(1, keepdim=True)
    return (F.cross_entropy(logits, per_image) + F.cross_entropy(logits.T, per_text)) / 2


def batch_loss(clip: Clip, crops: Crops, rng: np.random.Generator) -> Tensor:
    """Loss of one batch: a new caption for every crop, and new light on every crop."""
    captions = {
        write_caption(rng, int(c), color, None if sun < 0 else bool(sun))
        for c, color, sun in zip(crops.concept, crops.color, crops.sunny, strict=True)
    }
    ordered = sorted(captions, key=lambda c: c.text)  # sets of strings have another order in every process
    positive = torch.from_numpy(matches(ordered, crops.concept, crops.color, crops.sunny)).float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (clip.mean, clip.std))
    pixels = ((augment(crops.images, rng) - mean) / std).contiguous(memory_format=torch.channels_last)
    image = clip.model.encode_image(pixels, normalize=True)
    text = clip.model.encode_text(clip.tokenizer([c.text for c in ordered]), normalize=True)
    return contrastive_loss(image, text, positive, clip.model.logit_scale.exp())


def train(
    pictures: Path, out: Path, *, steps: int, seed: int = 0, batch_share: float = 1.0, rate: float = 2e-3
) -> float:
    """Train from random weights, write fp16 safetensors to `out`, and return the mean loss of the last tenth.

    Args:
        pictures: folder written by `pictures.render_pictures`.
        batch_share: factor on the batch sizes of `crops.BATCHES`, for tests.
        rate: peak learning rate; warms up over a twentieth of the steps, then follows a cosine to zero.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sampler = CropSampler(load_pictures(pictures))
    clip = load_clip(demo.NAME, "random", seed=seed)
    model = clip.model.train().requires_grad_(True)
    model.visual.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98)
    )
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * s / steps))
    )
    sizes, shares = list(BATCHES), np.array([share for _, share in BATCHES.values()])
    losses: list[float] = []
    images, start = 0, time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("training steps", total=steps, note="")
        for _ in range(steps):
            size = sizes[int(rng.choice(len(sizes), p=shares))]
            crops = sampler.batch(rng, size, max(8, int(BATCHES[size][0] * batch_share)))
            loss = batch_loss(clip, crops, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            losses.append(loss.item())
            images += len(crops.images)
            rate_now = images / (time.perf_counter() - start)
            bar.update(task, advance=1, note=f"loss {np.mean(losses[-50:]):.3f}, {rate_now:.0f} crops/s")
    save_weights(model, out)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def save_weights(model: open_clip.CLIP, path: Path) -> None:
    """Write the state dict as float16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in model.state_dict().items()}, path)
