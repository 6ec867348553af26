"""The whole way of a search: index, question, what is nearest, and its page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovps.errors import ConfigError
from ovps.files import check_writable
from ovps.places import check_free
from ovps.report.page import write_page
from ovps.viewer.contact_sheet import FrameHit, Sheet, render_sheet
from ovps.viewer.index import Ranking, best_frames, search
from ovps.viewer.words import checked
from pipelines.look import open_catalogue
from pipelines.options import QueryOptions
from pipelines.query.found import hits_of, nothing_found, with_pictures, write_list
from pipelines.query.index import check_kind, kept_index, usual_kind
from pipelines.query.question import example_of, question_of, scores_of

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
    _check_asked(options)
    catalogue = open_catalogue(options, options.dataset_root)
    like = example_of(options.like, options.of) if options.like is not None else None
    of = options.of or (like.of if like else None) or usual_kind(catalogue)
    check_kind(catalogue, of)
    begin = time.perf_counter()
    index, warnings = kept_index(options, catalogue, of)
    opened = time.perf_counter() - begin
    question, notes = question_of(options, like, index)
    begin = time.perf_counter()
    least = catalogue.store.taxonomy.min_points if options.min_points is None else options.min_points
    large = index.points >= least
    ranking = search(index.vectors, question.queries, question.negatives, options.top + 1, large)
    took = time.perf_counter() - begin
    score = scores_of(question, bool(options.like or options.image))
    refs = {ref.token: ref for ref in catalogue.frames}
    itself = index.row_of(like.frame, like.number) if like else None
    if itself is not None:
        ranking, large[itself] = _without(ranking, itself), False
    hits = hits_of(index, of, ranking.best[: options.top].tolist(), score(ranking.margins), refs)
    frames = [
        FrameHit(token, refs[token].scene, refs[token].index, float(score(np.array([best], np.float32))[0]))
        for token, best in best_frames(index, ranking, options.top)
    ]
    warnings += [*catalogue.warnings(), *notes, *nothing_found(question, of, hits, options.text, least, index, itself)]
    hits = with_pictures(catalogue, of, hits, refs)
    sheet = Sheet(
        title=question.text,
        lead=f"{int(large.sum()):,} {of} of at least {least} points in {len(refs):,} frames of"
        f" {catalogue.store.storage.name}, the nearest {len(hits)}",
        score_means=_WORDS if options.text is not None else _EXAMPLE,
        warnings=warnings,
        hits=hits,
        frames=frames,
    )
    write_page(options.html, render_sheet(sheet))
    if options.table:
        write_list(options.table, hits)
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


def _check_asked(options: QueryOptions) -> None:
    """Check what can be checked before the store is read."""
    text = options.text
    if sum(given is not None for given in (text, options.like, options.image)) != 1:
        raise ConfigError(
            "ask for one thing: words, --like or --image",
            remedy='For example: ovps query --cache ./zarr "fire hydrant"',
        )
    if options.vocabulary and not options.run:
        raise ConfigError("a vocabulary names segments of a run", remedy="Give --run too, or leave out --vocab")
    if options.table and options.table.suffix not in (".json", ".parquet"):
        raise ConfigError("a list of an unknown kind", path=options.table, remedy="Name it .json or .parquet")
    for file, ending in ((options.html, ".html"), (options.table, None)):
        if file is not None:
            check_free(file, file=ending or file.suffix)
            check_writable(file, file=True)
    if options.index is not None:
        check_free(options.index)
    for words in (text, *options.negatives):
        if words is not None and words.strip():
            checked(words)


def _without(ranking: Ranking, row: int) -> Ranking:
    """The ranking of all objects but the one that was asked with."""
    margins = ranking.margins.copy()
    margins[row] = -np.inf
    return Ranking(margins, ranking.best[ranking.best != row])
