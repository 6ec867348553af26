"""Search a whole store: words, an example in it or a picture, to a contact sheet and a list.

ovps query --cache ./zarr "fire hydrant" --top 50
ovps query --cache ./zarr --like a6b3b69233f295338ffe2eed66955c61:objects:12
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ovps.cache.disk import LocalStorage
from ovps.cache.frame_data import FrameRef
from ovps.cache.layout import manifest_key
from ovps.cache.manifest import partitions
from ovps.cache.storage import Storage
from ovps.clip.pictures import embed_pictures, read_picture
from ovps.errors import ConfigError, StorageError, listed
from ovps.files import check_writable, write_whole
from ovps.places import check_free
from ovps.progress import progress
from ovps.report.page import write_page
from ovps.segment_reference import Of, Segment, parse_segment
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.contact_sheet import FrameHit, Hit, Sheet, distance_of, pictures_of, render_sheet
from ovps.viewer.index import (
    FrameObjects,
    ObjectIndex,
    best_frames,
    collect,
    load_index,
    save_index,
    search,
)
from ovps.viewer.labelling import Labelling
from ovps.viewer.pooling import label_free, pooled_clip
from ovps.viewer.view import Question, View
from ovps.viewer.words import Words, checked
from ovps.vocabulary import digest
from pipelines.look import open_catalogue, text_of
from pipelines.options import QueryOptions
from pipelines.vocabulary import encoder_of

_RELEVANT = 0.5
_WORDS = (
    "The score is how much nearer an object's CLIP feature is to the query than to the nearest of the negatives, 0..1;"
    " 0.5 is as near."
)
_EXAMPLE = "The score is the cosine between the CLIP feature of an object and that of the example."


@dataclass(frozen=True)
class QuerySummary:
    """Objects and frames that were found.

    Attributes:
        query: the words, or the example.
        of: what was ranked.
        objects, frames: how many were searched; what no camera saw, or has too few points, is not among them.
        index_seconds: to make the index, or to open it.
        search_seconds: to compare.
        best: the first of the list, for people.
        html, table: what was written: the contact sheet, and the list.
        warnings: nothing relevant, words that CLIP does not see.
    """

    query: str
    of: str
    objects: int
    frames: int
    index_seconds: float
    search_seconds: float
    best: list[str]
    html: Path
    table: Path | None
    warnings: list[str]


def query(options: QueryOptions) -> QuerySummary:
    """Rank the objects and frames of a store, and write what was found.

    Raises:
        ConfigError: neither words nor an example, or more than one of them; no such segment.
        VocabularyError: words that CLIP cannot read, or a file that is no picture.
        CacheError, CheckpointError, WeightsError, DatasetError: see `pipelines.look`.
        StorageError: the disk refuses.
    """
    text = options.text
    if sum(given is not None for given in (text, options.like, options.image)) != 1:
        raise ConfigError(
            "ask for one thing: words, --like or --image",
            remedy='For example: ovps query --cache ./zarr "fire hydrant"',
        )
    if options.table and options.table.suffix not in (".json", ".parquet"):
        raise ConfigError("a list of an unknown kind", path=options.table, remedy="Name it .json or .parquet")
    for file in (options.html, options.table):
        if file is not None:
            check_free(file, file=True)
            check_writable(file, file=True)
    if options.index is not None:
        check_free(options.index)
    for words in (text, *options.negatives):
        if words is not None and words.strip():
            checked(words)
    catalogue = open_catalogue(options, options.dataset_root)
    like = _segment(options.like, options.of) if options.like is not None else None
    of = options.of or (like.of if like else None) or _default(catalogue)
    _check(catalogue, of)
    begin = time.perf_counter()
    index, warnings = _index(options, catalogue, of)
    opened = time.perf_counter() - begin
    question, notes = _question(options, like, index)
    begin = time.perf_counter()
    least = catalogue.store.taxonomy.min_points if options.min_points is None else options.min_points
    large = index.points >= least
    ranking = search(index.vectors, question.queries, question.negatives, options.top + 1, large)
    took = time.perf_counter() - begin
    score = _score(question, bool(options.like or options.image))
    refs = {ref.token: ref for ref in catalogue.frames}
    itself = index.row_of(like.frame, like.number) if like else None
    rows = [row for row in ranking.best.tolist() if row != itself]
    hits = _hits(index, of, rows[: options.top], score(ranking.margins), refs)
    frames = [
        FrameHit(token, refs[token].scene, refs[token].index, float(score(np.array([best], np.float32))[0]))
        for token, best in best_frames(index, ranking, options.top)
    ]
    warnings += notes + _nothing(question, hits, text, least, index)
    hits = _with_pictures(catalogue, of, hits, refs)
    sheet = Sheet(
        title=question.text,
        lead=f"{int(large.sum()):,} {of} of at least {least} points in {len(refs):,} frames of"
        f" {catalogue.store.storage.name}, the nearest {len(hits)}",
        score_means=_WORDS if text is not None else _EXAMPLE,
        warnings=warnings,
        hits=hits,
        frames=frames,
    )
    write_page(options.html, render_sheet(sheet))
    if options.table:
        _write_list(options.table, hits)
    return QuerySummary(
        query=question.text,
        of=of,
        objects=int(large.sum()),
        frames=len(refs),
        index_seconds=opened,
        search_seconds=took,
        best=[f"{h.score:.3f} {h.name} {h.reference}" for h in hits[:5]],
        html=options.html,
        table=options.table,
        warnings=warnings,
    )


def _default(catalogue: Catalogue) -> Of:
    if catalogue.session is not None:
        return "segments"
    return "objects" if any(ref.labelled for ref in catalogue.frames) else "clusters"


def _check(catalogue: Catalogue, of: Of) -> None:
    if of == "segments" and catalogue.session is None:
        raise ConfigError("segments are those of a run", remedy="Give --run, or choose --of objects or clusters")
    if of == "objects" and not any(ref.labelled for ref in catalogue.frames):
        raise ConfigError(
            "these frames have no labels", path=catalogue.store.path, remedy="Choose --of clusters, or give --run"
        )


# ---- the index


def _index(options: QueryOptions, catalogue: Catalogue, of: Of) -> tuple[ObjectIndex, list[str]]:
    """The index of the frames, from its folder if it was made of them."""
    session = catalogue.session
    folder = options.index or (
        session.run.path / "query" if session and of == "segments" else _beside(catalogue.store.storage)
    )
    made_of = _made_of(catalogue, of)
    index = load_index(folder, made_of)
    if index is not None:
        return index, []
    with progress("index", "frames", len(catalogue.frames)) as counter:

        def objects(ref: FrameRef) -> FrameObjects:
            found = _objects(catalogue, of, ref)
            counter.advance()
            return found

        index = collect(catalogue.frames, objects, catalogue.store.provenance.clip_dim)
    try:
        save_index(index, folder, made_of)
    except StorageError as error:
        return index, [f"the index could not be kept and will be made again: {error}"]
    return index, []


def _beside(storage: Storage) -> Path:
    """The folder of an index beside its store; here, if that is in a bucket."""
    folder = storage.root.parent if isinstance(storage, LocalStorage) else Path()
    return folder / f"{storage.name}.query"


def _made_of(catalogue: Catalogue, of: Of) -> dict[str, Any]:
    """Everything that decides an index."""
    storage, session = catalogue.store.storage, catalogue.session
    with catalogue.reading():
        names = partitions(storage)
        hashes = storage.each(storage.sha256, map(manifest_key, names))
        manifests = {f"{name}.parquet": sha256 for name, sha256 in zip(names, hashes, strict=True)}
    made_of: dict[str, Any] = {
        "of": of,
        "store": manifests,
        "frames": [ref.token for ref in catalogue.frames],
    }
    if of == "segments" and session is not None:
        made_of |= {
            "run": session.run.info.model_dump(mode="json"),
            "step": session.run.step,
            "vocabulary": digest(session.vocabulary),
            "merge": session.merge.model_dump(mode="json"),
            "classifier": session.classifier.model_dump(mode="json"),
        }
    return made_of


def _objects(catalogue: Catalogue, of: Of, ref: FrameRef) -> FrameObjects:
    if of == "objects":
        by_id = catalogue.store.taxonomy.by_id
        with catalogue.reading(ref.token):
            found = catalogue.store.objects(ref)
        names = [by_id[int(c)].name for c in found.classes]
        return FrameObjects(found.embedding, found.seen_points > 0, names, found.points)
    view = catalogue.view(ref)
    labels = _labels(view, of)
    features, seen = pooled_clip(view.frame, labels)
    names = [labels.palette.name(int(e)) if e >= 0 else "" for e in labels.segment_entry]
    return FrameObjects(features, seen, names, labels.size)


def _labels(view: View, of: Of) -> Labelling:
    """The segments of a frame that `of` speaks of, in the order in which they are numbered."""
    labels = {"objects": view.truth, "segments": view.predicted, "clusters": None}[of]
    return labels if labels is not None else label_free(view.frame)


# ---- the question


def _question(options: QueryOptions, like: Segment | None, index: ObjectIndex) -> tuple[Question, list[str]]:
    """What is compared, and what of it CLIP does not see."""
    if options.text is not None:
        negatives = tuple(word for word in options.negatives if word.strip())
        return Words(lambda: text_of(options.cache, options.weights)).ask(options.text, negatives)
    if options.image is not None:
        encoder = encoder_of(options.cache, options.weights)
        vector = embed_pictures(encoder, [read_picture(options.image)])
        return _example(f"picture {options.image.name}", vector), []
    assert like is not None
    return _example(f"like {like}", _vector(like, index)), []


def _example(text: str, vector: NDArray[np.floating]) -> Question:
    vector = vector.astype(np.float32)
    unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return Question(text, unit[None], np.zeros((0, len(unit)), np.float32), 1.0)


def _segment(like: str, of: Of | None) -> Segment:
    """The example that is named, of what is ranked."""
    segment = parse_segment(like)
    if segment is None:
        raise ConfigError(
            f"{like!r} names no segment", remedy="Write FRAME:objects:NUMBER, as viewer and contact sheet do"
        )
    if of and segment.of and segment.of != of:
        raise ConfigError(f"{like} is one of {segment.of}, and {of} are asked for", remedy=f"Leave out --of {of}")
    return segment


def _vector(like: Segment, index: ObjectIndex) -> NDArray[np.float16]:
    row = index.row_of(like.frame, like.number)
    if row is None:
        known = index.segment[index.frame == like.frame]
        remedy = (
            f"The frame has {listed(known, 20)}"
            if len(known)
            else "Give the token of a frame that is searched; one that no camera sees cannot be compared"
        )
        raise ConfigError(f"no segment {like} that a camera sees", remedy=remedy)
    return np.asarray(index.vectors[row])


def _score(question: Question, example: bool) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Margins as scores: a cosine of an example, else relevance."""
    if example:
        return lambda margins: margins
    return lambda margins: 1 / (1 + np.exp(-np.clip(margins / question.temperature, -80, 80)))


# ---- what was found


def _hits(
    index: ObjectIndex, of: Of, rows: list[int], scores: NDArray[np.float32], refs: dict[str, FrameRef]
) -> list[Hit]:
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


def _with_pictures(catalogue: Catalogue, of: Of, hits: list[Hit], refs: dict[str, FrameRef]) -> list[Hit]:
    """Hits with crops and bird's-eye views; each frame is read once."""
    drawn = dict[int, Hit]()
    with progress("pictures", "objects", len(hits)) as counter:
        for token in dict.fromkeys(hit.frame for hit in hits):
            view, seen = catalogue.view(refs[token]), catalogue.pictures(refs[token])
            labels = _labels(view, of)
            for number, hit in enumerate(hits):
                if hit.frame == token:
                    away = distance_of(view, labels, hit.segment)
                    pictures = pictures_of(view, labels, hit.segment, seen)
                    drawn[number] = replace(hit, distance=away, pictures=pictures)
                    counter.advance()
    return [drawn[number] for number in range(len(hits))]


def _nothing(question: Question, hits: list[Hit], text: str | None, least: int, index: ObjectIndex) -> list[str]:
    if not len(index.points):
        return ["nothing to search: no camera sees any object"]
    if not hits:
        most = int(index.points.max())
        return [f"no object has {least:,} points or more (--min-points), the largest has {most:,}"]
    if text is not None and len(question.negatives) and hits[0].score < _RELEVANT:
        return [f"nothing is nearer to “{question.text}” than to the negatives: these are only the least far"]
    return []


def _write_list(path: Path, hits: list[Hit]) -> None:
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
