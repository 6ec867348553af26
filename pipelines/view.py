"""Look at a store, and at what a run says about it, in the browser.

ovps view --cache ./zarr --run runs/driveworld --dataset-root data/driveworld
"""

from __future__ import annotations

import threading
from contextlib import suppress

from ovps.progress import say
from ovps.viewer.words import Words
from pipelines.look import open_catalogue, text_of
from pipelines.options import ViewOptions


def view(options: ViewOptions) -> None:
    """Serve the viewer until Ctrl-C.

    Raises:
        ConfigError: the port is taken, or there is nothing to look at.
        CacheError, CheckpointError, VocabularyError, DatasetError: see `pipelines.look.open_catalogue`.
        SetupError: viser is not installed.
    """
    from ovps.viewer.server import start_viewer

    catalogue = open_catalogue(options, options.dataset_root)
    words = Words(lambda: text_of(options.cache, options.weights))
    title = f"ovps: {options.cache.resolve().name}"
    viewer = start_viewer(catalogue, words, host=options.host, port=options.port, title=title)
    say(f"look at {viewer.url} (Ctrl-C ends it)")
    try:
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        viewer.stop()
    say("the viewer has ended")
