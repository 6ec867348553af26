"""The functions that `import ovps` offers: open a store, load a run, segment a frame, score. See docs/python.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import nn

from ovps.batch.settings import UnlabelledFrames
from ovps.cache.frame_data import CachedFrame
from ovps.cache.object_numbers import without_numbers
from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.devices import device_of, usual_tensors
from ovps.errors import ConfigError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import PanopticResult, panoptic_result
from ovps.inference.predict_frame import predict_frame
from ovps.inference.prediction import PointLabels, class_ids
from ovps.inference.session import check_classes, labelled_frames_of, run_warnings, seen_in_training
from ovps.machine import use_own_cores
from ovps.progress import progress, show_warnings
from ovps.protocols import described
from ovps.training import run as runs
from ovps.training.run import Run
from ovps.vocabulary import Vocabulary, load_vocabulary, without_entries

_RUN = "what `ovps.load_run` gives"
_VOCABULARY = "a file that `ovps vocab build` made of your names, or what `ovps.vocabulary.load_vocabulary` reads"


def open_store(path: Where) -> Store:
    """Open a store that `ovps precompute` wrote: a folder, or a URL such as `s3://bucket/name`.

    Its `frames` say what there is, in order of scene and time; `store.read(store.frames[0])` gives a frame as arrays
    (`ovps.cache.frame_data.CachedFrame`: points in metres, labels, voxels, CLIP features). No data set and
    no CLIP are needed.

    Raises:
        CacheError: no store there, one of another version, or a damaged one.
        ConfigError: no folder and no URL.
    """
    return Store.open(path)


@usual_tensors()
def load_run(path: str | Path, device: str | None = None, backend: str | None = None) -> Run:
    """Load a training run: its network in evaluation mode, its settings, its vocabulary.

    Args:
        path: the folder that `ovps train --out` named.
        device: of torch; a GPU if there is one and nothing is said.
        backend: engine of the sparse convolutions, `minkowski` or `torch`; the one that it was trained with, where that
            is installed, if nothing is said.

    Raises:
        CheckpointError: no run there, or a damaged one.
        ConfigError: no such device or backend, or no path.
    """
    _check("path", path, (str, os.PathLike), "the folder of a run that `ovps train` made")
    use_own_cores()
    place = device_of(device)
    return runs.load_run(Path(path), place, backend)


@usual_tensors()
def segment(run: Run, frame: CachedFrame, vocabulary: Vocabulary | str | Path | None = None) -> PointLabels:
    """Give every point of a frame a class and an instance.

    Args:
        run: from `load_run`.
        frame: from a store of the CLIP that the run was trained with, and with as many earlier sweeps; of these only
            whether there are some is seen. Its labels are not looked at.
        vocabulary: the classes to choose from, or a file of them that `ovps vocab build` wrote; the data set's own
            (`run.vocabulary`) without what its split ignores, if nothing is said.

    Returns:
        `entry` (N,) int64, row of the `names` of `vocabulary`, or of `run.vocabulary` where none is given, -1 where
        nothing was found, and `instance` (N,) int64, 0 for stuff.

    Raises:
        CacheError: the frame has CLIP features of another length, or points of earlier sweeps where the run had none,
            or none where it had some.
        FrameError: the frame's points are those of no sweep: NaN, not in metres, intensities beyond 0..1, or none; or
            its CLIP features hold NaN.
        ConfigError: an argument of another kind.
        VocabularyError: no vocabulary, or one of another CLIP.
    """
    _check("run", run, (Run,), _RUN)
    _check("frame", frame, (CachedFrame,), "what `store.read` gives")
    chosen = _vocabulary(run, vocabulary)
    run.check_frame(frame)
    device = next(run.network.parameters()).device
    batch = run.batch(frame).to(device)
    classes = run.classes(chosen).to(device)
    with _evaluating(run.network):
        found = predict_frame(run.system, run.network, batch, classes, run.config.merge, run.config.classifier).labels
    if vocabulary is not None:
        return found
    row_of = {name: row for row, name in enumerate(run.vocabulary.names)}
    rows = np.array([*(row_of[name] for name in chosen.names), -1])  # -1 finds the last
    return PointLabels(rows[found.entry], found.instance)


def score(
    run: Run,
    store: Store,
    *,
    subset: str = "val",
    vocabulary: Vocabulary | str | Path | None = None,
    unlabelled_frames: UnlabelledFrames | None = None,
) -> PanopticResult:
    """Compare a run with the labels of a store, by the rules of its data set's own evaluation.

    `ovps eval` gives the same scores, writes them down, and adds reference rows and mask recall.

    Args:
        run: from `load_run`.
        store: of the CLIP that the run was trained with.
        subset: the data set's own split, e.g. `val`.
        vocabulary: as in `segment`; its entries are named after classes of the data set, others count as unlabelled.
        unlabelled_frames: `error` refuses a subset in which frames have no labels, `skip` leaves these out; None: as
            the run was trained.

    Returns:
        Fractions in 0..1: `groups["novel"].pq`, `groups["all"].miou`, and `classes`, one after the other.

    Raises:
        CacheError: a store of another CLIP.
        ConfigError: no frames of that subset, or frames without labels; an argument of another kind.
        VocabularyError: none of its entries is a class of the data set.
    """
    _check("run", run, (Run,), _RUN)
    _check("store", store, (Store,), "what `ovps.open_store` gives")
    _check("subset", subset, (str,), "the name of one split of the store")
    run.check_cache(store.provenance, store.path)
    own = without_entries(store.vocabulary, run.split.ignored)
    chosen, taxonomy = _vocabulary(run, own if vocabulary is None else vocabulary), run.split.scored(run.taxonomy)
    class_of = class_ids(chosen, taxonomy)
    counts = PanopticCounts.empty()
    check_classes(store, run.taxonomy)
    frames = labelled_frames_of(store, subset, unlabelled_frames or run.config.data.unlabelled_frames)
    show_warnings([*run_warnings(run, store), *without_numbers(store, frames), *seen_in_training(run.info, frames)])
    with progress("scoring", "frames", len(frames)) as counter:
        for ref in frames:
            frame = store.read(ref)
            assert frame.label is not None, frame.token
            found = segment(run, frame, chosen)
            counts.add(
                *taxonomy.true_segments(frame.label),
                class_of[found.entry],
                found.instance,
                min_points=taxonomy.min_points,
            )
            counter.advance()
    return panoptic_result(counts, taxonomy, run.split.novel_ids(taxonomy))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and each of its modules back in its own: it may be in a training."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _vocabulary(run: Run, vocabulary: Vocabulary | str | Path | None) -> Vocabulary:
    """The vocabulary to answer with, once it is known to be of the run's CLIP."""
    if vocabulary is None:
        return without_entries(run.vocabulary, run.split.ignored)
    _check("vocabulary", vocabulary, (Vocabulary, str, os.PathLike), _VOCABULARY)
    path = None if isinstance(vocabulary, Vocabulary) else Path(vocabulary)
    chosen = vocabulary if isinstance(vocabulary, Vocabulary) else load_vocabulary(vocabulary)
    run.check_vocabulary(chosen, path)
    return chosen


def _check(name: str, given: object, kinds: tuple[type, ...], wanted: str) -> None:
    """Raise ConfigError unless an argument is of one of the kinds that are wanted, which a remedy says in words."""
    if not isinstance(given, kinds):
        raise ConfigError(f"`{name}` is {described(given)}", remedy=f"Give {wanted}")
