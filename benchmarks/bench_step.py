"""A training step from the cache, against the same step with CLIP run online on the six images (reference).

The limit: a step that reads nothing at all, with its batch in memory.

python -m benchmarks.bench_step
python -m benchmarks.bench_step --config nuscenes --batch 2 --upscale 2.27 \\
    --encoder convnext_large_d_320 --weights random

The second is the full scale, images as large as nuScenes', and wants a GPU. With random weights it times, and says
nothing about a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import torch
import typer

from benchmarks.rows import Row
from benchmarks.setting import FRAMES, ROOT, options, paired
from ovps.batch.loader import training_frames
from ovps.batch.order import Draw
from ovps.batch.sample import Batch, join, make_sample
from ovps.batch.statistics import measure
from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.systems.queries import SYSTEM
from ovps.training.config import load_config
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from pipelines.precompute import precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import StageTimes, compute_frame
from pipelines.precompute.options import resolved
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import forget_encoder, tools_of
from pipelines.train import plan

T = TypeVar("T")
USUAL_ROUNDS = 8


def rows() -> list[Row]:
    """Seconds of a step from the cache."""
    reference, ours, floor, _ = measured()
    return [
        Row("a training step from the cache", "the same with the demo CLIP online", ours, reference, "s"),
        Row("a training step from the cache", "its batch in memory: the limit", ours, floor, "s"),
    ]


def main(
    config: Annotated[str, typer.Option(help="Of training.")] = "driveworld",
    batch: Annotated[int, typer.Option(min=1, max=FRAMES, help="Frames a step.")] = 1,
    encoder: str = "demo",
    weights: str | None = None,
    upscale: Annotated[float, typer.Option(help="Of the 704 x 396 images.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Pairs timed.")] = USUAL_ROUNDS,
) -> None:
    reference, ours, floor, (about, without_clip, with_clip) = measured(
        config, batch, encoder, weights, upscale, rounds
    )
    print(f"{about}; config {config}, {batch} frames a step; encoder {encoder}; {rounds} pairs")
    print(f"CLIP online (reference)   {reference:7.3f} s a step{with_clip}")
    print(
        f"from the cache            {ours:7.3f} s a step: {reference / ours:.2f} times faster than online{without_clip}"
    )
    print(f"batch in memory (limit)   {floor:7.3f} s a step: the cache takes {ours / floor:.2f} times the limit")


def measured(
    config: str = "driveworld",
    batch: int = 1,
    encoder: str = "demo",
    weights: str | None = None,
    upscale: float = 1.0,
    rounds: int = USUAL_ROUNDS,
) -> tuple[float, float, float, tuple[str, str, str]]:
    """Median seconds of a step with CLIP online, from the cache, and with its batch in memory; machine and memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out = ROOT / f"zarr-{encoder}-{weights}-{upscale}"
    chosen = options(encoder=encoder, weights=weights, upscale=upscale, out=out)
    precompute(chosen)
    store = Store.open(out)
    settings = load_config(config, (f"data.batch_size={batch}", "data.keep_mb=0"))
    torch.set_num_threads(2)
    refs = training_frames(store, ("train",))
    batches, info = plan(store, settings)
    classes = SYSTEM.training_classes(store.vocabulary, info.classes).to(device)
    network = make_network(settings, info).to(device).train()
    optimiser = make_optimiser(network, settings.optimiser)
    objective = make_objective(SYSTEM, settings, classes, measure(store, refs, FRAMES).mean_l1)
    kept = [store.read(ref) for ref in refs]

    def sample(read: Sequence[CachedFrame], turn: int) -> Batch:
        return join(
            [
                make_sample(
                    frame,
                    Draw(epoch=turn, frame=number),
                    seed=0,
                    grid=batches.grid,
                    augmentation=settings.augmentation,
                    base=batches.base,
                    proposals=settings.loss.proposals,
                    clusters=batches.clusters,
                )
                for number, frame in enumerate(read)
            ]
        )

    def step(ready: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        objective(network, ready.to(device), 0).total.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def turns(items: Sequence[T], turn: int) -> list[T]:
        return [items[(turn * batch + number) % FRAMES] for number in range(batch)]

    def cached(turn: int) -> None:
        step(sample([store.read(ref) for ref in turns(refs, turn)], turn))

    forget_encoder()
    without_clip = peak(cached, device)
    wanted = resolved(chosen)
    frames = frames_of(wanted)
    job, _ = prepare(wanted, frames)
    tools = tools_of(job)

    def online(turn: int) -> None:
        for frame in turns(frames, turn):
            compute_frame(frame, tools, StageTimes())
        step(sample(turns(kept, turn), turn))

    ready = [sample(turns(kept, turn), turn) for turn in range(FRAMES)]

    def limit(turn: int) -> None:
        step(ready[turn % FRAMES])

    reference, ours, _ = paired(online, cached, rounds)
    floor, _, _ = paired(limit, cached, rounds)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    random = "; RANDOM weights" if store.provenance.weights_random else ""
    return reference, ours, floor, (where + random, without_clip, peak(online, device))


def peak(action: Callable[[int], None], device: torch.device) -> str:
    """What a GPU's memory holds at the most meanwhile; nothing is said of a CPU."""
    if device.type != "cuda":
        return ""
    action(0)  # the optimiser's state is made by the first step
    torch.cuda.reset_peak_memory_stats()
    action(1)
    return f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at the peak"


if __name__ == "__main__":
    typer.run(main)
