"""Commands `ovps vocab ...`."""

from __future__ import annotations

import typer

from ovps.commands.declare import runs
from pipelines.options import VocabularyOptions

app = typer.Typer(no_args_is_help=True, help="Class names as text embeddings.")


runs(
    app,
    VocabularyOptions,
    "pipelines.vocabulary:build",
    "Turn class names, folders of images and segments of a store into embeddings. What CLIP misses is warned of.",
    'ovps vocab build --names "car, fire truck, road:stuff=road|street" --out vocab.safetensors',
    "ovps vocab build --cache ./zarr --names classes.txt --images scooter=photos/scooters --out vocab.safetensors",
    "ovps vocab build --cache ./zarr --examples scooter=bus@train --out vocab.safetensors",
    "ovps vocab build --names classes.txt --encoder ViT-B-16-quickgelu --weights openai --out vocab.safetensors",
)
