"""Count what a GPU would be given to do, on a CPU: operations, waits of the host and copies to the device, by place.

python -m tools.gpu_check.counts                       # a training step, drive world size
python -m tools.gpu_check.counts --config nuscenes      # full scale: a minute
python -m tools.gpu_check.counts --what predict        # or evaluate: a frame with all its variants

Figures are of the sparse backend `torch`, whose operations are visible; MinkowskiEngine has fewer, and waits inside
that nobody sees. Places are files of ovps, or lines with --lines; `training/loop.py` has the backward pass.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table

from driveworld import demo_run
from ovps import systems
from ovps.batch.voxels import frame_batch
from ovps.cache.reader import Store
from ovps.evaluation.tally import VARIANTS
from ovps.inference.predict_frame import predict_frame
from ovps.training.config import TrainConfig, load_config
from ovps.training.loop import train_steps
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from ovps.training.run import load_run
from pipelines.precompute import precompute
from pipelines.train import deterministic_algorithms, plan
from tools.gpu_check.setting import Setting
from tools.gpu_check.stand_in import DEVICE, StandIn, Tally, send, total
from tools.gpu_check.world import small_options

What = Literal["step", "predict", "evaluate"]
PLAIN = ("data.workers=0", "gradient_interval=0", "model.encoder.backend=torch")


def main(
    what: Annotated[What, typer.Option(help="A training step, or a frame of `predict` or of `evaluate`.")] = "step",
    config: Annotated[str, typer.Option(help="Of the training.")] = "driveworld",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Of the training, key.sub=value.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Two streets of the drive world, made, without it.")] = None,
    lines: Annotated[int, typer.Option(min=0, help="Tell so many lines of code, not files.")] = 0,
    work: Annotated[Path, typer.Option(help="Scratch.")] = Path("build/gpu_check/work"),
) -> None:
    store = Store.open(cache or _made(work.resolve()))
    if what == "step":
        places = counted_step(store, load_config(config, (*(settings or ()), *PLAIN)))
    else:
        demo_run.unpack(work / "runs" / "demo")
        places = counted_frame(store, work / "runs" / "demo", VARIANTS if what == "evaluate" else ())
    show(places, lines)


def counted_step(store: Store, config: TrainConfig) -> dict[str, Tally]:
    """What each line of ovps does in the second step of a training."""
    batches, info = plan(store, config)
    kind = systems.get(config.system)
    torch.manual_seed(config.seed)
    network = send(make_network(config, info))
    optimiser = make_optimiser(network, config.optimiser, fused=True)  # as on a GPU
    with deterministic_algorithms(), StandIn() as seen:
        classes = kind.training_classes(store.vocabulary, info.classes).to(DEVICE)
        objective = make_objective(kind, config, classes, 1.0)
        steps = train_steps(network, optimiser, batches, objective, config, start=0, stop=2, total=2)
        next(steps)  # makes the optimiser's state
        seen.places.clear()
        next(steps)
    return seen.places


def counted_frame(store: Store, trained: Path, variants: Iterable[str]) -> dict[str, Tally]:
    """What each line of ovps does to label one frame with a run."""
    run = load_run(trained, backend="torch")
    network = send(run.network)
    unwrapped = inspect.unwrap(predict_frame)  # inference mode has no place for tensors of another kind
    with torch.no_grad(), StandIn() as seen:
        classes = run.system.classes(store.vocabulary, run.info.classes.names).to(DEVICE)
        frame = frame_batch(store.read(store.frames[-1]), run.grid)
        seen.places.clear()
        unwrapped(
            run.system, network, frame.to(DEVICE), classes, run.config.merge, run.config.classifier, tuple(variants)
        )
    return seen.places


def show(places: dict[str, Tally], lines: int) -> None:
    """A table, the places with most operations and waits first."""
    if not lines:
        grouped: dict[str, Tally] = defaultdict(Tally)
        for place, tally in places.items():
            grouped[place.partition(":")[0]].add(tally)
        places = grouped
    table = Table("place", *("operations", "waits", "sends", "MB"), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    ranked = sorted(places.items(), key=lambda item: -(item[1].operations + 100 * item[1].waits + item[1].sends))
    for place, tally in [*ranked[: lines or None], ("all", total(places.values()))]:
        numbers = (tally.operations, tally.waits, tally.sends, round(tally.bytes / 1e6))
        table.add_row(place, *(f"{n:,}" for n in numbers))
    Console(width=120).print(table)


def _made(work: Path) -> Path:
    out = work / "zarr" / "counts"
    if not (out / "store.json").is_file():
        precompute(small_options(Setting("cpu", False, work, work, work), out))
    return out


if __name__ == "__main__":
    typer.run(main)
