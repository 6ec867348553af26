"""CPU time of one frame on one thread, step by step: stage 1 without CLIP, a training sample, reading.

    python -m benchmarks.bench_stages --codec cells

The frame is a real one of nuScenes where OVPS_REAL_DATA names some, else one of the drive world; its features are those
of `benchmarks.simulated`, 768 channels at stride 32. CPU time, which other jobs change little; the least of a few.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time, thread_time
from typing import TypeVar

import numpy as np
import torch

from benchmarks.bench_flow import VERSION, dataroot
from benchmarks.rows import Row
from benchmarks.simulated import SCENE_FRAMES, plugged
from ovps.batch.augment import draw_transform, generator
from ovps.batch.base_labels import ClassSplit, make_targets
from ovps.batch.frames import FrameDataset
from ovps.batch.proposals import make_proposals
from ovps.batch.settings import AugmentationConfig
from ovps.batch.voxels import frame_batch
from ovps.cache.codecs.protocol import VoxelFeatures, codec_error, encoded
from ovps.cache.info import store_info
from ovps.cache.reader import Store
from ovps.cache.writer import EncodedFrame, create_store, write_partition
from ovps.clip.text import build_vocabulary
from ovps.geometry.grid import Grid
from ovps.model.clusters import ClusterConfig
from ovps.taxonomy import load_split
from ovps.vocabulary import entries_of
from pipelines.precompute import PrecomputeOptions
from pipelines.precompute import compute_frame as steps
from pipelines.precompute.asked import frames_of
from pipelines.precompute.options import resolved
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import tools_of

T = TypeVar("T")
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="cells")
    codec = parser.parse_args().codec
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, plugged(0.0, SCENE_FRAMES):
        table = measured(Path(folder), codec)
    for name, value in table.items():
        print(f"{name:58} {value:7.1f} ms")
    print(json.dumps({name: round(value, 2) for name, value in table.items()}))


def rows() -> list[Row]:
    """CPU milliseconds of a frame on one thread, and its bytes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, plugged(0.0, SCENE_FRAMES):
        found = measured(Path(folder), "cells")
        about = store_info(Path(folder) / "zarr")
    reference = "numpy.load of dense float16, and its conversion"
    dense = about.clip_bytes_dense_fp16 / about.frames / 1e6
    return [
        Row(
            "stage 1 without CLIP, codec `cells`, 768 channels", "the aim", found["stage 1 without CLIP"], 90, "ms", 1.0
        ),
        Row("a training sample of it", "the aim", found["a training sample"], 60, "ms", 1.0),
        Row("reading it, multiplied out", reference, found["read a frame"], found[reference], "ms"),
        Row("reading it to device-ready tensors", reference, found["read to tensors"], found[reference], "ms", 0.5),
        Row("its bytes, all of them, made-up features", "dense float16", about.bytes_per_frame / 1e6, dense, "MB", 0.1),
    ]


def measured(folder: Path, codec: str) -> dict[str, float]:
    """Milliseconds of each step."""
    options = resolved(
        PrecomputeOptions(
            dataset="repeated",
            dataroot=dataroot(),
            version=VERSION,
            subsets=("train",),
            encoder="simulated",
            codec=codec,
            out=str(folder / "zarr"),
            workers=0,
        )
    )
    frames = frames_of(options)
    job, provenance = prepare(options, frames)
    tools, frame, times = tools_of(job), frames[0], steps.StageTimes()
    table: dict[str, float] = {}

    def step(name: str, do: Callable[[], T]) -> T:
        table[name], made = least(do)
        return made

    images = step("decode the images", lambda: [steps.read_image(camera, tools) for camera in frame.cameras])
    cloud = step("read points and labels", lambda: (steps.read_cloud(frame, tools), tools.dataset.labels(frame)))[0]
    lifted = step("project, occlude, lift, voxelise", lambda: steps.lift_frame(frame, cloud, tools))
    maps = step("hand over to the encoder", lambda: steps.encode_images(images, tools.encoder, len(images)))
    cells = np.concatenate([one.reshape(-1, tools.encoder.dim) for one in maps])
    features = VoxelFeatures(cells, lifted.weights)
    clip = step("encode the features, and read them back", lambda: encoded(tools.codec, features, tools.state))
    step("error of the codec", lambda: codec_error(clip.stored, features))
    read = steps.read_frame(frame, tools, times)
    whole = step("all behind the encoder", lambda: steps.finish_frame(read, maps, tools, times))
    names = build_vocabulary(tools.encoder, entries_of(tools.taxonomy))
    create_store(job.out, provenance, tools.taxonomy, names, job.state)
    rows = [
        EncodedFrame(whole.row.model_copy(update={"token": other.token, "index": other.index}), whole.arrays)
        for other in frames
    ]
    begin = process_time()
    write_partition(job.out, "scene.000000", frame.scene, rows)
    table[f"write, of a partition of {len(rows)}"] = (process_time() - begin) * 1e3 / len(rows)
    parts = ("decode", "read points", "project", "hand over", "all behind", "write")
    table["stage 1 without CLIP"] = sum(value for name, value in table.items() if name.startswith(parts))
    return table | sample(folder / "zarr")


def sample(path: Path) -> dict[str, float]:
    """Milliseconds of a frame read back, and of the steps from it to a training sample."""
    store = Store.open(path)
    table: dict[str, float] = {}
    grid, base = Grid.parse("cylinder"), ClassSplit(store.taxonomy, load_split("b12n4"))
    transform = draw_transform(generator(0, 0, 0), AugmentationConfig())
    frame = store.read(store.frames[0])  # opens the partition
    table["read a frame"], _ = least(lambda: store.read(store.frames[1]))
    tensors = FrameDataset(store)
    table["read to tensors"], _ = least(lambda: tensors[1])
    dense = path.with_name("dense.npy")
    np.save(dense, frame.clip[frame.valid].astype(np.float16))

    def loaded() -> torch.Tensor:
        clip = np.zeros(frame.clip.shape, np.float32)
        clip[frame.valid] = np.load(dense)
        return torch.from_numpy(clip)

    table["numpy.load of dense float16, and its conversion"], _ = least(loaded)
    table["voxelise again"], voxels = least(lambda: frame_batch(frame, grid, transform))
    table["targets"], targets = least(lambda: make_targets(frame, voxels.point_voxel.numpy(), len(voxels.coords), base))
    table["clusters"], _ = least(lambda: make_proposals(voxels, targets.voxel_segment, ClusterConfig()))
    table["a training sample"] = sum(table[name] for name in ("read a frame", "voxelise again", "targets", "clusters"))
    return table


def least(do: Callable[[], T]) -> tuple[float, T]:
    """The least milliseconds of CPU that it took, and what it made."""
    times = []
    for _ in range(ROUNDS):
        begin = thread_time()
        made = do()
        times.append(thread_time() - begin)
    return min(times) * 1e3, made


if __name__ == "__main__":
    main()
