"""Label the points of cached frames with any vocabulary. Neither CLIP nor the data set is needed.

ovps predict --run runs/driveworld --cache ./zarr --out predictions
ovps predict --run runs/driveworld --cache ./zarr --out predictions --vocab vocab.safetensors
ovps predict --cache ./zarr --out predictions --vocab vocab.safetensors             # no run: CLIP's features alone
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovps.cache.frame_data import FrameRef
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.errors import ConfigError, counted
from ovps.files import refusals
from ovps.inference.formats import format_of
from ovps.inference.plain_labels import check_labels, write_labels
from ovps.inference.prediction import PointLabels, class_ids, unnamed_classes
from ovps.inference.session import Session, open_session, predictions, uses_clip
from ovps.inference.submission import leave_out
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.places import check_free
from ovps.taxonomy import Taxonomy
from ovps.training.run_files import load_settings
from ovps.vocabulary import digest, load_vocabulary
from pipelines.about import (
    ABOUT,
    BEGUN,
    Format,
    Labels,
    about_of,
    claim,
    differences,
    finish,
    name_of,
    read_about,
    training_sha256,
)
from pipelines.drives import DRIVES, first_of_scenes, hashed

FRAMES_NAMED = 8  # in a warning


@dataclass(frozen=True)
class PredictSummary:
    """Summary of `ovps predict`.

    Attributes:
        format: `submission` (`ovps.inference.formats`), or `arrays` (`ovps.inference.plain_labels`), which count the
            entries in about.json.
        unlabelled: points that no entry was given to in the files.
        left_out: by frame, instances that the submission format has no room for; their points are unlabelled.
        unnamed_classes: of the data set, after which no entry is named.
        problems: of the files, read back; empty is valid.
        encoder: the CLIP of the cache and of the vocabulary.
        weights_random: it has random weights: labels that come from it mean nothing.
        warnings: no point with a class, instances left out, random weights.
    """

    out: Path
    format: Format
    frames: int
    points: int
    unlabelled: int
    left_out: dict[str, int]
    unnamed_classes: list[str]
    problems: list[str]
    encoder: str
    weights_random: bool
    seconds: float
    warnings: list[str]


def predict(
    run: Path | None,
    cache: Where,
    out: Path,
    *,
    vocabulary: Path | None = None,
    subset: str = "val",
    only: Collection[str] | None = None,
    fill: bool = False,
    unknown: bool = False,
    merge: MergeConfig | None = None,
    classifier: ClassifierConfig | None = None,
    device: str | None = None,
    backend: str | None = None,
) -> PredictSummary:
    """Write point labels of the frames of a subset, then OUT/about.json: a folder without it is not finished.

    A folder holds one set of predictions. The same again are written over those that are there.

    Args:
        run: folder of a training run; None: points are named by the CLIP features of the cache alone, and those that no
            camera sees are not.
        cache: a store of the same CLIP; labels are not looked at.
        out: folder, made if missing.
        vocabulary: None: the data set's own classes, in the submission format that its taxonomy names, if it names one
            and is the one that the run was trained on; else plain arrays.
        only: tokens of the frames that are meant; None: all of the subset.
        fill: give points that no segment covers the nearest class, see `ovps.evaluation.tally.VARIANTS`.
        unknown: write `unknown` beside the labels, float16 in 0..1: how likely each point is none of the vocabulary.
        merge, classifier: thresholds, and where classes come from, instead of the run's.
        device: None: a GPU if there is one.
        backend: engine of the sparse convolutions; None: that of the training, where it is installed.

    Raises:
        CheckpointError, CacheError, VocabularyError: see `open_session`.
        ConfigError: no such subset or frame, `unknown` in a submission, `fill` of a run without queries or without
            text, or a folder that holds other predictions or those of another drive, a data set, a store or a run.
        StorageError: the disk refuses.
    """
    check_free(out)
    session = open_session(
        run, cache, vocabulary=vocabulary, merge=merge, classifier=classifier, device=device, backend=backend
    )
    if fill and "filled" not in session.run.system.variants:
        raise ConfigError("there are no masks with classes from text to fill with", path=run, remedy="Leave out --fill")
    frames = _chosen(session.store.frames_of([subset]), subset, only)
    taxonomy = session.run.taxonomy
    own_classes = session.own_vocabulary and session.store.taxonomy.sha256 == taxonomy.sha256
    form: Format = "submission" if own_classes and taxonomy.submission else "arrays"
    if unknown and form == "submission":
        raise ConfigError(
            "the data set's format for submissions holds no scores of the unknown",
            remedy="Give a vocabulary of your own with --vocab: labels are plain arrays then, and hold them",
        )
    begin = time.perf_counter()
    drives = hashed(session.store, first_of_scenes(frames))
    about = about_of(session, subset, fill, form, drives)
    claim(out, about, {ref.token for ref in session.store.frames})
    written = _write(session, frames, out, subset, form, fill, unknown)
    problems = _faults(out, subset, written.points, taxonomy, about, unknown)
    finish(out, about | {"left_out": written.left_out})
    return PredictSummary(
        out=out,
        format=form,
        frames=len(frames),
        points=sum(written.points.values()),
        unlabelled=written.unlabelled,
        left_out=written.left_out,
        unnamed_classes=unnamed_classes(session.vocabulary, taxonomy),
        problems=problems,
        encoder=session.vocabulary.encoder,
        weights_random=session.store.provenance.weights_random,
        seconds=time.perf_counter() - begin,
        warnings=_warnings(session, written, fill),
    )


@dataclass
class _Written:
    """What the files of frames hold: see `PredictSummary`; points by frame."""

    points: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0


def _chosen(frames: Sequence[FrameRef], subset: str, only: Collection[str] | None) -> list[FrameRef]:
    if only is None:
        return list(frames)
    wanted = frozenset(only)
    unknown = sorted(wanted - {ref.token for ref in frames})
    if unknown:
        raise ConfigError(f"subset {subset} has no frame {unknown[0]}", remedy="Name frames of the store by token")
    return [ref for ref in frames if ref.token in wanted]


def _write(
    session: Session, frames: Sequence[FrameRef], out: Path, subset: str, form: Format, fill: bool, unknown: bool
) -> _Written:
    written = _Written()
    for frame, prediction in predictions(session, frames, ("filled",) if fill else (), unknown):
        labels = prediction.variants["filled"] if fill else prediction.labels
        if form == "submission":
            missed, instances = _submit(session, out, subset, frame.token, labels)
            written.left_out |= {frame.token: instances} if instances else {}
        else:
            missed = write_labels(out, subset, frame.token, labels, prediction.unknown)
        written.points[frame.token] = len(labels.entry)
        written.unlabelled += missed
    if form == "submission":
        run_config, system = session.run.config, session.run.system
        camera = system.reads_camera(run_config.model, session.classifier, "filled" if fill else None)
        layout = format_of(session.run.taxonomy)
        layout.finish(out, subset, use_camera=camera, use_external=uses_clip(system, run_config))
    return written


def forget(predictions: Path) -> None:
    """Remove predictions that a command made for itself before: they may be of other words, and are soon made again.

    Raises:
        StorageError: the disk refuses.
    """
    if any((predictions / name).exists() for name in (ABOUT, BEGUN)):
        with refusals(predictions):
            shutil.rmtree(predictions)


def check(
    cache: Where,
    out: Path,
    *,
    subset: str = "val",
    run: Path | None = None,
    vocabulary: Path | None = None,
    fill: bool = False,
    unknown: bool = False,
    merge: MergeConfig | None = None,
    classifier: ClassifierConfig | None = None,
) -> list[str]:
    """List the faults of predictions: their files are read, and compared with the frames of a subset of the cache.

    What their format is stands in OUT/about.json. Without one they are taken for a submission that another program
    wrote.

    Args:
        subset, run, vocabulary, fill, unknown, merge, classifier: as for `predict`; whatever is given here is what they
            were made with, or a fault.

    Raises:
        CacheError: no cache, or a damaged one.
        ConfigError: no such subset, or predictions in a format that the data set does not have.
        VocabularyError: no vocabulary, or a damaged one.
        StorageError: the disk refuses.
    """
    store = Store.open(cache)
    store.frames_of([subset])  # says so if there are none
    rows = (row for partition in read_manifests(store.storage) for row in partition.frames)
    points = {row.token: row.points for row in rows if row.subset == subset}
    asked: dict[str, Any] = {"subset": subset}
    if run is not None:
        asked |= {"run": name_of(run), "training_sha256": training_sha256(*load_settings(run))}
    if vocabulary is not None:
        asked |= {"format": "arrays", "vocabulary_sha256": digest(load_vocabulary(vocabulary))}
    if fill:
        asked["filled"] = True
    if unknown:
        asked["format"] = "arrays"  # alone holds it
    asked |= {name: s.model_dump(mode="json") for name, s in (("merge", merge), ("classifier", classifier)) if s}
    if (out / BEGUN).exists():
        return [f"{BEGUN}: they are not finished: run the same `ovps predict` again without --check"]
    try:
        about = read_about(out)
    except ConfigError as error:
        return [f"{ABOUT}: {error.message}: {error.remedy}"]
    if about is None and (store.taxonomy.submission is None or "format" in asked or (out / "labels" / subset).is_dir()):
        return [f"{ABOUT}: no such file, without which plain arrays have no meaning: put it back, or predict anew"]
    if about is not None:
        for section in asked.keys() & {"merge", "classifier"}:  # an earlier version had not all of their settings
            if isinstance(known := about.get(section), dict):
                asked[section] = {name: value for name, value in asked[section].items() if name in known}
    if about is not None:
        drives = Labels.model_validate(about).drives
        asked[DRIVES] = hashed(store, (ref for ref in store.frames if ref.token in drives))
    if about is not None and (found := differences(about, asked)):
        return [f"{ABOUT}: {difference}: check with what was predicted with" for difference in found]
    return _faults(out, subset, points, store.taxonomy, about, unknown)


def _faults(
    out: Path, subset: str, points: Mapping[str, int], taxonomy: Taxonomy, about: dict[str, Any] | None, unknown: bool
) -> list[str]:
    """Of files that are read back; without an about.json, of a submission."""
    labels = None if about is None else Labels.model_validate(about)
    if labels is not None and labels.format == "arrays":
        return check_labels(out, subset, points, labels.entries, unknown=unknown)
    return format_of(taxonomy).check(out, subset, points, taxonomy)


def _submit(session: Session, out: Path, subset: str, token: str, labels: PointLabels) -> tuple[int, int]:
    """Write a frame; points without a label, and instances left out of it."""
    taxonomy = session.run.taxonomy
    layout, predicted = format_of(taxonomy), class_ids(session.vocabulary, taxonomy)[labels.entry]
    semantic, left_out = leave_out(predicted, labels.instance, taxonomy, layout.instances)
    return layout.write(out, subset, token, semantic, labels.instance, taxonomy), left_out


def _warnings(session: Session, written: _Written, fill: bool) -> list[str]:
    warnings, left_out = session.warnings(), written.left_out
    if written.unlabelled == sum(written.points.values()):
        warnings.append("no point has a class: the run finds nothing here; train it longer, or lower merge.score")
    elif fill and written.unlabelled:
        warnings.append(
            f"{counted(written.unlabelled, 'point')} cannot be filled: no mask of the run covers them, and no camera"
            " sees them" + ("; among them those of instances that are left out" if left_out else "")
        )
    if left_out:
        room = format_of(session.run.taxonomy).instances
        frames = [f"{token}: {count}" for token, count in left_out.items()]
        more = f" and {len(frames) - FRAMES_NAMED} more frames" if len(frames) > FRAMES_NAMED else ""
        warnings.append(
            f"{sum(left_out.values())} instances are left unlabelled, the smallest of each class beyond the"
            f" {room} that the format holds in a frame ({', '.join(frames[:FRAMES_NAMED])}{more});"
            " a vocabulary of your own writes plain arrays, which hold all"
        )
    return warnings
