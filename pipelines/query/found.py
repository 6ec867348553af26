"""Objects that were found, with pictures and as a list."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ovps.cache.frame_data import FrameRef
from ovps.files import write_whole
from ovps.progress import progress
from ovps.segment_reference import Of
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.contact_sheet import Hit, distance_of, pictures_of
from ovps.viewer.index import (
    ObjectIndex,
)
from ovps.viewer.view import Question
from pipelines.query.index import labels_of

_RELEVANT = 0.5


def hits_of(
    index: ObjectIndex, of: Of, rows: list[int], scores: NDArray[np.float32], refs: dict[str, FrameRef]
) -> list[Hit]:
    """Name the objects that were found, still without pictures.

    Args:
        rows: of the index, best first; scores: (N,) of all rows of the index.
        refs: frames by token.
    """
    return [
        Hit(
            frame=str(index.frame[row]),
            scene=refs[index.frame[row]].scene,
            index=refs[index.frame[row]].index,
            of=of,
            segment=int(index.segment[row]),
            name=str(index.name[row]) or "unnamed",
            score=float(scores[row]),
            points=int(index.points[row]),
            distance=0.0,
        )
        for row in rows
    ]


def with_pictures(catalogue: Catalogue, of: Of, hits: list[Hit], refs: dict[str, FrameRef]) -> list[Hit]:
    """Add crops and bird's-eye views, and how far away each object is; each frame is read once.

    Raises:
        CacheError: a damaged store.
        DatasetError: images that are asked for cannot be read.
    """
    drawn = dict[int, Hit]()
    with progress("pictures", "objects", len(hits)) as counter:
        for token in dict.fromkeys(hit.frame for hit in hits):
            view, seen = catalogue.view(refs[token]), catalogue.pictures(refs[token])
            labels = labels_of(view, of)
            for number, hit in enumerate(hits):
                if hit.frame == token:
                    away = distance_of(view, labels, hit.segment)
                    pictures = pictures_of(view, labels, hit.segment, seen)
                    drawn[number] = replace(hit, distance=away, pictures=pictures)
                    counter.advance()
    return [drawn[number] for number in range(len(hits))]


def nothing_found(
    question: Question,
    of: Of,
    hits: list[Hit],
    text: str | None,
    least: int,
    index: ObjectIndex,
    itself: int | None = None,
) -> list[str]:
    """Warn if nothing was found, or nothing that is nearer to the words than to what they are told from.

    Args:
        of: what was searched.
        text: the words; None of an example.
        least: points that an object must have.
        itself: row of the example, which is not searched; None: it is none of these objects.
    """
    if not len(index.points):
        run = "the run finds no segment that a camera sees; --of objects or clusters needs none of it"
        return [f"nothing to search: {run if of == 'segments' else 'no camera sees any object'}"]
    if not hits:
        others = index.points if itself is None else np.delete(index.points, itself)
        if not len(others):
            return ["nothing to search: the example is the only object that a camera sees"]
        which = "" if itself is None else "other "
        return [f"no {which}object has {least:,} points or more (--min-points), the largest has {int(others.max()):,}"]
    if text is not None and len(question.negatives) and hits[0].score < _RELEVANT:
        return [f"nothing is nearer to “{question.text}” than to the negatives: these are only the least far"]
    return []


def write_list(path: Path, hits: list[Hit]) -> None:
    """Write what was found without its pictures, as JSON or parquet by the ending.

    Raises:
        StorageError: the disk refuses.
    """
    records = [{k: v for k, v in asdict(hit).items() if k != "pictures"} for hit in hits]
    if path.suffix == ".json":
        write_whole(path, (json.dumps(records, indent=2) + "\n").encode())
        return
    fields = [
        ("frame", pa.string()),
        ("scene", pa.string()),
        ("index", pa.int64()),
        ("of", pa.string()),
        ("segment", pa.int64()),
    ]
    fields += [("name", pa.string()), ("score", pa.float64()), ("points", pa.int64()), ("distance", pa.float64())]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=pa.schema(fields)), content)
    write_whole(path, content.getvalue())
