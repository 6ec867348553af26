"""Label the points of cached frames with any vocabulary. Neither CLIP nor the data set is needed.

ovps predict --run runs/driveworld --cache ./zarr --out predictions
ovps predict --run runs/driveworld --cache ./zarr --out predictions --vocab vocab.safetensors
ovps predict --cache ./zarr --out predictions --vocab vocab.safetensors             # no run: CLIP's features alone
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.where import Where
from ovps.errors import ConfigError
from ovps.files import refusals, write_whole
from ovps.inference.formats import format_of
from ovps.inference.prediction import PointLabels, class_ids, named_classes, unnamed_classes
from ovps.inference.session import Session, frames_of, open_session, predictions
from ovps.inference.submission import leave_out, save_arrays
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.places import check_free
from ovps.shortage import faults
from ovps.systems.protocol import System
from ovps.training.config import TrainConfig
from ovps.vocabulary import digest

ABOUT = "about.json"
BEGUN = "unfinished.json"  # what about.json will be, as long as frames are missing
MAY_DIFFER = ("step", "left_out")  # in about.json: a run that was trained on replaces its own predictions
FRAMES_NAMED = 8  # in a warning

Format = Literal["submission", "arrays"]


@dataclass(frozen=True)
class PredictSummary:
    """Summary of `ovps predict`.

    Attributes:
        format: `submission` (`ovps.inference.formats`), or `arrays`: OUT/labels/SUBSET/TOKEN.npz with `entry` (N,)
            int32, row of the entries in about.json, -1 unlabelled, and `instance` (N,) int32, 0 for stuff.
        unlabelled: points that no entry was given to in the files.
        left_out: by frame, instances that the submission format has no room for; their points are unlabelled.
        unnamed_classes: of the data set, after which no entry is named.
        problems: of the submission, read back; empty is valid.
        encoder: the CLIP of the cache and of the vocabulary.
        weights_random: it has random weights: labels that come from it mean nothing.
        warnings: instances left out, random weights.
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
        ConfigError: no such subset, `unknown` in a submission, `fill` of a run without queries or without text, or a
            folder that holds other predictions, a data set, a store or a run.
        StorageError: the disk refuses.
    """
    check_free(out)
    session = open_session(
        run, cache, vocabulary=vocabulary, merge=merge, classifier=classifier, device=device, backend=backend
    )
    if fill and "filled" not in session.run.system.variants:
        raise ConfigError("there are no masks with classes from text to fill with", path=run, remedy="Leave out --fill")
    frames = [ref for ref in frames_of(session.store, subset) if only is None or ref.token in only]
    taxonomy = session.run.taxonomy
    own_classes = session.own_vocabulary and session.store.taxonomy.sha256 == taxonomy.sha256
    form: Format = "submission" if own_classes and taxonomy.submission else "arrays"
    if unknown and form == "submission":
        raise ConfigError(
            "the data set's format for submissions holds no scores of the unknown",
            remedy="Give a vocabulary of your own with --vocab: labels are plain arrays then, and hold them",
        )
    begin = time.perf_counter()
    about = _about(session, subset, fill, form)
    _claim(out, about)
    points, unlabelled = {}, 0
    left_out: dict[str, int] = {}
    for frame, prediction in predictions(session, frames, ("filled",) if fill else (), unknown):
        labels = prediction.variants["filled"] if fill else prediction.labels
        if form == "submission":
            missed, instances = _submit(session, out, subset, frame.token, labels)
            left_out |= {frame.token: instances} if instances else {}
        else:
            missed = _save(out, subset, frame.token, labels, prediction.unknown)
        points[frame.token] = len(labels.entry)
        unlabelled += missed
    problems = []
    if form == "submission":
        layout = format_of(taxonomy)
        run_config, system = session.run.config, session.run.system
        camera = system.reads_camera(run_config.model, session.classifier, "filled" if fill else None)
        layout.finish(out, subset, use_camera=camera, use_external=uses_clip(system, run_config))
        problems = layout.check(out, subset, points, taxonomy)
    write_whole(out / ABOUT, _json(about | {"left_out": left_out}))
    with refusals(out):
        (out / BEGUN).unlink(missing_ok=True)
    return PredictSummary(
        out=out,
        format=form,
        frames=len(frames),
        points=sum(points.values()),
        unlabelled=unlabelled,
        left_out=left_out,
        unnamed_classes=unnamed_classes(session.vocabulary, taxonomy),
        problems=problems,
        encoder=session.vocabulary.encoder,
        weights_random=session.store.provenance.weights_random,
        seconds=time.perf_counter() - begin,
        warnings=_warnings(session, left_out),
    )


def forget(predictions: Path) -> None:
    """Remove predictions that a command made for itself before: they may be of other words, and are soon made again.

    Raises:
        StorageError: the disk refuses.
    """
    if any((predictions / name).exists() for name in (ABOUT, BEGUN)):
        with refusals(predictions):
            shutil.rmtree(predictions)


def check(cache: Where, out: Path, *, subset: str = "val") -> list[str]:
    """List the faults of a submission: its files are read, and compared with the frames of a subset of the cache.

    Raises:
        CacheError: no cache, or a damaged one.
        ConfigError: no such subset, or its data set has no format for submissions.
    """
    store = Store.open(cache)
    frames_of(store, subset)  # says so if there are none
    rows = (row for partition in read_manifests(store.storage) for row in partition.frames)
    points = {row.token: row.points for row in rows if row.subset == subset}
    return format_of(store.taxonomy).check(out, subset, points, store.taxonomy)


def uses_clip(system: System, config: TrainConfig) -> bool:
    """Tell whether anything of a run comes from CLIP: its text, its features as input, or what is learned from them."""
    loss = config.loss
    return system.uses_text or config.model.fusion or any(loss.weight(t) > 0 for t in ("object", "voxel"))


def _submit(session: Session, out: Path, subset: str, token: str, labels: PointLabels) -> tuple[int, int]:
    """Write a frame; points without a label, and instances left out of it."""
    taxonomy = session.run.taxonomy
    layout, predicted = format_of(taxonomy), class_ids(session.vocabulary, taxonomy)[labels.entry]
    semantic, left_out = leave_out(predicted, labels.instance, taxonomy, layout.instances)
    return layout.write(out, subset, token, semantic, labels.instance, taxonomy), left_out


def _save(out: Path, subset: str, token: str, labels: PointLabels, unknown: NDArray[np.float32] | None) -> int:
    """Write a frame; points without a label."""
    path = out / "labels" / subset / f"{token}.npz"
    scores = {} if unknown is None else {"unknown": unknown.astype(np.float16)}
    save_arrays(path, entry=labels.entry.astype(np.int32), instance=labels.instance.astype(np.int32), **scores)
    return int((labels.entry < 0).sum())


def _claim(out: Path, about: dict[str, Any]) -> None:
    """Mark a folder as that of the predictions that begin, unless it holds others: labels do not say what they mean."""
    remedy = "Give another --out, or delete the folder"
    for name in (ABOUT, BEGUN):
        path = out / name
        with refusals(out):
            if not path.exists():
                continue
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key, value in about.items() if key not in MAY_DIFFER and there.get(key) != value]
        except faults(OSError, ValueError, AttributeError) as error:
            raise ConfigError(f"not what `ovps predict` writes: {error}", path=path, remedy=remedy) from error
        if differing:
            raise ConfigError(
                f"the folder holds other predictions: {', '.join(_difference(k, there, about) for k in differing)}",
                path=out,
                remedy=remedy,
            )
    write_whole(out / BEGUN, _json(about))
    with refusals(out):
        (out / ABOUT).unlink(missing_ok=True)


def _difference(key: str, there: dict[str, Any], now: dict[str, Any]) -> str:
    old, new = there.get(key), now[key]
    plain = all(isinstance(value, str | bool | int) for value in (old, new))
    return f"{key} {old} there, {new} now" if plain else f"other {key}"


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _about(session: Session, subset: str, fill: bool, form: Format) -> dict[str, Any]:
    """What the labels are and where they come from."""
    taxonomy = session.run.taxonomy
    classes = named_classes(session.vocabulary, taxonomy)
    return {
        "format": form,
        "entries": [
            {"name": e.name, "kind": e.kind, "synonyms": list(e.synonyms), "class": c.name if c else None}
            for e, c in zip(session.vocabulary.entries, classes, strict=True)
        ],
        "unlabelled": -1 if form == "arrays" else 0,
        "left_out": {},
        "taxonomy": taxonomy.name,
        "unnamed_classes": unnamed_classes(session.vocabulary, taxonomy),
        "subset": subset,
        "filled": fill,
        "run": session.run.path.resolve().name,
        "step": session.run.step,
        "encoder": session.vocabulary.encoder,
        "weights_sha256": session.vocabulary.weights_sha256,
        "weights_random": session.store.provenance.weights_random,
        "vocabulary_sha256": digest(session.vocabulary),
        "merge": session.merge.model_dump(mode="json"),
        "classifier": session.classifier.model_dump(mode="json"),
    }


def _warnings(session: Session, left_out: dict[str, int]) -> list[str]:
    warnings = []
    if left_out:
        room = format_of(session.run.taxonomy).instances
        frames = [f"{token}: {count}" for token, count in left_out.items()]
        more = f" and {len(frames) - FRAMES_NAMED} more frames" if len(frames) > FRAMES_NAMED else ""
        warnings.append(
            f"{sum(left_out.values())} instances are left unlabelled, the smallest of each class beyond the"
            f" {room} that the format holds in a frame ({', '.join(frames[:FRAMES_NAMED])}{more});"
            " a vocabulary of your own writes plain arrays, which hold all"
        )
    if session.store.provenance.weights_random and uses_clip(session.run.system, session.run.config):
        warnings.append("random CLIP weights: the labels mean nothing")
    return warnings
