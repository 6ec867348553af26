"""What each codec costs and loses, as ratios to `dense` in one run.

Bytes of a frame, all of it; cosine of what is read to what was computed; how often the nearest name stays the same,
over the store's classes and over 200 other words; time to write and to read.

python -m benchmarks.bench_codecs
python -m benchmarks.bench_codecs --cache zarr/driveworld-cells --frames 16
python -m benchmarks.bench_codecs --real data/nuscenes
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.rows import Row
from benchmarks.setting import options
from ovps import clip, datasets
from ovps.cache import codecs
from ovps.cache.codecs.protocol import Codec, State, VoxelFeatures, sample_of
from ovps.cache.folder import write_folder
from ovps.cache.info import store_info
from ovps.cache.manifest import read_manifest
from ovps.cache.partition import Partition
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.clip.text import build_vocabulary
from ovps.geometry.cells import CellGrid
from ovps.geometry.grid import Grid, voxelise
from ovps.geometry.lifting import lift_points, lift_voxels
from ovps.vocabulary import Entry
from pipelines.options import ConvertOptions, SubsetOptions
from pipelines.precompute import precompute
from pipelines.stores.convert import convert
from pipelines.stores.select import subset

FRAMES = 8  # of each split
REFERENCE = "dense"
CHANNELS, STRIDE = 768, 32  # of convnext_large_d_320
WORDS = Path(__file__).with_name("words.txt")  # that no class is called by


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--cache", help="a store of codec `cells`; default: a small drive world is made")
    asked.add_argument("--frames", type=int, default=FRAMES, help="of each split")
    asked.add_argument("--codecs", default=",".join(codecs.BUILT_IN), help="comma-separated")
    asked.add_argument("--real", type=Path, help="a nuScenes dataroot: sizes of its first frame, features made up")
    asked.add_argument("--json", type=Path, help="also write the rows")
    given = asked.parse_args()
    names = tuple(dict.fromkeys((REFERENCE, *given.codecs.split(","))))
    rows = real_frame(given.real, names) if given.real else store(given.cache, given.frames, names)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))


def rows() -> list[Row]:
    """Bytes of a frame of the drive world by codec, points, labels and objects included."""
    found = store(None, 4, (REFERENCE, "cells-pca", "cells-pca-small"))
    return [
        Row(
            f"bytes of a frame, all, drive world, `{row['codec']}`",
            "dense float16",
            row["bytes_per_frame"] / 1e6,
            row["of_clip"] / row["clip_of_dense_fp16"] / 1e6,
            "MB",
            0.1,
        )
        for row in found
    ]


def store(cache: str | None, frames: int, names: Sequence[str]) -> list[dict]:
    """Convert some frames of a store into each codec, and compare what is read."""
    source = cache or precompute(options("cells")).out
    rows = []
    with TemporaryDirectory() as folder:
        cells = subset(SubsetOptions(cache=source, out=f"{folder}/source", limit=frames)).out
        truth = Store.open(cells)
        vocabularies = [truth.vocabulary.embeddings, _words(truth)]
        held_out = [ref for ref in truth.frames if ref.subset != "train"] or list(truth.frames)
        for name in names:
            path = convert(ConvertOptions(cache=cells, out=f"{folder}/{name}", codec=name)).out
            made, about = Store.open(path), store_info(path)
            cosines, same, write, read = [], [[], []], [], []
            for ref in held_out:
                true, got = (s.read(next(r for r in s.frames if r.token == ref.token)) for s in (truth, made))
                wanted, found = true.clip[true.valid], got.clip[got.valid]
                cosines.append(cosine(wanted, found))
                for number, words in enumerate(vocabularies):
                    same[number].append((wanted @ words.T).argmax(1) == (found @ words.T).argmax(1))
                write.append(_write_seconds(truth, ref.partition, ref.token, made, codecs.get(name), Path(folder)))
                start = perf_counter()
                made.read(next(r for r in made.frames if r.token == ref.token))
                read.append(perf_counter() - start)
            share = np.concatenate(cosines)
            rows.append(
                {
                    "codec": name,
                    "bytes_per_frame": about.bytes_per_frame,
                    "of_clip": about.clip_bytes / about.frames,
                    "clip_of_dense_fp16": about.clip_bytes / about.clip_bytes_dense_fp16,
                    "cosine": float(share.mean()),
                    "cosine_p1": float(np.percentile(share, 1)),
                    "same_class": float(np.concatenate(same[0]).mean()),
                    "same_word": float(np.concatenate(same[1]).mean()),
                    "write_s": median(write),
                    "read_s": median(read),
                }
            )
    first = rows[0]
    print(f"{len(held_out)} frames of {source}, {truth.provenance.encoder}, not among those that codecs are fitted to")
    print(f"{'':16}{'bytes/frame':>12}{'/ dense':>9}{'clip / fp16':>12}{'cosine':>9}{'1 %':>9}{'class':>8}{'word':>8}"
          f"{'write':>8}{'read':>8}")  # fmt: skip
    for row in rows:
        print(
            f"{row['codec']:16}{row['bytes_per_frame']:12,.0f}{row['bytes_per_frame'] / first['bytes_per_frame']:9.3f}"
            f"{row['clip_of_dense_fp16']:12.4f}{row['cosine']:9.5f}{row['cosine_p1']:9.5f}{row['same_class']:8.4f}"
            f"{row['same_word']:8.4f}{row['write_s'] / first['write_s']:8.2f}{row['read_s'] / first['read_s']:8.2f}"
        )
    print(
        f"dense: writes the features of a frame in {first['write_s']:.3f} s, reads the frame in {first['read_s']:.3f} s"
    )
    return rows


def cosine(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines (V,) of features (V, C) to those that they should be."""
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    return np.einsum("vc,vc->v", wanted, found) / np.maximum(lengths, 1e-12)


def _words(store: Store) -> NDArray[np.float32]:
    """Embeddings of the other words, by the encoder of the store."""
    about = store.provenance
    encoder = clip.load(about.encoder, "random" if about.weights_random else None, device="cpu")
    return build_vocabulary(
        encoder, tuple(Entry(word, "thing", (word,)) for word in WORDS.read_text().split())
    ).embeddings


def _write_seconds(truth: Store, partition: str, token: str, made: Store, codec: Codec, folder: Path) -> float:
    """Time of encoding the features of a frame and writing them."""
    opened = Partition.open(truth.storage, read_manifest(truth.storage, partition), truth.provenance)
    arrays = opened.encoded(token)
    features = opened.codec.factors(arrays, arrays["voxels/valid"], {})
    state = Partition.open(made.storage, read_manifest(made.storage, partition), made.provenance).state
    dims = {spec.name: tuple(map(str, spec.dims)) for spec in codec.arrays}
    start = perf_counter()
    write_folder(storage_of(folder / "written"), f"{perf_counter()}.zarr", codec.encode(features, state), {}, dims)
    return perf_counter() - start


def real_frame(dataroot: Path, names: Sequence[str]) -> list[dict]:
    """Sizes of the CLIP part of a real frame at the cells of convnext_large_d_320, on features that are made up.

    The variance of made-up features falls along their principal axes as a power of the axis' number; half of their
    energy is common to all. Of real weights nobody knows the power until they are at hand: then
    `ovps precompute --codec cells`, `ovps cache convert --codec cells-pca-small` and `ovps cache info` tell.
    """
    dataset = datasets.at("nuscenes", dataroot)
    frame = dataset.frames(dataroot, "v1.0-trainval", ("train",))[0]
    cloud = dataset.points(frame)
    grids = [CellGrid(-(-c.height // STRIDE), -(-c.width // STRIDE), float(STRIDE)) for c in frame.cameras]
    points = lift_points(cloud.xyz, frame.cameras, grids, dataset.occlusion)
    coords, point_voxel = voxelise(cloud.xyz, Grid.parse("cylinder"))
    weights = lift_voxels(points, point_voxel, len(coords))
    valid = int((np.diff(weights.indptr) > 0).sum())
    fp16 = 2 * valid * CHANNELS
    print(f"{len(cloud):,} points, {valid:,} voxels with a feature: {fp16 / 1e6:.1f} MB of dense float16")
    rows = []
    for power in (0.5, 1.0, 1.5):
        train = [_made_up(weights, power, seed) for seed in (1, 2)]
        features = _made_up(weights, power, 3)
        true = features.dense()[features.valid]
        for name in names:
            codec = codecs.get(name)
            state: State = codec.fit(np.concatenate([sample_of(codec, f) for f in train])) if codec.fit_frames else {}
            start = perf_counter()
            arrays = codec.encode(features, state)
            encode = perf_counter() - start
            start = perf_counter()
            found = codec.decode(arrays, features.valid, state)[features.valid]
            decode = perf_counter() - start
            with TemporaryDirectory() as folder:
                dims = {spec.name: tuple(map(str, spec.dims)) for spec in codec.arrays}
                written = write_folder(storage_of(folder), "real.zarr", arrays, {}, dims)
            size = sum(file.bytes for file in written.files)
            angles = cosine(true, found)
            rows.append(
                {
                    "codec": name,
                    "power": power,
                    "clip_of_dense_fp16": size / fp16,
                    "cosine": float(angles.mean()),
                    "cosine_p1": float(np.percentile(angles, 1)),
                    "encode_s": encode,
                    "decode_s": decode,
                }
            )
            print(
                f"variance as k^-{power:<4} {name:16} {size / fp16:7.4f} of fp16, {size / 1e6:6.2f} MB, cosine"
                f" {angles.mean():.5f}, 1 % {np.percentile(angles, 1):.5f}, encode {1e3 * encode:4.0f} ms,"
                f" decode {1e3 * decode:4.0f} ms"
            )
    return rows


def _made_up(weights: csr_array, power: float, seed: int) -> VoxelFeatures:
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS)))
    variance = np.arange(1, CHANNELS + 1.0) ** -power
    own = np.random.default_rng(seed).normal(size=(weights.shape[1], CHANNELS)) * np.sqrt(variance / variance.sum())
    cells = own @ axes + axes[0]
    return VoxelFeatures((cells / np.linalg.norm(cells, axis=1, keepdims=True)).astype(np.float32), weights)


if __name__ == "__main__":
    main()
