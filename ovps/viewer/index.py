"""An index of a whole store: one unit vector for each object, to be compared with a query by brute force.

On disk it is a folder: `vectors.npy` (M, C) float16, mapped into memory, and `objects.parquet`, whose metadata says
what it was made of, and its hash. It is made again when that has changed, or when a file is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyarrow import ArrowException

from ovps.cache.frame_data import FrameRef
from ovps.files import refusals, write_whole
from ovps.parquet import read_parquet
from ovps.shortage import faults
from ovps.viewer.relevance import margin

BLOCK = 65536  # vectors compared at once
EXACT = 8  # times what is asked for: float16 proposes so many, float32 decides their order
_MADE_OF, _SHA256 = b"ovps_made_of", b"ovps_sha256"
_VECTORS, _OBJECTS = "vectors.npy", "objects.parquet"


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """S segments of one frame, as the index takes them.

    Attributes:
        embedding: (S, C), of any length; those that no camera saw are left out of the index.
        seen: (S,) bool, which have an embedding.
        names: (S,) what they are called, "" for none.
        points: (S,) int64.
    """

    embedding: NDArray[np.float32]
    seen: NDArray[np.bool_]
    names: Sequence[str]
    points: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class ObjectIndex:
    """M objects of a store.

    Attributes:
        vectors: (M, C) float16, unit rows.
        frame: (M,) tokens.
        segment: (M,) int64, row of the frame's segments.
        name: (M,) what each is called.
        points: (M,) int64.
    """

    vectors: NDArray[np.float16]
    frame: NDArray[np.object_]
    segment: NDArray[np.int64]
    name: NDArray[np.object_]
    points: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)

    def row_of(self, frame: str, segment: int) -> int | None:
        """The row of a segment; None: it is not in the index."""
        found = np.flatnonzero((self.frame == frame) & (self.segment == segment))
        return int(found[0]) if len(found) else None


@dataclass(frozen=True, eq=False)
class Ranking:
    """Result of a search.

    Attributes:
        margins: (M,) float32 of all objects, see `ovps.viewer.relevance.margin`; in float16 but for `best`.
        best: rows, the nearest first.
    """

    margins: NDArray[np.float32]
    best: NDArray[np.int64]


def search(
    vectors: NDArray[np.float16],
    queries: NDArray[np.float32],
    negatives: NDArray[np.float32],
    top: int,
    usable: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Compare a query with all vectors (M, C), in blocks of float16; the order of the best is decided in float32.

    Args:
        queries, negatives: unit rows, as in `margin`.
        top: rows to return, fewer where there are fewer.
        usable: (M,) bool, rows that may be found; the others' margin is minus infinity. None: all.
    """
    text = torch.from_numpy(np.concatenate([queries, negatives]).astype(np.float16))
    margins = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(vectors[start : start + BLOCK]))
        cosines = F.linear(block, text).float()
        wanted = cosines[:, : len(queries)].amax(dim=1)
        others = cosines[:, len(queries) :].amax(dim=1) if len(negatives) else 0
        margins[start : start + BLOCK] = (wanted - others).numpy()
    if usable is not None:
        margins[~usable] = -np.inf
    count = min(len(vectors), EXACT * top)
    near = np.argpartition(-margins, count - 1)[:count] if count else np.zeros(0, np.int64)
    near = near[np.isfinite(margins[near])]
    margins[near] = margin(vectors[near].astype(np.float32), queries, negatives)
    return Ranking(margins, near[np.lexsort((near, -margins[near]))][:top])


def collect(frames: Sequence[FrameRef], objects: Callable[[FrameRef], FrameObjects], dim: int) -> ObjectIndex:
    """Gather the objects of frames.

    Args:
        objects: of one frame; called once for each, in order.
        dim: C, for a store without any object.
    """
    vectors, tokens, rows, names, points = [np.zeros((0, dim), np.float16)], [], [], [], []
    for ref in frames:
        found = objects(ref)
        kept = np.flatnonzero(found.seen)
        length = np.linalg.norm(found.embedding[kept], axis=1, keepdims=True)
        vectors.append((found.embedding[kept] / np.maximum(length, 1e-12)).astype(np.float16))
        tokens += [ref.token] * len(kept)
        rows.append(kept)
        names += [found.names[i] for i in kept]
        points.append(np.asarray(found.points)[kept])
    none = [np.zeros(0, np.int64)]
    return ObjectIndex(
        np.concatenate(vectors),
        np.array(tokens, object),
        np.concatenate(none + rows).astype(np.int64),
        np.array(names, object),
        np.concatenate(none + points).astype(np.int64),
    )


def save_index(index: ObjectIndex, folder: Path, made_of: Mapping[str, Any]) -> None:
    """Write an index; the table, which says what it is made of, comes last.

    Raises:
        StorageError: the disk refuses.
    """
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _OBJECTS).unlink(missing_ok=True)
        part = folder / f"{_VECTORS}.part"
        with open(part, "wb") as file:
            np.save(file, index.vectors)
        os.replace(part, folder / _VECTORS)
    columns = {"frame": index.frame, "segment": index.segment, "name": index.name, "points": index.points}
    table = pa.table({name: pa.array(values.tolist()) for name, values in columns.items()})
    known = {_MADE_OF: json.dumps(made_of, sort_keys=True).encode(), _SHA256: _sha256(index).encode()}
    table = table.replace_schema_metadata(known)
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_whole(folder / _OBJECTS, content.getvalue().to_pybytes())


def load_index(folder: Path, made_of: Mapping[str, Any]) -> ObjectIndex | None:
    """Open an index; None where there is none, or one that was made of something else, or is damaged."""
    try:
        table = read_parquet(folder / _OBJECTS)
        known = table.schema.metadata or {}
        if json.loads(known[_MADE_OF]) != json.loads(json.dumps(made_of)):
            return None
        vectors = np.load(folder / _VECTORS, mmap_mode="c")  # writable as torch wants it, but not the file
        if vectors.dtype != np.float16 or vectors.ndim != 2 or len(vectors) != len(table):
            return None
        text = {name: np.array(table[name].to_pylist(), object) for name in ("frame", "name")}
        numbers = {name: np.array(table[name].to_pylist(), np.int64) for name in ("segment", "points")}
        index = ObjectIndex(vectors, text["frame"], numbers["segment"], text["name"], numbers["points"])
        return index if known[_SHA256] == _sha256(index).encode() else None
    except faults(OSError, EOFError, KeyError, ValueError, TypeError, ArrowException):
        return None


def _sha256(index: ObjectIndex) -> str:
    """Of everything that an index holds: a search reads all of its vectors anyway."""
    digest = hashlib.sha256(repr(index.vectors.shape).encode())
    for start in range(0, len(index.vectors), BLOCK):
        digest.update(np.ascontiguousarray(index.vectors[start : start + BLOCK]).data)
    for column in (index.frame, index.segment, index.name, index.points):
        digest.update(json.dumps(column.tolist()).encode())
    return digest.hexdigest()


def best_frames(index: ObjectIndex, ranking: Ranking, top: int) -> list[tuple[str, float]]:
    """Frames by the margin of their best object, the nearest first."""
    if not len(index):
        return []
    tokens, frame = np.unique(index.frame.astype(str), return_inverse=True)
    best = np.full(len(tokens), -np.inf)
    np.maximum.at(best, frame.reshape(-1), ranking.margins)
    order = [i for i in np.argsort(-best, kind="stable")[:top] if np.isfinite(best[i])]
    return [(str(tokens[i]), float(best[i])) for i in order]
