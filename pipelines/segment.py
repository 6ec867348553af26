"""A recording of one's own, labelled and drawn: CLIP features, predictions and a page in one command.

ovps segment recordings/monday --names "car, person, road:stuff"            # CLIP alone, nothing trained
ovps segment recordings/monday --run runs/nuscenes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache_schemas import SkippedRow
from ovps import datasets, defaults
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.reader import Store
from ovps.cache.store_info import read_info
from ovps.cache.where import storage_of
from ovps.cache.writer import is_store
from ovps.clip.protocol import RANDOM
from ovps.datasets.folder import Folder
from ovps.datasets.folder.layout import IMAGES, POINTS, find_scenes
from ovps.entries import read_entries
from ovps.errors import ConfigError, DatasetError, FrameError, ProvenanceError, WeightsError, counted
from ovps.file_names import file_of
from ovps.files import write_whole
from ovps.frame import Frame
from ovps.geometry.grid import Grid, fitting_grid
from ovps.geometry.visibility import Occlusion
from ovps.inference.plain_labels import labels_path
from ovps.places import check_free, check_no_url
from ovps.report.colours import entry_colours, rgb
from ovps.report.page import render, write_page
from ovps.report.segment_page import Line, SegmentPage, draw_frame
from ovps.training.run_files import RunInfo, load_settings
from ovps.viewer.export import to_ply
from ovps.vocabulary import Vocabulary, load_vocabulary
from pipelines.options import PrecomputeOptions, SegmentOptions, VocabularyOptions
from pipelines.precompute.compute_frame import check_cloud
from pipelines.precompute.options import Resolved, resolved
from pipelines.precompute.plan import limited
from pipelines.precompute.stage import complete, may_skip
from pipelines.precompute.task import encoder_of
from pipelines.predict import PredictSummary, forget, predict
from pipelines.vocabulary import build

PAGE = "segments.html"
PLY = "ply"
FRAGMENTS = (
    "CLIP alone knows no objects: an instance is a connected piece of what has one name, so that a vehicle is often"
    " several, and their number is no count of objects. A trained run (--run) tells objects apart"
)
_SAMPLED = 5  # frames that the grid is fitted to
_THUMBNAIL = 960
_FAR = 0.02  # of the points beyond the range of the grid: worth a warning


@dataclass(frozen=True)
class SegmentSummary:
    """Facts of what was made.

    Attributes:
        page: HTML, with its pictures beside it.
        predictions: folder of each split: `labels/SPLIT/TOKEN.npz` and `about.json`, see `ovps predict`.
        frames: that are labelled; frames_drawn: of them, those on the page.
        left_out: frames that cannot be read, and sweeps without an image, and why.
        cache: the store of features: what it holds is not computed again.
        grid: of the store; beyond_range_share: of the points, those that stand in its border cells.
        seen_share: of the points, that some camera sees.
        unlabelled_share: of the points.
        warnings: what to know before believing the labels.
    """

    page: Path
    predictions: tuple[Path, ...]
    cache: Path
    frames: int
    frames_drawn: int
    left_out: tuple[SkippedRow, ...]
    points: int
    seen_share: float
    unlabelled_share: float
    grid: str
    beyond_range_share: float
    encoder: str
    weights_random: bool
    warnings: tuple[str, ...]

    def in_words(self) -> dict[str, object]:
        """The same for people, without the warnings."""
        left = self.frames - self.frames_drawn
        more = f", the other {left} are labelled and not drawn: --pictures {self.frames} draws all" if left else ""
        return {
            "page": f"{self.page}, {counted(self.frames_drawn, 'frame')} of {self.frames}{more}",
            "labels": list(self.predictions),
            "left out": f"{counted(len(self.left_out), 'frame')}, see the warnings" if self.left_out else "none",
            "features": f"{self.cache}, kept for the next time",
            "points": f"{self.points:,}: {self.seen_share:.1%} seen by a camera,"
            f" {self.unlabelled_share:.1%} without a label",
            "grid": f"{self.grid}, {self.beyond_range_share:.1%} of the points beyond it",
            "CLIP": f"{self.encoder}{', with random weights: labels mean nothing' if self.weights_random else ''}",
        }


class _Counts:
    """Sums over the frames of a recording.

    Attributes:
        by_entry: (E + 1,) points by row of the vocabulary, the last of them without a label; instances: (E + 1,).
        points, seen, beyond: in all, those that some camera sees, those beyond the range of the grid.
    """

    def __init__(self, entries: int) -> None:
        self.by_entry, self.instances = np.zeros(entries + 1), np.zeros(entries + 1, np.int64)
        self.points = self.seen = self.beyond = 0

    def add(self, frame: CachedFrame, entry: NDArray[np.integer], instance: NDArray[np.integer]) -> None:
        """Count a frame; `entry` and `instance` (N,) as `ovps predict` writes them."""
        rows = len(self.by_entry)
        self.by_entry += np.bincount(np.where(entry < 0, rows - 1, entry), minlength=rows)
        of = np.unique(np.stack([entry[instance > 0], instance[instance > 0]]), axis=1)[0]
        self.instances += np.bincount(of, minlength=rows)
        self.points += len(entry)
        self.seen += int((frame.views > 0).sum())
        self.beyond += frame.beyond_range

    def share(self, count: float) -> float:
        """Share of all points."""
        return float(count / max(self.points, 1))


def segment(path: Path, options: SegmentOptions) -> SegmentSummary:
    """Write the labels of a recording's points, and a page that shows them.

    Running it again with other names computes no feature again; its own predictions of before are replaced.

    Args:
        path: of a recording, or of one of its point files, of which alone labels are then made.

    Raises:
        ConfigError: the path is a URL.
        DatasetError, FrameError: no recording, or one that does not hold together: `ovps data check` says more; a
            frame that cannot be read, where such are not to be left out.
        ProvenanceError: features that are there were made with other settings, such as another occlusion.
        CheckpointError, CacheError, VocabularyError, WeightsError: see `predict` and `precompute`.
        StorageError: the disk refuses.
    """
    check_no_url(path)
    root = _recording(path.absolute())
    out = (options.out or root.with_name(f"{root.name}-segments")).absolute()
    info = _asked(options, out)
    data = datasets.at("folder", root)
    assert isinstance(data, Folder)
    subsets = data.subsets(root)
    frames = data.frames(root, data.default_version, subsets)
    chosen = [frame for frame in frames if Path(frame.points_path) == path.absolute()] if path.is_file() else frames
    unseen = {t: file for t, file in data.unseen(root).items() if not path.is_file() or file == path.absolute()}
    if not chosen and unseen:
        raise DatasetError(
            "no camera has an image of this sweep, and CLIP sees nothing without",
            path=path,
            remedy=f"Put one that is named after it into {IMAGES}/CAMERA, or name another sweep",
        )
    if not chosen:
        raise DatasetError(
            "no sweep of the recording", path=path, remedy=f"Name a file of its `{POINTS}`, or its folder {root}"
        )
    chosen, store = limited(chosen, options.limit), out / "zarr"
    tokens = frozenset(frame.token for frame in chosen)
    weights = options.weights or (RANDOM if info and info.clip.weights_random else None)
    with may_skip(options.on_error), _of_these_settings(store):
        features = PrecomputeOptions(
            dataset="folder",
            dataroot=root,
            subsets=subsets,
            out=store,
            encoder=options.encoder or (info.clip.encoder if info else defaults.ENCODER),
            weights=weights,
            grid=_grid(options, store, info, data, chosen),
            thumbnails=_THUMBNAIL,
            workers=options.workers,
            only=tuple(tokens),
            device=options.device,
            on_error=options.on_error,
        )
        if info is not None:
            _check_weights(resolved(features), info, options.run)
        computed = complete(features)
    vocabulary = out / "vocabulary.safetensors" if options.names is not None else None
    opened = Store.open(store)
    refs = [ref for ref in opened.frames if ref.token in tokens]
    there = {ref.token for ref in refs}
    left_out = tuple(record for record in computed.quarantined if record.token not in there)
    if options.limit is None:
        left_out += tuple(
            SkippedRow(token=token, kind="image", reason=f"no camera has an image of it (file {file})")
            for token, file in unseen.items()
        )
    warnings = [
        *computed.warnings,
        *(_cannot_be_read(record, record.token in there) for record in computed.quarantined),
    ]
    if vocabulary is not None:
        named = VocabularyOptions(names=options.names, cache=store, weights=weights, out=vocabulary)
        warnings += build(named).warnings
    present = [subset for subset in subsets if any(frame.subset == subset for frame in frames)]
    found = {}
    for subset in dict.fromkeys(ref.subset for ref in refs):
        folder = out / ("predictions" if len(present) == 1 else f"predictions-{subset}")
        forget(folder)
        found[subset] = predict(
            options.run, store, folder, vocabulary=vocabulary, subset=subset, only=tokens, device=options.device
        )
    return _drawn(options, out, root, opened, refs, left_out, found, vocabulary, warnings)


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


def _asked(options: SegmentOptions, out: Path) -> RunInfo | None:
    """The run, and what else can be checked before CLIP has looked at hours of images.

    Raises:
        ConfigError: a place that is not free, another encoder than that of the run, or a run that needs earlier
            sweeps.
        CheckpointError: no run, or a damaged one.
        VocabularyError: names that cannot be read.
    """
    check_free(options.out or out)
    if options.names is not None:
        read_entries(options.names)
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
    return info


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


def _drawn(
    options: SegmentOptions,
    out: Path,
    root: Path,
    store: Store,
    refs: Sequence[FrameRef],
    left_out: tuple[SkippedRow, ...],
    found: dict[str, PredictSummary],
    vocabulary: Path | None,
    warnings: list[str],
) -> SegmentSummary:
    """Count and draw what was predicted."""
    entries, known = load_vocabulary(vocabulary) if vocabulary else store.vocabulary, store.provenance
    colours = entry_colours(entries.names, None if vocabulary else store.taxonomy)
    occlusion = Occlusion.model_validate(known.occlusion) if known.occlusion else None
    count = min(options.pictures, len(refs))
    pictured = {refs[round(place)].token for place in np.linspace(0, len(refs) - 1, count)}
    counts, shown = _Counts(len(entries.names)), []
    for ref in refs:
        frame = store.read(ref)
        with np.load(labels_path(found[ref.subset].out, ref.subset, ref.token)) as labels:
            entry, instance = labels["entry"], labels["instance"]
        counts.add(frame, entry, instance)
        if ref.token in pictured:
            shown.append(draw_frame(out, frame, colours[entry], store.pictures(ref), occlusion))
        if options.ply:
            write_whole(file_of(out / PLY, ref.token, ".ply"), to_ply(_columns(frame, entry, instance, colours[entry])))
    beyond = counts.share(counts.beyond)
    warnings += [warning for summary in found.values() for warning in summary.warnings]
    if beyond > _FAR:
        warnings.append(
            f"{beyond:.0%} of the points lie beyond the range of the grid ({known.grid}) and stand in its"
            " border cells: expect no good labels there"
        )
    if options.run is None:
        warnings.append(FRAGMENTS)
    summary = SegmentSummary(
        page=out / PAGE,
        predictions=tuple(one.out for one in found.values()),
        cache=Path(store.path),
        frames=len(refs),
        frames_drawn=len(shown),
        left_out=left_out,
        points=counts.points,
        seen_share=counts.share(counts.seen),
        unlabelled_share=counts.share(counts.by_entry[-1]),
        grid=known.grid,
        beyond_range_share=beyond,
        encoder=known.encoder,
        weights_random=known.weights_random,
        warnings=tuple(dict.fromkeys(warnings)),
    )
    page = SegmentPage(
        title=root.name,
        lead=f"{counted(len(refs), 'frame')}, {counts.points:,} points: {summary.seen_share:.0%} are seen by a camera,"
        f" {summary.unlabelled_share:.0%} have no label",
        warnings=summary.warnings,
        lines=_lines(entries, counts, colours),
        frames=shown,
        facts=_facts(next(iter(found.values())), entries, summary, len(shown)),
    )
    write_page(out / PAGE, render("segment_page.html", page))
    return summary


def _lines(entries: Vocabulary, counts: _Counts, colours: NDArray[np.uint8]) -> list[Line]:
    named = [(entry.name, entry.kind) for entry in entries.entries]
    return [
        Line(name, kind, rgb(colours[row]), counts.share(counts.by_entry[row]), int(counts.instances[row]))
        for row, (name, kind) in enumerate([*named, ("unlabelled", "")])
    ]


def _columns(
    frame: CachedFrame, entry: NDArray[np.integer], instance: NDArray[np.integer], colours: NDArray[np.uint8]
) -> dict[str, NDArray]:
    """What is written of each point, as `ovps export` names it."""
    return {
        **dict(zip("xyz", frame.xyz.T.astype(np.float64), strict=True)),
        "intensity": frame.intensity,
        **dict(zip(("red", "green", "blue"), colours.T, strict=True)),
        "entry": entry.astype(np.int16),
        "instance": instance.astype(np.int32),
        "cameras": frame.views,
    }


def _facts(
    predicted: PredictSummary, entries: Vocabulary, summary: SegmentSummary, shown: int
) -> dict[str, dict[str, str]]:
    return {
        "CLIP": {
            "encoder": summary.encoder,
            "weights": "random: features mean nothing" if summary.weights_random else entries.weights_sha256[:16] + "…",
        },
        "Points": {
            "grid": summary.grid,
            "beyond its range": f"{summary.beyond_range_share:.1%}",
            "seen by a camera": f"{summary.seen_share:.1%}",
        },
        "Files": {
            "labels": ", ".join(str(folder) for folder in summary.predictions),
            "format": predicted.format,
            "frames shown": f"{shown} of {summary.frames}, evenly spaced",
        },
    }


def _recording(path: Path) -> Path:
    """The recording that a path is of: itself, or the folder above a point file that holds a calibration."""
    if not path.is_file():
        return path
    scene = path.parent.parent
    for root in (scene, scene.parent):
        try:
            if any(found.folder == scene for found in find_scenes(root)):
                return root
        except DatasetError as error:
            if root == scene.parent:
                raise DatasetError(
                    f"the point file is of no recording: {error.message}",
                    path=path,
                    remedy=f"Point files lie in RECORDING/[SCENE/]{POINTS}, beside {IMAGES}",
                ) from error
    raise DatasetError("the point file is of no recording", path=path, remedy="Name the folder of the recording")


def _grid(options: SegmentOptions, store: Path, info: RunInfo | None, data: Folder, frames: Sequence[Frame]) -> str:
    """What was asked for; else the store's, the run's, or one that fits the points of some frames."""
    if options.grid is not None:
        return options.grid
    storage = storage_of(store)
    if is_store(storage):
        return read_info(storage).provenance.grid
    if info is not None:
        return info.grid
    grid: Grid = fitting_grid(np.concatenate(_clouds(data, frames, skip=options.on_error == "skip")))
    return str(grid)


def _clouds(data: Folder, frames: Sequence[Frame], *, skip: bool) -> list[NDArray[np.float32]]:
    """The points (N, 3) of some frames, evenly spaced; others stand in for those that are skipped.

    Raises:
        FrameError: a frame that cannot be used, and is not to be skipped.
        DatasetError: no frame can be used.
    """
    count = min(_SAMPLED, len(frames))
    spread = [round(place) for place in np.linspace(0, len(frames) - 1, count)]
    found: list[NDArray[np.float32]] = []
    bad: list[str] = []
    for place in dict.fromkeys([*spread, *range(len(frames))]):
        try:
            cloud = data.points(frames[place])
            check_cloud(frames[place], cloud)
            found.append(cloud.xyz)
        except FrameError as error:
            if not skip:
                raise
            bad.append(str(error))
        if len(found) == count:
            break
    if not found:
        raise DatasetError(f"none of {counted(len(frames), 'frame')} can be used. The first: {bad[0]}")
    return found
