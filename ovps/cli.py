"""The command line: parse, call, print. No logic."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from ovps import __version__, plugins, shortage, strict_json
from ovps.commands import cache, data, experiment, vocab, world
from ovps.commands.declare import Json, example, path_of, runs
from ovps.commands.shown import out, show
from ovps.errors import ConfigError, Interrupted, OvpsError, StorageError
from ovps.interrupt import launched, listening, told
from ovps.json_output import print_json
from ovps.options import takes
from ovps.progress import show_warnings
from ovps.shortage import faults
from pipelines.options import (
    DemoOptions,
    EvaluateOptions,
    ExportOptions,
    PrecomputeOptions,
    PredictOptions,
    QueryOptions,
    ReportOptions,
    SegmentOptions,
    TrainOptions,
    TuneOptions,
    ViewOptions,
)

# heavy imports (torch, zarr, dask, ...) happen inside the commands, so that --help is quick


UsageError: Any = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy of it


class Commands(TyperGroup):
    """The commands; one that is stopped by a signal ends with `Interrupted`, and other packages are named."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with told(), _usage():
            return super().make_context(*args, **more)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with plugins.told():
            return self._invoke(ctx)

    def _invoke(self, ctx: typer.Context) -> Any:
        try:
            with told(), _usage():
                return super().invoke(ctx)
        except faults(OSError) as error:
            if error.filename is None:
                raise
            remedy = "Check what the command names, and the rights to it"
            raise ConfigError(f"cannot be used: {error.strerror}", path=error.filename, remedy=remedy) from error
        except UnicodeEncodeError as error:
            if not any(0xD800 <= ord(c) < 0xE000 for c in error.object[error.start : error.end]):
                raise
            raise ConfigError(
                f"a name or word that is no text in UTF-8: {error.object!a}",
                remedy="Rename the file, or write the word in a terminal of UTF-8 (locale charmap)",
            ) from error


@contextmanager
def _usage() -> Iterator[None]:
    """Give machines a wrong command line as any other error; people get it from typer."""
    try:
        yield
    except UsageError as error:
        asked = error.ctx.command_path.removeprefix(error.ctx.find_root().command_path) if error.ctx else ""
        _for_machines(ConfigError(error.format_message(), remedy=f"See ovps{asked} --help"))
        raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Open-vocabulary 3D panoptic segmentation of LiDAR, with CLIP features computed once.",
)
for _name, _group in (
    ("world", world.app),
    ("data", data.app),
    ("cache", cache.app),
    ("vocab", vocab.app),
    ("experiment", experiment.app),
):
    app.add_typer(_group, name=_name)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


@app.command(epilog=example("ovps doctor", "ovps doctor --cache /data/zarr --json"))
def doctor(
    cache: Annotated[str, typer.Option(help="The folder or URL that precompute would write to.")] = "zarr",
    as_json: Json = False,
) -> None:
    """Say what is installed, what is missing, and what to do about it. Exit code 1 if something needed is missing."""
    from ovps.doctor import examine

    report = examine(cache)
    if as_json:
        print_json(report.model_dump_json(indent=2))
    else:
        table = Table("", "", "found", "remedy")
        marks = {"ok": Text("ok", "green"), "warning": Text("note", "yellow"), "problem": Text("missing", "red")}
        for check in report.checks:
            table.add_row(marks[check.status], check.name, check.found, check.remedy)
        out.print(table)
    raise typer.Exit(0 if report.healthy else 1)


runs(
    app,
    DemoOptions,
    "pipelines.demo:demo",
    "A first picture in two minutes: one street of the drive world, labelled by a run that ships with ovps.\n\n"
    "No training and no download. What it makes can be looked at further, by `ovps view` and the other commands.",
    "ovps demo",
    'ovps demo --words "fire engine, tree:stuff, person on a bicycle" --out demo',
    "ovps demo --seed 7 --frames 2 --out another-street --no-open --json",
)


@app.command(
    epilog=example(
        "ovps precompute --dataset nuscenes --dry-run",
        "ovps precompute --dataset nuscenes --weights open_clip_model.safetensors --out ./zarr",
        "ovps precompute --dataset nuscenes --dataroot data/driveworld --encoder demo --out ./zarr --workers 2",
    )
)
@takes(PrecomputeOptions)
def precompute(
    options: PrecomputeOptions,
    dry_run: Annotated[bool, typer.Option(help="Only say how many frames, bytes and hours.")] = False,
    as_json: Json = False,
) -> None:
    """Stage 1: run frozen CLIP once over all camera images and write a store of voxel features.

    Running it again does only what is missing.
    """
    from pipelines.precompute import estimate
    from pipelines.precompute import precompute as run

    show(estimate(options) if dry_run else run(options), as_json)


@app.command(
    epilog=example(
        "ovps train --cache ./zarr --out runs/first",
        "ovps train --cache ./zarr --config nuscenes --split b11n5 --out runs/b11n5",
        "ovps train --cache ./zarr --system pfc --out runs/pfc",
        "ovps train --cache ./zarr --set optimiser.lr=4e-4 --set steps=500 --out runs/short",
        "torchrun --nproc-per-node 4 -m ovps train --cache ./zarr --config nuscenes --out runs/nuscenes",
    )
)
@takes(TrainOptions)
def train(options: TrainOptions, as_json: Json = False) -> None:
    """Stage 2: train on a store. CLIP is never run. An interrupted run goes on exactly where it was."""
    from ovps.training.distributed import first_process
    from pipelines.train import train as run

    summary = run(options)
    if first_process():
        show(summary, as_json)


@app.command(
    "eval",
    epilog=example(
        "ovps eval --run runs/driveworld-ovps --cache ./zarr",
        "ovps eval --run runs/closed_set --cache ./zarr --split b12n4 --json",
        "ovps eval --run runs/driveworld-ovps --set classifier.classes=ensemble --out runs/ensemble",
    ),
)
@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions, as_json: Json = False) -> None:
    """PQ, SQ, RQ and mIoU by class and for all / base / novel x things / stuff, beside reference rows."""
    from ovps.evaluation.console import print_result
    from ovps.inference.session import inference_settings
    from pipelines.evaluate import UnsavedError
    from pipelines.evaluate import evaluate as score

    merge, classifier = inference_settings(options.run, options.settings)
    try:
        result = score(**options.model_dump(exclude={"settings"}), merge=merge, classifier=classifier)
    except UnsavedError as error:
        show_warnings(error.result.warnings)
        print_result(error.result, Console(stderr=True, width=out.width))
        raise
    show_warnings(result.warnings)
    if as_json:
        print_json(result.model_dump_json(indent=2))
    else:
        print_result(result, out)


@app.command(
    epilog=example(
        "ovps tune --run runs/driveworld-ovps --cache ./zarr",
        "ovps tune --run runs/closed_set --cache ./zarr --split b12n4 --json",
    ),
)
@takes(TuneOptions)
def tune(options: TuneOptions, as_json: Json = False) -> None:
    """Thresholds of the merge by the PQ of base classes: twelve settings, one pass of the network."""
    from pipelines.tune import tune as try_settings

    summary = try_settings(**options.model_dump())
    if as_json:
        show(summary, as_json)
        return
    show_warnings(summary.warnings)
    table = Table("setting", "PQ of base classes, %", box=None)
    for trial in summary.trials:
        table.add_row(", ".join(f"{k} {v:g}" for k, v in trial.setting.items()), f"{100 * trial.base_pq:.1f}")
    out.print(table)
    found = f"best: {summary.set}" if summary.set else "no setting finds a segment of a base class, so none is better"
    out.print(f"{summary.frames} frames of {summary.subset}; {found}", highlight=False, soft_wrap=True)


@app.command(
    epilog=example(
        "ovps predict --run runs/driveworld-ovps --cache ./zarr --out predictions",
        "ovps predict --run runs/driveworld-ovps --cache ./zarr --out trees --vocab vocab.safetensors",
        "ovps predict --run runs/driveworld-ovps --set classifier.classes=ensemble --out named-by-clip",
        "ovps predict --run runs/driveworld-ovps --cache ./zarr --out predictions --check",
        "ovps predict --cache ./zarr --vocab vocab.safetensors --out clip-alone",
    )
)
@takes(PredictOptions)
def predict(options: PredictOptions, as_json: Json = False) -> None:
    """Label every point: the data set's classes in its submission format, any vocabulary as plain arrays.

    Exit code 1 if the files, read back, have faults.
    """
    from ovps.inference.session import inference_settings
    from pipelines.predict import check
    from pipelines.predict import predict as run_predict

    given = options.model_dump(exclude={"settings", "check"})
    if options.check:
        asked = inference_settings(options.run, options.settings) if options.settings else (None, None)
        kept = {name: value for name, value in given.items() if name not in ("device", "backend")}
        problems = check(**kept, merge=asked[0], classifier=asked[1])
        show({"out": str(options.out), "problems": problems}, as_json)
        raise typer.Exit(1 if problems else 0)
    merge, classifier = inference_settings(options.run, options.settings)
    summary = run_predict(**given, merge=merge, classifier=classifier)
    show(summary, as_json)
    raise typer.Exit(1 if summary.problems else 0)


@app.command(
    epilog=example(
        'ovps segment recordings/monday --names "car, truck, person, road:stuff, tree:stuff=tree|bush"',
        "ovps segment recordings/monday --run runs/nuscenes --limit 10 --out found",
        "ovps segment recordings/monday/points/000012.pcd --encoder demo",
    )
)
@takes(SegmentOptions)
def segment(
    options: SegmentOptions,
    path: Annotated[str, typer.Argument(help="A recording, or one of its point files.", metavar="path")],
    as_json: Json = False,
) -> None:
    """Label a recording of your own, and draw it: precompute, predict and a page, in one command.

    Without a run it takes the features of CLIP alone, which need no training.
    """
    from pipelines.segment import segment as run

    show(run(path_of(path, "the recording"), options), as_json)


@app.command(epilog=example("ovps report --run runs/driveworld-ovps --cache ./zarr --dataroot data/driveworld"))
@takes(ReportOptions)
def report(options: ReportOptions, as_json: Json = False) -> None:
    """One self-contained HTML page: tables, training curves, ground truth beside prediction."""
    from ovps import datasets
    from pipelines.report import report as write
    from pipelines.report import scores_of

    data: dict[str, Any] = {}
    if options.dataroot is not None:
        scored = scores_of(options.run, options.cache, options.evaluation)
        known = datasets.get(scored.cache.dataset)
        frames = datasets.frames_of(known, options.dataroot, scored.cache.dataset_version, (scored.subset,))
        data = {"frames": frames, "read_image": known.image, "read_points": known.points}
    page = str(write(**options.model_dump(exclude={"dataroot"}), **data))
    if as_json:
        show({"page": page}, as_json)
    else:
        out.print(page)


@app.command(
    epilog=example(
        "ovps view --cache ./zarr",
        "ovps view --cache ./zarr --run runs/driveworld --dataset-root data/driveworld",
        "ovps view --cache ./zarr --run runs/driveworld --subset val --port 8081",
        "ovps view --cache ./zarr --run runs/driveworld --html street.html --frames 0,4 --query bus --query tree",
    )
)
@takes(ViewOptions)
def view(options: ViewOptions, as_json: Json = False) -> None:
    """Look at frames in the browser: colours, camera images, segments to click on, queries in your own words.

    With --html as one file that needs neither server nor network.
    """
    from pipelines.view import serve, write_html

    if options.html is None:
        serve(options, _url_as_json if as_json else None)
    else:
        show(write_html(options, options.html), as_json)


def _url_as_json(url: str) -> None:
    show({"url": url}, as_json=True)


runs(
    app,
    QueryOptions,
    "pipelines.query:query",
    "Search a whole store for words, or for what is like an example: a contact sheet and a list.",
    'ovps query --cache ./zarr "fire hydrant" --top 50',
    'ovps query --cache ./zarr --run runs/driveworld --subset val "person on a bicycle" --list found.parquet',
    "ovps query --cache ./zarr --like 5f3c0d1e:12 --of objects",
    "ovps query --cache ./zarr --image scooter.jpg --dataset-root data/driveworld --html scooters.html",
)


runs(
    app,
    ExportOptions,
    "pipelines.export:export",
    "Points with class, instance, score and colour as PLY, LAS or NumPy arrays, for other programs.",
    "ovps export --cache ./zarr --run runs/driveworld --frames 0 --ply --out exported",
    "ovps export --cache ./zarr --subset val --las --npz --to-global --out exported",
    "ovps export --cache ./zarr --vocab vocab.safetensors --ply --out clip-alone",
)


def _for_machines(error: OvpsError) -> None:
    """An error as JSON, where it is asked for."""
    if "--json" in sys.argv:
        record = {"error": error.kind, "message": error.message, "path": error.path, "frame": error.frame}
        with suppress(OSError):  # the output may be what is full
            print_json(strict_json.dumps(record | {"remedy": error.remedy}))


_NO_ROOM = {
    errno.ENOSPC: "Make room where the output goes to",
    errno.EDQUOT: "Make room where the output goes to: the disk quota is used up",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f)",
}


@contextmanager
def _full_output() -> Iterator[None]:
    """A disk without room for what is printed: files that are written name themselves in their errors."""
    try:
        yield
    except OSError as error:
        remedy = _NO_ROOM.get(error.errno or 0)
        if remedy is None or error.filename is not None:
            raise
        raise StorageError("no room for the output", remedy=remedy) from error


def main(*command: str) -> None:
    """Entry point: an OvpsError becomes one readable message and its own exit code.

    Args:
        command: what is called with the arguments of the process; by default they name it.
    """
    try:
        with listening(insist=not launched()), told(), shortage.told(), _full_output():
            try:
                app([*command, *sys.argv[1:]])
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # while a disk that is full can be told
    except OvpsError as error:
        if isinstance(error, Interrupted) and os.environ.get("RANK", "0") != "0" and launched():
            sys.exit(error.exit_code)  # the first process speaks for all
        _for_machines(error)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        label = f"{error.kind}: " if isinstance(error, Interrupted) else f"{error.kind} error: "
        with suppress(OSError):
            console.print(Text(label, "red") + Text(str(error), "default"))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
