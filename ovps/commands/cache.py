"""Commands `ovps cache ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from ovps import strict_json
from ovps.commands.declare import Json, example, path_of, runs
from ovps.commands.shown import out, show
from ovps.json_output import print_json
from ovps.options import takes
from pipelines.options import (
    ArraysOptions,
    ConvertOptions,
    ImportOptions,
    LabelsOptions,
    MergeOptions,
    RepairOptions,
    SubsetOptions,
)

app = typer.Typer(no_args_is_help=True, help="Look into and check a store of CLIP features.")


@app.command(
    "info",
    epilog=example(
        "ovps cache info ./zarr", "ovps cache info ./zarr --json", "ovps cache info ./zarr --dataroot data/nuscenes"
    ),
)
def cache_info(
    path: Annotated[str, typer.Argument(help="A store: a folder, or a URL.")],
    dataroot: Annotated[
        str | None, typer.Option(help="The data set: also count what the store lacks of it.", metavar="<path>")
    ] = None,
    as_json: Json = False,
) -> None:
    """Frames, voxels, bytes by part and by array, codec and its errors, provenance, from the manifests alone."""
    from ovps.cache.info import store_info

    summary = store_info(path)
    if dataroot is not None:
        from pipelines.stores.missing import missing_frames

        summary = summary.model_copy(update={"missing": missing_frames(path, path_of(dataroot, "--dataroot"))})
    show(summary, as_json)


@app.command("verify", epilog=example("ovps cache verify ./zarr"))
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
        print_json(strict_json.dumps([p.model_dump() for p in problems], indent=2))
    else:
        for problem in problems:
            out.print(str(problem), style="red", highlight=False)
        out.print(counted(len(problems), "problem") if problems else "every file is what was written")
    raise typer.Exit(CorruptStoreError.exit_code if problems else 0)


@app.command("labels", epilog=example("ovps cache labels ./zarr --dataroot data/nuscenes"))
@takes(LabelsOptions)
def cache_labels(options: LabelsOptions, as_json: Json = False) -> None:
    """Add labels that have come, or were mended, to a store whose features are there. Needs no CLIP."""
    from pipelines.labels import add_labels

    show(add_labels(**options.model_dump()), as_json)


runs(
    app,
    ConvertOptions,
    "pipelines.stores.convert:convert",
    "Write a store anew in another codec. Needs no CLIP, no data set and no image.",
    "ovps cache convert --cache ./zarr --out ./small --codec cells-pca",
    "ovps cache convert --cache s3://bucket/nuscenes --out ./zarr --codec cells",
)


@app.command("repair", epilog=example("ovps cache repair ./zarr --dataroot data/nuscenes"))
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
    app,
    SubsetOptions,
    "pipelines.stores.select:subset",
    "Copy some frames of a store into a new one.",
    "ovps cache subset --cache ./zarr --out ./mini --split val --limit 10",
    "ovps cache subset --cache ./zarr --out ./street --scenes scene-0061,scene-0103",
)


runs(
    app,
    ArraysOptions,
    "pipelines.stores.plain:export_arrays",
    "Write frames as plain NumPy arrays, for programs without ovps: points, labels, voxels, features, objects.",
    "ovps cache export --cache ./zarr --out arrays --split val",
    "ovps cache export --cache ./zarr --out arrays --scenes scene-0061 --format npy",
)


runs(
    app,
    ImportOptions,
    "pipelines.stores.brought:import_features",
    "Make a store of features that were fused for points elsewhere, as OpenScene does. No image is read.",
    "ovps cache import --features fused --encoder ViT-L-14-336-quickgelu --weights openai --out ./zarr",
    "ovps cache import --features fused --names '{subset}/{scene}_{index:04d}' --encoder ViT-B-32 --out ./zarr",
)


runs(
    app,
    MergeOptions,
    "pipelines.stores.select:merge",
    "Copy the frames of several stores, made with the same settings, into one.",
    "ovps cache merge ./zarr-1 ./zarr-2 --out ./zarr",
)
