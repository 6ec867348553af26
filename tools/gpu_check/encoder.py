"""Stage c: images per second of the full-size CLIP encoder, and of the whole of stage 1 beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from ovps.clip import demo
from ovps.clip.dense import dense_encoder
from ovps.clip.loading import Clip, load_clip
from ovps.clip.protocol import AT_ONCE
from ovps.clip.towers import tower_of
from pipelines.precompute import precompute
from tools.gpu_check import minkowski
from tools.gpu_check.facts import ceilings, tf32
from tools.gpu_check.predict import Ceilings, Cost
from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import Setting
from tools.gpu_check.world import FULL_ENCODER, FULL_IMAGE, full_options, full_store


@dataclass(frozen=True)
class Way:
    """How the encoder is run.

    Attributes:
        precision: `bf16` is that of `ovps precompute` on a GPU, in batches of 6.
        channels_last: memory format of weights and images; so does `ovps precompute`.
    """

    precision: str
    batch: int
    channels_last: bool = True
    compiled: bool = False

    def __str__(self) -> str:
        form = "" if self.channels_last else ", contiguous"
        return f"{self.precision}, batch {self.batch}{form}{', compiled' if self.compiled else ''}"


# In order of value: what the stage does now, what may be best, then the rest; compiling takes a minute.
WAYS = (
    *(Way("bf16", AT_ONCE), Way("tf32", 6), Way("bf16", 1), Way("tf32", 1), Way("fp32", 1), Way("bf16", 12)),
    *(Way("bf16", 2), Way("tf32", 2), Way("tf32", 12), Way("fp32", 6), Way("fp32", 2), Way("fp32", 12)),
    *(Way("bf16", 6, channels_last=False), Way("tf32", 6, channels_last=False), Way("fp32", 6, channels_last=False)),
    *(Way("bf16", 6, compiled=True), Way("tf32", 6, compiled=True)),
)
TINY_WAYS = (Way("fp32", 1), Way("tf32", 2), Way("bf16", 2), Way("bf16", 2, channels_last=False))


def run(setting: Setting, recorder: Recorder) -> None:
    minkowski.ensure(setting, recorder)
    best = ceilings(setting)
    size = (176, 99) if setting.tiny else FULL_IMAGE
    name, weights = ("demo", None) if setting.tiny else (FULL_ENCODER, "random")
    cost = image_cost(name, size)
    recorder.add("FLOPs of an image", cost.flops / 1e12, "TFLOP", note=f"{name}, {size[0]}x{size[1]}; counted")
    recorder.add("bytes of an image, fp32", cost.bytes / 1e9, "GB", note="each operation's inputs and outputs; counted")
    clip = load_clip(name, weights)
    clip.model.to(setting.device)
    images = np.random.default_rng(0).integers(0, 256, (12, size[1], size[0], 3), np.uint8)
    rates: dict[Way, float] = {}
    ways = TINY_WAYS if setting.tiny else WAYS
    for number, way in enumerate(ways):
        if number == 2:  # the whole stage comes before the fine points
            with recorder.guarded("whole stage"):
                whole_stage(setting, recorder, rates.get(ways[0]))
        with recorder.guarded(f"encoder {way}"):
            rates[way] = measured(setting, recorder, clip, way, images, cost, best)
    with recorder.guarded("agreement of precisions"):
        precisions(setting, recorder, clip, images[:1])
    with recorder.guarded("neighbours in a batch"):
        neighbours(setting, recorder, clip, images[:AT_ONCE])
    if not setting.tiny:
        with recorder.guarded("whole stage, a worker"):
            a_worker(setting, recorder)


def image_cost(name: str, size: tuple[int, int]) -> Cost:
    """Of one image through the tower, on the `meta` device: nothing is computed."""
    demo.register()
    with torch.device("meta"), torch.no_grad(), Cost() as cost:
        model = open_clip.create_model(name, pretrained_text=False, load_weights=False, device="meta")
        cost.operations.clear()  # those that made the weights
        tower_of(model.visual.eval(), name).features(torch.empty(1, 3, size[1], size[0]))
    return cost


def measured(
    setting: Setting,
    recorder: Recorder,
    clip: Clip,
    way: Way,
    images: np.ndarray,
    cost: Cost,
    best: Ceilings,
) -> float:
    """Images per second, images coming from the host's memory as in the stage."""
    batch = torch.from_numpy(images[: way.batch])
    setting.free_memory()
    with prepared(clip, way, setting, images) as encode:
        rate = way.batch / setting.seconds(lambda: encode(batch), rounds=5, warm_up=3 if way.compiled else 2, most=4.0)
    ceiling = best.flops[way.precision]
    predicted = 1 / seconds_of(cost, best, way)
    share, peak = rate * cost.flops / ceiling, setting.peak_gib()
    note = f"{100 * share:.0f} % of the matrix ceiling" + (f", {peak:.1f} GiB" if peak is not None else "")
    recorder.add(f"encoder {way}", rate, "images/s", predicted=predicted, note=note)
    return rate


def seconds_of(cost: Cost, best: Ceilings, way: Way) -> float:
    """Of one image, operation by operation at its ceiling; half the bytes in bf16, starting shared by a batch."""
    bytes_share = 0.5 if way.precision == "bf16" else 1.0
    rate = best.flops[way.precision]
    return sum(
        max(flops / rate, bytes_share * size / best.bandwidth, best.launch / way.batch)
        for flops, size in cost.operations
    )


@contextmanager
def prepared(clip: Clip, way: Way, setting: Setting, images: np.ndarray) -> Iterator[Callable[[Tensor], Tensor]]:
    """`DenseEncoder.encode` for images of this size, in the way asked for."""
    height, width = images.shape[1:3]
    encoder = dense_encoder(clip, (width, height), batch_size=way.batch)  # brings the weights to channels_last
    tower = encoder._tower
    if not way.channels_last:
        clip.model.visual.to(memory_format=torch.contiguous_format)

    def features(pixels: Tensor) -> Tensor:
        return tower.features(pixels if way.channels_last else pixels.contiguous())

    features = torch.compile(features) if way.compiled else features
    changed = replace(encoder, _tower=replace(tower, features=features))
    half = torch.autocast(torch.device(setting.device).type, torch.bfloat16, enabled=way.precision == "bf16")
    with tf32(way.precision == "tf32"), half:
        yield changed.encode


def precisions(setting: Setting, recorder: Recorder, clip: Clip, images: np.ndarray) -> None:
    """Cosine of each cell's feature in lower precision to that in float32."""
    batch = torch.from_numpy(images)
    with prepared(clip, Way("fp32", 1), setting, images) as encode:
        reference = encode(batch).float()
    for precision in ("tf32", "bf16"):
        with prepared(clip, Way(precision, 1), setting, images) as encode:
            cosine = F.cosine_similarity(encode(batch).float(), reference, dim=-1)
        recorder.add(
            f"1 - cosine of features, {precision} to fp32",
            float(1 - cosine.mean()),
            note=f"worst {float(1 - cosine.min()):.2g}",
        )


def whole_stage(setting: Setting, recorder: Recorder, bare: float | None) -> None:
    """`ovps precompute` of twelve frames in one process; its store is what stage d trains on."""
    shutil.rmtree(full_store(setting), ignore_errors=True)
    summary = precompute(full_options(setting, full_store(setting)))
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary.stage_seconds.items())
    recorder.add(
        "whole stage", summary.images_per_second, "images/s", predicted=bare, note=f"{summary.frames} frames: {parts}"
    )


def neighbours(setting: Setting, recorder: Recorder, clip: Clip, images: np.ndarray) -> None:
    """Do the cells of an image keep every bit, in any place of a batch and beside any other images?"""
    with prepared(clip, Way("bf16", AT_ONCE), setting, images) as encode:
        cells = encode(torch.from_numpy(images))
        turned = encode(torch.from_numpy(images[::-1].copy())).flip(0)
        alone = torch.cat([encode(torch.from_numpy(image[None])) for image in images])
    differing = int((cells != turned).any(-1).sum() + (cells != alone).any(-1).sum())
    recorder.add("cells that depend on the batch", differing, tolerance=0, note="a store's bytes must not")


def a_worker(setting: Setting, recorder: Recorder) -> None:
    """The same by a worker, two partitions at a time, its start included."""
    out = setting.work / "zarr" / "full-workers"
    shutil.rmtree(out, ignore_errors=True)
    summary = precompute(full_options(setting, out, workers=1))
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary.stage_seconds.items())
    recorder.add("whole stage, a worker", summary.images_per_second, "images/s", note=parts)
