"""Commands `ovps data ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from ovps.commands.declare import Json, example, path_of
from ovps.commands.shown import show

app = typer.Typer(no_args_is_help=True, help="A recording of your own: bring it in, and look at it.")


@app.command(
    "import",
    epilog=example(
        "ovps data import drive.mcap --list",
        "ovps data import drive.bag --out recordings/drive",
        "ovps data import drive/ --out recordings/drive --points /lidar/points --camera /front/image_raw --every 5",
    ),
)
def data_import(
    bag: Annotated[str, typer.Argument(help="A .bag or .mcap file, or the folder of a ROS 2 bag.", metavar="path")],
    folder: Annotated[
        str, typer.Option("--out", help="Folder of the recording, new or empty.", metavar="<path>")
    ] = "recording",
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
        found = list_topics(path_of(bag, "the bag"))
        show({t.name: f"{t.type}, {t.messages:,} messages, {t.rate:.1f} a second" for t in found}, as_json)
        return
    summary = import_bag(
        path_of(bag, "the bag"),
        path_of(folder, "--out"),
        points=points,
        cameras=tuple(camera or ()),
        world=world,
        intensity=intensity,
        apart_ms=apart_ms,
        every=every,
        limit=limit,
    )
    show(summary, as_json)


@app.command("check", epilog=example("ovps data check recordings/monday", "ovps data check . --frames 10 --json"))
def data_check(
    path: Annotated[str, typer.Argument(help="A recording, laid out as docs/own_recording.md says.", metavar="path")],
    folder: Annotated[
        str | None, typer.Option("--out", help="Folder of page and pictures. Default: PATH-check.", metavar="<path>")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to read and draw, evenly spaced.")] = 3,
    as_json: Json = False,
) -> None:
    """Do its files hold together, and its points fit its images? Exit code 3 for problems and likely mistakes."""
    from ovps.errors import DatasetError
    from pipelines.data_check import check

    out = None if folder is None else path_of(folder, "--out")
    result = check(path_of(path, "the recording"), out=out, count=frames)
    show(result, as_json)
    raise typer.Exit(DatasetError.exit_code if result.problems else 0)
