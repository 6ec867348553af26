"""Command line of the demo CLIP: `python -m driveworld.demo_clip --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from driveworld.demo_clip import evaluation
from driveworld.demo_clip.pictures import render_pictures
from driveworld.demo_clip.training import train
from ovps import strict_json
from ovps.clip import demo
from ovps.clip.loading import load_clip
from ovps.files import check_writable
from ovps.places import check_free
from ovps.taxonomy import load_split

app = typer.Typer(help="Make the demo CLIP: render, train, evaluate.", no_args_is_help=True, add_completion=False)


@app.command("render")
def render_command(
    out: Annotated[Path, typer.Option(help="Folder for the pictures, about 1.1 MB each.")] = Path("data/demo_clip"),
    scenes: Annotated[int, typer.Option(help="Streets; 4 s each.")] = 160,
    per_scene: Annotated[int, typer.Option(help="Pictures per street.")] = 6,
    first_seed: Annotated[int, typer.Option(help="Seed of the first street.")] = 0,
) -> None:
    """Render the training pictures."""
    check_free(out)
    check_writable(out)
    render_pictures(out, scenes, per_scene, first_seed)


@app.command("train")
def train_command(
    pictures: Annotated[Path, typer.Option(help="Folder that `render` wrote.")] = Path("data/demo_clip"),
    out: Annotated[Path, typer.Option(help="Where the weights go; by default into the package.")] = demo.weights_path(),
    steps: Annotated[int, typer.Option(help="Batches.")] = 3200,
    seed: Annotated[int, typer.Option(help="Of weights, crops and captions.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Weights to go on from; by default random ones.")] = None,
) -> None:
    """Train on the CPU. Threads: set OMP_NUM_THREADS."""
    check_free(out, file=demo.weights_path().suffix)
    check_writable(out, file=True)
    loss = train(pictures, out, steps=steps, seed=seed, start=start)
    typer.echo(f"final loss {loss:.3f}, {out.stat().st_size / 1e6:.1f} MB in {out}", err=True)


@app.command("evaluate")
def evaluate_command(
    weights: Annotated[str | None, typer.Option(help="Path of other weights, or `random`.")] = None,
    scenes: Annotated[int, typer.Option(help="Held-out streets, 12 pictures each.")] = 8,
    dataroot: Annotated[
        Path | None, typer.Option(help="Score dense pixels on this world instead; it needs camera labels.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Zero-shot accuracy over the 16 classes on held-out streets of drive world: crops, and dense pixels."""
    clip = load_clip(demo.NAME, weights)
    vocabulary = evaluation.vocabulary_of_classes(clip)
    pictures = evaluation.world_pictures(scenes)
    crops = evaluation.crop_accuracy(clip, vocabulary, pictures)
    scored = [p for p, _ in pictures] if dataroot is None else evaluation.dataroot_pictures(dataroot)
    dense, confusion = evaluation.dense_accuracy(clip, vocabulary, scored)
    if as_json:
        result = {"weights_sha256": clip.weights_sha256, "crops": crops.as_json(), "dense": dense.as_json()}
        typer.echo(strict_json.dumps({**result, "confusion": confusion.tolist()}, indent=2))
        return
    novel = load_split("b12n4").novel
    table = Table(title=f"Demo CLIP, zero-shot, {len(pictures)} held-out pictures")
    for heading in ("class", "crops", "top-1 %", "pixels", "dense %"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name in vocabulary.names:
        cells = [
            f"{a.total[name]}" if part == 0 else f"{100 * a.per_class[name]:.1f}" if a.total[name] else "-"
            for a in (crops, dense)
            for part in (0, 1)
        ]
        table.add_row(f"{name} (novel)" if name in novel else name, *cells)
    for title, crop_value, dense_value in (
        ("mean over classes", crops.mean, dense.mean),
        ("over all", crops.overall, dense.overall),
    ):
        table.add_row(title, "", f"{100 * crop_value:.1f}", "", f"{100 * dense_value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    app()
