"""Commands `ovps world ...`."""

from __future__ import annotations

import typer

from ovps.commands.declare import Json, example
from ovps.commands.shown import show
from ovps.options import takes
from pipelines.options import BuildWorldOptions

app = typer.Typer(no_args_is_help=True, help="The drive world: an embedded data set in nuScenes format.")


@app.command("build", epilog=example("ovps world build --out data/driveworld --scenes 24 --frames 10 --seed 1"))
@takes(BuildWorldOptions)
def world_build(options: BuildWorldOptions, as_json: Json = False) -> None:
    """Ray-cast procedural streets into a complete nuScenes data set: LiDAR, six cameras, labels, tables."""
    from driveworld import build_world

    settings = options.model_dump(exclude={"out", "camera_labels"})
    summary = build_world(options.out, **settings, write_camera_labels=options.camera_labels)
    show(summary, as_json)
