"""The whole way: features, labels, page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cache_schemas import SkippedRow
from ovps import defaults
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.store_info import read_info
from ovps.cache.where import storage_of
from ovps.cache.writer import is_store
from ovps.clip.protocol import RANDOM
from ovps.entries import Entry, quoted, read_entries
from ovps.errors import ConfigError, ProvenanceError, VocabularyError, WeightsError, counted, listed
from ovps.files import check_writable, refusals
from ovps.geometry.grid import Grid
from ovps.places import check_free, check_no_url
from ovps.report.linked import PICTURES
from ovps.training.run import Run, load_run
from ovps.training.run_files import RunInfo, load_settings
from ovps.viewer.export import check_packages
from ovps.vocabulary import Vocabulary, save_vocabulary, without_entries
from pipelines.options import PrecomputeOptions, SegmentOptions, VocabularyOptions
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.stage import complete, may_skip
from pipelines.precompute.summary import PrecomputeSummary
from pipelines.precompute.task import encoder_of
from pipelines.predict import PredictSummary, forget, predict
from pipelines.segment.page import PLY, look_through, write_segments
from pipelines.segment.recording import Sweeps, sampled_grid, sweeps_of
from pipelines.segment.summary import SegmentSummary
from pipelines.vocabulary import build

PAGE = "segments.html"
FRAGMENTS = (
    "CLIP alone knows no objects: an instance is a connected piece of what has one name, so that a vehicle is often"
    " several, and their number is no count of objects. A trained run (--run) tells objects apart"
)
_THUMBNAIL = 960
_FAR = 0.02  # of the points beyond the range of the grid: worth a warning


def segment(path: Path, options: SegmentOptions) -> SegmentSummary:
    """Write the labels of a recording's points, and a page that shows them.

    Running it again with other names computes no feature again; its own predictions of before are replaced.

    Args:
        path: of a recording, or of one of its point files, of which alone labels are then made.

    Raises:
        ConfigError: the path is a URL, or results of another recording are there.
        DatasetError, FrameError: no recording, or one that does not hold together: `ovps data check` says more; a
            frame that cannot be read, where such are not to be left out.
        ProvenanceError: features that are there were made with other settings, such as another occlusion.
        CheckpointError, CacheError, VocabularyError, WeightsError: see `predict` and `precompute`.
        StorageError: the disk refuses.
    """
    check_no_url(path)
    sweeps = sweeps_of(path, options.limit)
    root = sweeps.root
    out = (options.out or root.with_name(f"{root.name}-segments")).absolute()
    run = _asked(options, out)
    check_writable(out)
    _check_recording(out / "zarr", sweeps)
    info = run.info if run else None
    weights = options.weights or (RANDOM if info and info.clip.weights_random else None)
    own = _trained(run) if run and not run.system.uses_text and options.names is None else None
    cache, vocabulary = out / "zarr", out / "vocabulary.safetensors" if options.names is not None or own else None
    computed = _features(sweeps, options, info, weights, cache)
    of_words: Sequence[str] = ()
    if vocabulary is not None and own is not None:
        save_vocabulary(own, vocabulary)
    elif vocabulary is not None:
        words = VocabularyOptions(names=options.names, cache=cache, weights=weights, out=vocabulary)
        of_words = build(words).warnings

    store, tokens = Store.open(cache), sweeps.tokens
    refs = [ref for ref in store.frames if ref.token in tokens]
    found: dict[str, PredictSummary] = {}
    _forget_labels(out, ["predictions", *(f"predictions-{subset}" for subset in {ref.subset for ref in store.frames})])
    for subset in dict.fromkeys(ref.subset for ref in refs):
        folder = out / ("predictions" if len(sweeps.present) == 1 else f"predictions-{subset}")
        only = [ref.token for ref in refs if ref.subset == subset]
        found[subset] = predict(
            options.run, cache, folder, vocabulary=vocabulary, subset=subset, only=only, device=options.device
        )
    folders = {subset: one.out for subset, one in found.items()}
    known, there = store.provenance, {ref.token for ref in refs}
    grid = run.grid if run else Grid.parse(known.grid)
    look = look_through(
        out, store, refs, folders, grid=grid, vocabulary=vocabulary, pictures=options.pictures, ply=options.ply
    )

    counts = look.counts
    beyond = counts.share(counts.beyond)
    warnings = [
        *computed.warnings,
        *(_cannot_be_read(record, record.token in there) for record in computed.quarantined),
        *of_words,
        *(warning for one in found.values() for warning in one.warnings),
        *([_far(beyond, str(grid))] if beyond > _FAR else []),
        *([FRAGMENTS] if options.run is None else []),
    ]
    summary = SegmentSummary(
        page=out / PAGE,
        predictions=tuple(folders.values()),
        cache=cache,
        frames=len(refs),
        frames_drawn=len(look.frames),
        left_out=(*(record for record in computed.quarantined if record.token not in there), *sweeps.unseen),
        points=counts.points,
        seen_share=counts.share(counts.seen),
        unlabelled_share=counts.share(counts.by_entry[-1]),
        grid=str(grid),
        beyond_range_share=beyond,
        encoder=known.encoder,
        weights_random=known.weights_random,
        warnings=tuple(dict.fromkeys(warnings)),
    )
    write_segments(root.name, summary, look, next(iter(found.values())).format)
    return summary


def _forget_labels(out: Path, folders: Sequence[str]) -> None:
    """Remove labels, clouds and pictures that a command before made, perhaps of other words or more frames."""
    for name in folders:
        forget(out / name)
    if not (out / PAGE).is_file():
        return
    with refusals(out):
        for file in (*(out / PLY).glob("*.ply"), *(out / PICTURES).glob("*.png"), out / PAGE):
            file.unlink()


def _features(
    sweeps: Sweeps, options: SegmentOptions, info: RunInfo | None, weights: str | None, cache: Path
) -> PrecomputeSummary:
    """Compute the features that the store lacks, with CLIP as the run knows it."""
    with may_skip(options.on_error), _of_these_settings(cache):
        features = PrecomputeOptions(
            dataset="folder",
            dataroot=sweeps.root,
            subsets=sweeps.subsets,
            out=cache,
            encoder=options.encoder or (info.clip.encoder if info else defaults.ENCODER),
            weights=weights,
            grid=_grid(sweeps, options, info, cache),
            thumbnails=_THUMBNAIL,
            workers=options.workers,
            only=tuple(sweeps.tokens),
            device=options.device,
            on_error=options.on_error,
        )
        if info is not None:
            _check_weights(resolved(features), info, options.run)
        return complete(features)


def _grid(sweeps: Sweeps, options: SegmentOptions, info: RunInfo | None, cache: Path) -> str:
    """What was asked for; else the store's, the run's, or one that fits the points of some frames."""
    if options.grid is not None:
        return options.grid
    storage = storage_of(cache)
    if is_store(storage):
        return read_info(storage).provenance.grid
    return info.grid if info is not None else sampled_grid(sweeps, skip=options.on_error == "skip")


@contextmanager
def _of_these_settings(store: Path) -> Iterator[None]:
    """Say of a store with other settings what can be done: it lies where nobody has put it.

    It is not made anew unasked: with real CLIP that takes hours.
    """
    try:
        yield
    except ProvenanceError as error:
        remedy = (
            "All features in there are of one setting: set it back, take another --out, or delete that folder, and all"
            " are computed anew"
        )
        raise ProvenanceError(error.message, path=store, remedy=remedy) from error


def _cannot_be_read(record: SkippedRow, before: bool) -> str:
    of = "labelled by its features of before" if before else "left out"
    return f"frame {record.token} is {of}: {record.reason}"


def _far(beyond: float, grid: str) -> str:
    return (
        f"{beyond:.0%} of the points lie beyond the range of the grid ({grid}) and stand in its border cells: expect no"
        " good labels there"
    )


def _asked(options: SegmentOptions, out: Path) -> Run | None:
    """The run, and what else can be checked before CLIP has looked at hours of images.

    Raises:
        ConfigError: a place that is not free, another encoder than that of the run, or a run that needs earlier
            sweeps.
        CheckpointError: no run, or a damaged one.
        VocabularyError: names that cannot be read, or that the run cannot know.
        SetupError: what writes point clouds is not installed.
    """
    check_free(options.out or out)
    if options.ply:
        check_packages(["ply"])
    entries = read_entries(options.names) if options.names is not None else ()
    if options.run is None:
        return None
    info = load_settings(options.run)[1]
    if options.encoder not in (None, info.clip.encoder):
        raise ConfigError(
            f"the run was trained on features of {info.clip.encoder}, not of {options.encoder}",
            path=options.run,
            remedy="Leave out --encoder",
        )
    if info.sweeps:
        raise ConfigError(
            f"the run was trained with {counted(info.sweeps, 'earlier sweep')} joined to each frame, and of a recording"
            " each sweep stands alone",
            path=options.run,
            remedy="Take a run of a store that joins none",
        )
    run = load_run(options.run)
    if entries and not run.system.uses_text:
        _check_names(run, entries)
    return run


def _check_recording(cache: Path, sweeps: Sweeps) -> None:
    """Check that features and labels that are there are of this recording: those of another would be replaced.

    Raises:
        ConfigError: they are of another one.
    """
    storage = storage_of(cache)
    there = {row.scene for row in read_manifests(storage) if row.frames} if is_store(storage) else set()
    if there and not there & sweeps.scenes:
        raise ConfigError(
            f"features and labels of another recording are there: of {listed(sorted(there))}, and this one is"
            f" {listed(sorted(sweeps.scenes))}",
            path=cache.parent,
            remedy="Give another --out",
        )


def _trained(run: Run) -> Vocabulary:
    """The classes that a run was trained on: what a system without text can name."""
    return without_entries(run.vocabulary, set(run.vocabulary.names) - set(run.info.classes.names))


def _check_names(run: Run, entries: Sequence[Entry]) -> None:
    """Check that a run whose system looks at no text can name entries."""
    rows = np.arange(len(entries))
    text = np.zeros((len(entries), run.clip.clip_dim), np.float32)
    try:
        run.classes(Vocabulary(tuple(entries), text, rows, run.clip.encoder, run.clip.weights_sha256))
    except VocabularyError as error:
        known = [f"{quoted(e.name)}:stuff" if e.kind == "stuff" else quoted(e.name) for e in _trained(run).entries]
        raise error.with_remedy(f"Leave out --names, or give some of: {', '.join(known)}") from error


def _check_weights(features: Resolved, info: RunInfo, run: Path | None) -> None:
    """Check that CLIP here is that of a run, before it looks at hours of images."""
    encoder = encoder_of(features.encoder, features.weights, features.device, features.upscale)
    if encoder.weights.sha256 != info.clip.weights_sha256:
        raise WeightsError(
            f"{features.encoder} has weights {encoder.weights.sha256[:12]}… here, the run was trained on features of"
            f" {info.clip.weights_sha256[:12]}…",
            path=features.weights or run,
            remedy="Give the weights that the run was trained with (--weights FILE)",
        )
