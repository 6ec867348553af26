"""The command line: parse, call, print. No logic."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from ovps import __version__, shortage, strict_json
from ovps.errors import ConfigError, Interrupted, OvpsError, StorageError
from ovps.interrupt import launched, listening, told
from ovps.options import Options, takes
from ovps.plugins import raised_outside
from ovps.progress import LISTED, show_warnings
from ovps.shortage import faults
from pipelines.options import (
    ArraysOptions,
    BuildWorldOptions,
    ConvertOptions,
    DemoOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExportOptions,
    ImportOptions,
    JoinOptions,
    LabelsOptions,
    MergeOptions,
    PrecomputeOptions,
    PredictOptions,
    QueryOptions,
    RepairOptions,
    ReportOptions,
    SegmentOptions,
    SubsetOptions,
    TableOptions,
    TrainOptions,
    TuneOptions,
    ViewOptions,
    VocabularyOptions,
)

# heavy imports (torch, zarr, dask, ...) happen inside the commands, so that --help is quick


UsageError: Any = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy of it


class Commands(TyperGroup):
    """The commands; one that is stopped by a signal ends with `Interrupted`."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with told(), _usage():
            return super().make_context(*args, **more)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
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
        except faults(Exception) as error:
            outside = raised_outside(error)
            if outside is None or isinstance(error, OvpsError):
                raise
            raise outside from error


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
world_app = typer.Typer(no_args_is_help=True, help="The drive world: an embedded data set in nuScenes format.")
cache_app = typer.Typer(no_args_is_help=True, help="Look into and check a store of CLIP features.")
vocab_app = typer.Typer(no_args_is_help=True, help="Class names as text embeddings.")
experiment_app = typer.Typer(no_args_is_help=True, help="Systems x splits x seeds, from the data set to a table.")
data_app = typer.Typer(no_args_is_help=True, help="A recording of your own: bring it in, and look at it.")
GROUPS = {"world": world_app, "data": data_app, "cache": cache_app, "vocab": vocab_app, "experiment": experiment_app}
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)

WIDE = 1000  # columns where there is no terminal: a log or a program reads whole names and whole lines
_TERMINAL = sys.stdout is not None and sys.stdout.isatty()  # None: closed by whoever started the program
out = Console(width=None if _TERMINAL else WIDE)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def example(*lines: str) -> str:
    """An epilog that shows real command lines."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def runs(model: type[Options], function: str, about: str, *examples: str) -> None:
    """Make a command of a function, `module:name`, that takes its options and returns a summary."""

    @takes(model)
    def command(options: Options, as_json: Json = False) -> None:
        show(resolve_name(function)(options), as_json)

    *group, name = model.command.split()
    (GROUPS[group[0]] if group else app).command(name, help=about, epilog=example(*examples))(command)


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
        print(report.model_dump_json(indent=2))
    else:
        table = Table("", "", "found", "remedy")
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]note[/]", "problem": "[red]missing[/]"}
        for check in report.checks:
            table.add_row(marks[check.status], check.name, check.found, check.remedy)
        out.print(table)
    raise typer.Exit(0 if report.healthy else 1)


runs(
    DemoOptions,
    "pipelines.demo:demo",
    "A first picture in two minutes: one street of the drive world, labelled by a run that ships with ovps.\n\n"
    "No training and no download. What it makes can be looked at further, by `ovps view` and the other commands.",
    "ovps demo",
    'ovps demo --words "fire engine, tree:stuff, person on a bicycle" --out demo',
    "ovps demo --seed 7 --frames 2 --out another-street --no-open --json",
)


@world_app.command("build", epilog=example("ovps world build --out data/driveworld --scenes 24 --frames 10 --seed 1"))
@takes(BuildWorldOptions)
def world_build(options: BuildWorldOptions, as_json: Json = False) -> None:
    """Ray-cast procedural streets into a complete nuScenes data set: LiDAR, six cameras, labels, tables."""
    from driveworld import build_world

    settings = options.model_dump(exclude={"out", "camera_labels"})
    summary = build_world(options.out, **settings, write_camera_labels=options.camera_labels)
    show(summary, as_json)


@data_app.command(
    "import",
    epilog=example(
        "ovps data import drive.mcap --list",
        "ovps data import drive.bag --out recordings/drive",
        "ovps data import drive/ --out recordings/drive --points /lidar/points --camera /front/image_raw --every 5",
    ),
)
def data_import(
    bag: Annotated[Path, typer.Argument(help="A .bag or .mcap file, or the folder of a ROS 2 bag.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the recording, new or empty.")] = Path("recording"),
    topics: Annotated[bool, typer.Option("--list", help="Only list the topics of the bag.")] = False,
    points: Annotated[str | None, typer.Option(help="Topic of PointCloud2. Default: the only one.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Topic of images, again and again. Default: all that have a CameraInfo.")
    ] = None,
    world: Annotated[str | None, typer.Option(help="Frame that poses are in. Default: above what moves.")] = None,
    intensity: Annotated[
        str | None, typer.Option(help="Field of the clouds. Default: intensity, 0 where there is none.")
    ] = None,
    apart_ms: Annotated[float, typer.Option(min=0, help="Use no image that is farther from its sweep.")] = 100.0,
    every: Annotated[int, typer.Option(min=1, help="Only each so manieth sweep.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Sweeps at most.")] = None,
    as_json: Json = False,
) -> None:
    """Write a bag of ROS 1 or ROS 2 as a recording: every sweep with its nearest images, and where the vehicle was."""
    from pipelines.bag import import_bag, list_topics

    if topics:
        found = list_topics(bag)
        show({t.name: f"{t.type}, {t.messages:,} messages, {t.rate:.1f} a second" for t in found}, as_json)
        return
    summary = import_bag(
        bag,
        folder,
        points=points,
        cameras=tuple(camera or ()),
        world=world,
        intensity=intensity,
        apart_ms=apart_ms,
        every=every,
        limit=limit,
    )
    show(summary, as_json)


@data_app.command("check", epilog=example("ovps data check recordings/monday", "ovps data check . --frames 10 --json"))
def data_check(
    path: Annotated[Path, typer.Argument(help="A recording, laid out as docs/own_recording.md says.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of page and pictures. Default: PATH-check.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to read and draw, evenly spaced.")] = 3,
    as_json: Json = False,
) -> None:
    """Do its files hold together, and its points fit its images? Exit code 3 for problems and likely mistakes."""
    from ovps.errors import DatasetError
    from pipelines.data_check import check

    result = check(path, out=folder, count=frames)
    show(result, as_json)
    raise typer.Exit(DatasetError.exit_code if result.problems else 0)


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


@cache_app.command(
    "info",
    epilog=example(
        "ovps cache info ./zarr", "ovps cache info ./zarr --json", "ovps cache info ./zarr --dataroot data/nuscenes"
    ),
)
def cache_info(
    path: Annotated[str, typer.Argument(help="A store: a folder, or a URL.")],
    dataroot: Annotated[Path | None, typer.Option(help="The data set: also count what the store lacks of it.")] = None,
    as_json: Json = False,
) -> None:
    """Frames, voxels, bytes by part and by array, codec and its errors, provenance, from the manifests alone."""
    from ovps.cache.info import store_info

    summary = store_info(path)
    if dataroot is not None:
        from pipelines.stores.missing import missing_frames

        summary = summary.model_copy(update={"missing": missing_frames(path, dataroot)})
    show(summary, as_json)


@cache_app.command("verify", epilog=example("ovps cache verify ./zarr"))
def cache_verify(
    path: Annotated[str, typer.Argument(help="A store: a folder, or a URL.")], as_json: Json = False
) -> None:
    """Read every file and compare it with the manifest. Exit code 4 if anything is wrong."""
    from ovps.cache.manifest import partitions
    from ovps.cache.verify import verify_store
    from ovps.cache.where import storage_of
    from ovps.errors import CorruptStoreError, counted
    from ovps.progress import progress

    storage = storage_of(path)
    with progress("verify", "partitions", len(partitions(storage))) as counter:
        problems = verify_store(storage, counter.advance)
    if as_json:
        print(strict_json.dumps([p.model_dump() for p in problems], indent=2))
    else:
        for problem in problems:
            out.print(str(problem), style="red", highlight=False)
        out.print(counted(len(problems), "problem") if problems else "every file is what was written")
    raise typer.Exit(CorruptStoreError.exit_code if problems else 0)


@cache_app.command("labels", epilog=example("ovps cache labels ./zarr --dataroot data/nuscenes"))
@takes(LabelsOptions)
def cache_labels(options: LabelsOptions, as_json: Json = False) -> None:
    """Add labels that have come, or were mended, to a store whose features are there. Needs no CLIP."""
    from pipelines.labels import add_labels

    show(add_labels(**options.model_dump()), as_json)


runs(
    ConvertOptions,
    "pipelines.stores.convert:convert",
    "Write a store anew in another codec. Needs no CLIP, no data set and no image.",
    "ovps cache convert --cache ./zarr --out ./small --codec cells-pca",
    "ovps cache convert --cache s3://bucket/nuscenes --out ./zarr --codec cells",
)


@cache_app.command("repair", epilog=example("ovps cache repair ./zarr --dataroot data/nuscenes"))
@takes(RepairOptions)
def cache_repair(options: RepairOptions, as_json: Json = False) -> None:
    """Make anew what `ovps cache verify` finds damaged, and nothing else; CLIP is run only where features are.

    Exit code 4 if something is left that it cannot mend.
    """
    from ovps.errors import CorruptStoreError
    from pipelines.stores.repair import repair

    summary = repair(options)
    show(summary, as_json)
    raise typer.Exit(CorruptStoreError.exit_code if summary.left else 0)


runs(
    SubsetOptions,
    "pipelines.stores.select:subset",
    "Copy some frames of a store into a new one.",
    "ovps cache subset --cache ./zarr --out ./mini --split val --limit 10",
    "ovps cache subset --cache ./zarr --out ./street --scenes scene-0061,scene-0103",
)


runs(
    ArraysOptions,
    "pipelines.stores.plain:export_arrays",
    "Write frames as plain NumPy arrays, for programs without ovps: points, labels, voxels, features, objects.",
    "ovps cache export --cache ./zarr --out arrays --split val",
    "ovps cache export --cache ./zarr --out arrays --scenes scene-0061 --format npy",
)


runs(
    ImportOptions,
    "pipelines.stores.brought:import_features",
    "Make a store of features that were fused for points elsewhere, as OpenScene does. No image is read.",
    "ovps cache import --features fused --encoder ViT-L-14-336 --weights openai --out ./zarr",
    "ovps cache import --features fused --names '{subset}/{scene}_{index:04d}' --encoder ViT-B-32 --out ./zarr",
)


runs(
    MergeOptions,
    "pipelines.stores.select:merge",
    "Copy the frames of several stores, made with the same settings, into one.",
    "ovps cache merge ./zarr-1 ./zarr-2 --out ./zarr",
)


runs(
    VocabularyOptions,
    "pipelines.vocabulary:build",
    "Turn class names, folders of images and segments of a store into embeddings. What CLIP misses is warned of.",
    'ovps vocab build --names "car, fire truck, road:stuff=road|street" --out vocab.safetensors',
    "ovps vocab build --cache ./zarr --names classes.txt --images scooter=photos/scooters --out vocab.safetensors",
    "ovps vocab build --cache ./zarr --examples scooter=bus@train --out vocab.safetensors",
    "ovps vocab build --names classes.txt --encoder ViT-B-16 --weights openai --out vocab.safetensors",
)


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
    from pipelines.evaluate import evaluate as score

    merge, classifier = inference_settings(options.run, options.settings)
    result = score(**options.model_dump(exclude={"settings"}), merge=merge, classifier=classifier)
    show_warnings(result.warnings)
    if as_json:
        print(result.model_dump_json(indent=2))
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
    path: Annotated[Path, typer.Argument(help="A recording, or one of its point files.")],
    as_json: Json = False,
) -> None:
    """Label a recording of your own, and draw it: precompute, predict and a page, in one command.

    Without a run it takes the features of CLIP alone, which need no training.
    """
    from pipelines.segment import segment as run

    show(run(path, options), as_json)


@app.command(epilog=example("ovps report --run runs/driveworld-ovps --cache ./zarr --dataroot data/driveworld"))
@takes(ReportOptions)
def report(options: ReportOptions, as_json: Json = False) -> None:
    """One self-contained HTML page: tables, training curves, ground truth beside prediction."""
    from ovps import datasets
    from pipelines.evaluate import load_result
    from pipelines.report import report as write

    data: dict[str, Any] = {}
    if options.dataroot is not None:
        scored = load_result(options.evaluation or options.run / "eval")
        known = datasets.get(scored.cache.dataset)
        frames = datasets.frames_of(known, options.dataroot, scored.cache.dataset_version, (scored.subset,))
        data = {"frames": frames, "read_image": known.image}
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
    sys.stdout.flush()  # whoever started the viewer waits for it


runs(
    QueryOptions,
    "pipelines.query:query",
    "Search a whole store for words, or for what is like an example: a contact sheet and a list.",
    'ovps query --cache ./zarr "fire hydrant" --top 50',
    'ovps query --cache ./zarr --run runs/driveworld --subset val "person on a bicycle" --list found.parquet',
    "ovps query --cache ./zarr --like 5f3c0d1e:12 --of objects",
    "ovps query --cache ./zarr --image scooter.jpg --dataset-root data/driveworld --html scooters.html",
)


runs(
    ExportOptions,
    "pipelines.export:export",
    "Points with class, instance, score and colour as PLY, LAS or NumPy arrays, for other programs.",
    "ovps export --cache ./zarr --run runs/driveworld --frames 0 --ply --out exported",
    "ovps export --cache ./zarr --subset val --las --npz --to-global --out exported",
)


@experiment_app.command(
    "run",
    epilog=example(
        "ovps experiment run driveworld",
        "ovps experiment run table1 --systems pfc,ovps --splits b12n4 --seeds 0,1 --jobs 2",
        "ovps experiment run ablation --yes --json",
    ),
)
@takes(ExperimentOptions)
def experiment_run(options: ExperimentOptions, as_json: Json = False) -> None:
    """Data set, CLIP features, trainings, evaluations, one table and one page. What is done is not done again."""
    from pipelines.experiment.runner import run
    from pipelines.experiment.table import tables

    summary = run(**options.model_dump())
    if not as_json and summary.done:
        print(tables(summary.results.parent), end="\n\n")
    show(summary, as_json)


@experiment_app.command(
    "join",
    epilog=example("ovps experiment join results/ablation results/ablation-1 results/ablation-2 --out results/all"),
)
@takes(JoinOptions)
def experiment_join(options: JoinOptions, as_json: Json = False) -> None:
    """Results of one experiment from parts of it that were run on several machines."""
    from pipelines.experiment.join import join

    show(join(**options.model_dump()), as_json)


@experiment_app.command(
    "table",
    epilog=example("ovps experiment table results/table1", "ovps experiment table results/ablation --score miou"),
)
@takes(TableOptions)
def experiment_table(options: TableOptions, as_json: Json = False) -> None:
    """Results as a Markdown table: mean and sample standard deviation over seeds, in percent. JSON: in fractions."""
    from pipelines.experiment.table import result_table

    table = result_table(**options.model_dump())
    if as_json:
        show(table, as_json)
    else:
        print(table.markdown())


def show(summary: Any, as_json: bool) -> None:
    """A summary (dataclass, pydantic model or dict) as JSON, a table, or where there is no terminal as whole lines.

    Its warnings go to stderr.
    """
    record = TypeAdapter(type(summary)).dump_python(summary, mode="json")
    show_warnings(record.get("warnings", []))
    if as_json:
        print(strict_json.dumps(record, indent=2))
        return
    record.pop("warnings", None)
    if hasattr(summary, "in_words"):
        record = TypeAdapter(dict[str, Any]).dump_python(summary.in_words(), mode="json")
    else:
        record = _in_words(summary, record)
    if not out.is_terminal:
        for name, value in _flat(record):
            for item in value if isinstance(value, list) and value else [value]:
                out.print(f"{name}: {_text(item)}", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _flat(record):
        table.add_row(Text(name), Text(_text(value)))
    out.print(table)


def _in_words(value: Any, record: Any) -> Any:
    """Fields without underscores. Keys of a dict stay: people copy names of topics, cameras and frames."""
    if not isinstance(record, dict):
        return record
    if isinstance(value, dict):
        return {name: _in_words(value.get(name), inner) for name, inner in record.items()}
    return {name.replace("_", " "): _in_words(getattr(value, name, None), inner) for name, inner in record.items()}


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from ((f"{name} / {inner}", v) for inner, v in _flat(value))
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return _listed([_text(item) for item in value]) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _listed(items: list[str]) -> str:
    """In a row, or one a line if there are commas in them; a long list names its first, and how many more there are."""
    more = [f"and {len(items) - LISTED} more, see --json"] if len(items) > LISTED else []
    return ("\n" if any("," in item for item in items) else ", ").join(items[:LISTED] + more)


def _for_machines(error: OvpsError) -> None:
    """An error as JSON, where it is asked for."""
    if "--json" in sys.argv:
        record = {"error": error.kind, "message": error.message, "path": error.path, "frame": error.frame}
        with suppress(OSError):  # the output may be what is full
            print(strict_json.dumps(record | {"remedy": error.remedy}), flush=True)


@contextmanager
def _full_output() -> Iterator[None]:
    """A disk without room for what is printed: files that are written name themselves in their errors."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        raise StorageError("no room for the output", remedy="Make room where the output goes to") from error


def main(*command: str) -> None:
    """Entry point: an OvpsError becomes one readable message and its own exit code.

    Args:
        command: what is called with the arguments of the process; by default they name it.
    """
    try:
        with listening(insist=not launched()), shortage.told(), _full_output():
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
