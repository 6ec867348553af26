"""A first picture without training: one street that no training saw, labelled by the run that ships with ovps.

ovps demo
ovps demo --words "fire engine, tree:stuff, person on a bicycle" --out demo
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import driveworld
from driveworld import demo_run
from ovps.clip.demo import NAME
from ovps.entries import read_entries
from ovps.files import write_whole
from ovps.places import check_free
from ovps.progress import progress, say
from ovps.viewer.offline import MOST_QUERIES, Shown, render_offline
from ovps.viewer.words import Words
from pipelines.look import open_catalogue, text_of
from pipelines.options import NEGATIVES, DemoOptions, LookOptions, PrecomputeOptions, VocabularyOptions
from pipelines.precompute import precompute
from pipelines.predict import forget, predict
from pipelines.vocabulary import build

SUBSET = "val"  # of the street: nothing is trained on it
THUMBNAIL = 480
_STEPS = ("street", "CLIP features", "words", "labels", "page")
_NOTE = (
    "A street that no training saw, labelled by the run that ships with ovps: on the left by the classes of the data"
    " set, on the right by words of your own. {novel} were never labelled in training. A word that names nothing here"
    " may still be given to what is nearest to it."
)


@dataclass(frozen=True)
class DemoSummary:
    """Facts of what was made.

    Attributes:
        page: one HTML file, which needs nothing else.
        data, cache, run, predictions: as `ovps world build`, `precompute`, `train` and `predict` would have made them;
            predictions by the classes, and by the words.
        opened: in a browser.
        novel: classes that were never labelled in training.
        seconds: by step.
        warnings: what of the words CLIP does not see.
    """

    page: Path
    data: Path
    cache: Path
    run: Path
    predictions: tuple[Path, Path]
    frames: int
    points: int
    opened: bool
    trained_by: str
    novel: tuple[str, ...]
    seconds: dict[str, float]
    warnings: list[str]


def demo(options: DemoOptions) -> DemoSummary:
    """Build a street, compute its CLIP features, label it by classes and by words, and write a page.

    What is there already, is not made again.

    Raises:
        ConfigError: the folder holds something else, or a street of other settings.
        VocabularyError: words that cannot be read.
        CheckpointError: the run that ships is damaged.
        SetupError: an extra is not installed that the drive world needs.
        StorageError: the disk refuses.
    """
    out = options.out
    check_free(out)
    entries = read_entries(options.words)
    seconds: dict[str, float] = {}
    data, cache, run, words = out / "data", out / "zarr", out / "run", out / "words.safetensors"
    trained = demo_run.unpack(run)
    with _step("street", seconds):
        driveworld.build_world(data, scenes=1, frames=options.frames, seed=options.seed, val_fraction=0.9, workers=1)
    with _step("CLIP features", seconds):
        computed = precompute(
            PrecomputeOptions(
                dataroot=data,
                subsets=(SUBSET,),
                encoder=NAME,
                out=cache,
                thumbnails=THUMBNAIL,
                workers=options.workers,
                device=options.device,
            )
        )
    with _step("words", seconds):
        warnings = build(VocabularyOptions(names=options.words, cache=str(cache), out=words)).warnings
    with _step("labels", seconds):
        by_classes, by_words = out / "predictions", out / "predictions-words"
        for folder, vocabulary in ((by_classes, None), (by_words, words)):
            forget(folder)
            labelled = predict(run, cache, folder, vocabulary=vocabulary, subset=SUBSET, device=options.device)
    with _step("page", seconds):
        page, novel = _page(options, cache, run, words, [e.name for e in entries])
    opened = options.open and _open(page)
    return DemoSummary(
        page=page,
        data=data,
        cache=cache,
        run=run,
        predictions=(by_classes, by_words),
        frames=options.frames,
        points=labelled.points,
        opened=opened,
        trained_by=f"{trained.command} (commit {trained.commit})",
        novel=novel,
        seconds={name: round(taken, 1) for name, taken in seconds.items()},
        warnings=list(dict.fromkeys([*computed.warnings, *warnings])),
    )


def _page(options: DemoOptions, cache: Path, run: Path, words: Path, names: list[str]) -> tuple[Path, tuple[str, ...]]:
    """Write the page, classes beside words; also the classes that were never labelled."""
    asked = LookOptions(cache=str(cache), run=run, subset=SUBSET, device=options.device)
    left = open_catalogue(asked)
    right = open_catalogue(asked.model_copy(update={"vocabulary": words}))
    tower = Words(lambda: text_of(str(cache), None))
    questions = [tower.ask(name, NEGATIVES)[0] for name in names[:MOST_QUERIES]]
    shown = []
    with progress("page", "frames", len(left.frames)) as counter:
        for ref in left.frames:
            shown.append(Shown([left.view(ref), right.view(ref)], left.pictures(ref)))
            counter.advance()
    assert left.session is not None
    novel = tuple(name.replace("_", " ") for name in left.session.run.split.novel)
    note = _NOTE.format(novel=", ".join(novel).capitalize())
    html = render_offline("Classes beside words", ["the data set's classes", "your words"], shown, questions, note)
    return write_whole(options.out / "demo.html", html.encode()), novel


@contextmanager
def _step(name: str, seconds: dict[str, float]) -> Iterator[None]:
    say(f"{_STEPS.index(name) + 1} of {len(_STEPS)}: {name}")
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin


def _open(page: Path) -> bool:
    """Open a page in the browser of this desktop, if there is one."""
    desktop = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    try:
        return desktop and webbrowser.open(page.absolute().as_uri())
    except webbrowser.Error:
        return False
