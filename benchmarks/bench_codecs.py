"""Size and reading speed of the codecs, against plain float16 arrays in a file (reference).

The limit: the same arrays already in memory, copied to float32.

python -m benchmarks.bench_codecs
"""

from __future__ import annotations

import numpy as np

from benchmarks.setting import FRAMES, ROOT, options, paired
from ovps.cache.info import store_info
from ovps.cache.reader import Store
from pipelines.precompute import precompute

ROUNDS = 20


def main() -> None:
    print(f"{'':8} {'bytes / dense fp16':>20} {'read time / np.load':>20} {'max error':>10}")
    for codec in ("dense", "cells"):
        path = precompute(options(codec)).out
        store, info = Store.open(path), store_info(path)
        frames = [store.read(ref) for ref in store.frames]
        plain = [ROOT / f"plain-{i}.npy" for i in range(FRAMES)]
        for file, frame in zip(plain, frames, strict=True):
            np.save(file, frame.clip[frame.valid].astype(np.float16))
        _, _, ratio = paired(
            lambda i, plain=plain: np.load(plain[i % FRAMES]).astype(np.float32),
            lambda i, store=store: store.read(store.frames[i % FRAMES]),
            ROUNDS,
        )
        size = info.clip_bytes / info.clip_bytes_dense_fp16
        print(f"{codec:8} {size:20.2f} {1 / ratio:20.1f} {info.codec_max_error:10.1e}")
    print("a read brings points, labels, voxels, objects and features; np.load the features alone")


if __name__ == "__main__":
    main()
