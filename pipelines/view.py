"""Look at a store, and at what a run says about it: live in the browser, or as one file to send to somebody.

ovps view --cache ./zarr --run runs/driveworld --dataset-root data/driveworld
ovps view --cache ./zarr --run runs/driveworld --html street.html --frames 0,4 --query bus --query "traffic cone"
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ovps.cache.where import storage_of
from ovps.errors import ConfigError
from ovps.files import check_writable
from ovps.places import check_free, names_apart
from ovps.progress import progress, say, show_warnings
from ovps.report.page import write_page
from ovps.viewer.offline import Shown, check_queries, render_offline
from ovps.viewer.words import Words, checked, split_words
from pipelines.look import evenly_spaced, open_catalogue, text_of
from pipelines.options import NEGATIVES, ViewOptions

SHOWN = 4  # frames of a file where none were named


@dataclass(frozen=True)
class ViewSummary:
    """File that was written.

    Attributes:
        bytes_per_frame: of the file.
        warnings: what of the queries CLIP does not see, frames that are lost, a run that fits badly.
    """

    html: Path
    frames: int
    bytes_per_frame: int
    seconds: float
    warnings: list[str]


def serve(options: ViewOptions, started: Callable[[str], None] | None = None) -> None:
    """Serve the viewer until Ctrl-C.

    Args:
        started: called with the address once it is served; by default it is said.

    Raises:
        ConfigError: the port is taken, or there is nothing to look at.
        CacheError, CheckpointError, VocabularyError, DatasetError: see `pipelines.look.open_catalogue`.
        SetupError: viser is not installed.
    """
    from ovps.viewer.server import start_viewer

    if options.beside or options.queries:
        raise ConfigError("--beside and --query are for a file", remedy="Give --html FILE too, or type in the page")
    catalogue = open_catalogue(options, options.dataset_root)
    words = Words(lambda: text_of(options.cache, options.weights))
    title = f"ovps: {storage_of(options.cache).name}"
    show_warnings(catalogue.warnings())
    viewer = start_viewer(catalogue, words, host=options.host, port=options.port, title=title)
    try:
        with suppress(KeyboardInterrupt):
            if started is None:
                say(f"look at {viewer.url} (Ctrl-C ends it)")
            else:
                started(viewer.url)  # whoever learns the address may end it at once
            threading.Event().wait()
    finally:
        viewer.stop()
    say("the viewer has ended")


def write_html(options: ViewOptions, html: Path) -> ViewSummary:
    """Write frames, evenly spaced unless some were named, as one file that needs neither server nor network.

    Raises:
        ConfigError: no such frames, too many queries, or a second run without a first.
        CacheError, CheckpointError, VocabularyError, DatasetError, WeightsError: see `pipelines.look`.
        StorageError: the disk refuses.
    """
    if options.beside and not options.run:
        raise ConfigError("--beside without --run", remedy="Name the first run by --run")
    check_free(html, file=".html")
    check_writable(html, file=True)
    check_queries(len(options.queries))
    if options.negatives != NEGATIVES and not options.queries:
        raise ConfigError("--against without --query", remedy="Give --query too: words are lit up against those")
    for text in options.queries:
        checked(text)
    begin = time.perf_counter()
    catalogue = open_catalogue(options, options.dataset_root)
    other = open_catalogue(options, options.dataset_root, options.beside) if options.beside else None
    refs = catalogue.frames
    if not options.frames:
        refs = tuple(evenly_spaced(refs, SHOWN))
    questions, warnings = [], catalogue.warnings()
    if other:
        warnings += [f"{options.beside}: {text}" for text in other.warnings() if text not in warnings]
    if options.queries:
        words = Words(lambda: text_of(options.cache, options.weights))
        for text in options.queries:
            question, notes = words.ask(text, split_words(",".join(options.negatives)))
            questions.append(question)
            warnings += [note for note in notes if note not in warnings]
    shown = []
    with progress("view", "frames", len(refs)) as counter:
        for ref in refs:
            views = [catalogue.view(ref), *([other.view(ref)] if other else [])]
            shown.append(Shown(views, catalogue.pictures(ref)))
            counter.advance()
    runs = names_apart([path for path in (options.run, options.beside) if path])
    title = f"{storage_of(options.cache).name}: {' beside '.join(runs)}" if runs else storage_of(options.cache).name
    size = write_page(html, render_offline(title, runs, shown, questions))
    return ViewSummary(html, len(shown), size // len(shown), time.perf_counter() - begin, warnings)
