"""Images per second of precompute, against the bare encoder on the same images in memory (the limit).

python -m benchmarks.bench_precompute
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row
from benchmarks.setting import ROOT, options, paired
from ovps import datasets
from ovps.clip.dense import dense_encoder
from ovps.clip.loading import load_clip
from pipelines.precompute import precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.options import resolved

ROUNDS = 3


def main() -> None:
    images, (limit, ours, ratio) = measured()
    height, width = images[0].shape[1:3]
    print(f"demo CLIP, {len(images)} images of {width} x {height}, one process")
    print(f"bare encoder (limit)  {len(images) / limit:6.2f} images/s")
    print(f"precompute            {len(images) / ours:6.2f} images/s: {ratio:.2f} of the limit")


def rows() -> list[Row]:
    """Images per second of a small world."""
    images, (limit, ours, _) = measured(frames=20)
    count = len(images)
    return [
        Row(
            f"precompute, demo CLIP, {count} images", "bare encoder", count / ours, count / limit, "images/s", 0.9, True
        )
    ]


def measured(**changes: Any) -> tuple[list[NDArray[np.uint8]], tuple[float, float, float]]:
    """The images, and what `paired` says of the encoder alone and of precompute."""
    wanted = resolved(options(out=ROOT / "zarr-again", **changes))
    frames = frames_of(wanted)
    images = [datasets.get(wanted.dataset).image(camera)[None] for frame in frames for camera in frame.cameras]
    height, width = images[0].shape[1:3]
    encoder = dense_encoder(load_clip("demo"), (width, height))

    def bare(_: int) -> None:
        for image in images:
            encoder.encode(np.array(image))

    def whole(_: int) -> None:
        shutil.rmtree(wanted.out, ignore_errors=True)
        precompute(wanted)

    return images, paired(bare, whole, ROUNDS)


if __name__ == "__main__":
    main()
