"""Label the points of cached frames with any vocabulary. Neither CLIP nor the data set is needed.

ovps predict --run runs/driveworld --cache ./zarr --out predictions
ovps predict --run runs/driveworld --cache ./zarr --out predictions --vocab vocab.safetensors
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ovps.errors import ConfigError, StorageError
from ovps.evaluation.inference import variants_of
from ovps.evaluation.prediction import PointLabels, class_ids
from ovps.evaluation.submission import check_submission, encode, save_arrays, write_labels, write_meta
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from pipelines.inference import Session, frames_of, open_session, predictions

ABOUT = "about.json"


@dataclass(frozen=True)
class PredictSummary:
    """What was written.

    Attributes:
        format: `submission` (`ovps.evaluation.submission`), or `arrays`: OUT/labels/SUBSET/TOKEN.npz with `entry` (N,)
            int16, row of the entries in about.json, -1 unlabelled, and `instance` (N,) int32, 0 for stuff.
        unlabelled: points that no entry was given to.
        problems: of the submission, read back; empty is valid.
        weights_random: the CLIP of the cache has random weights: the labels mean nothing.
    """

    out: Path
    format: Literal["submission", "arrays"]
    frames: int
    points: int
    unlabelled: int
    problems: list[str]
    weights_random: bool
    seconds: float


def predict(
    run: Path,
    cache: Path,
    out: Path,
    *,
    vocabulary: Path | None = None,
    subset: str = "val",
    fill: bool = False,
    merge: MergeConfig | None = None,
    classifier: ClassifierConfig | None = None,
    device: str | None = None,
) -> PredictSummary:
    """Write point labels of every frame of a subset.

    Args:
        run: folder of a training run.
        cache: a store of the same CLIP; labels are not looked at.
        out: folder, made if missing.
        vocabulary: None: the data set's own classes, in nuScenes' submission format; else plain arrays.
        fill: give points that no segment covers the nearest class, see `ovps.evaluation.tally.VARIANTS`.
        merge, classifier: thresholds, and where classes come from, instead of the run's.
        device: None: a GPU if there is one.

    Raises:
        CheckpointError, CacheError, VocabularyError: see `open_session`.
        ConfigError: no such subset, more instances than the submission format holds, or `fill` of a run without queries
            or without text.
        StorageError: the disk refuses.
    """
    session = open_session(run, cache, vocabulary=vocabulary, merge=merge, classifier=classifier, device=device)
    if fill and "filled" not in variants_of(session.run.network):
        raise ConfigError(
            "this run has no masks with classes from text to fill with", path=str(run), remedy="Leave out --fill"
        )
    frames = frames_of(session.store, subset)
    begin = time.perf_counter()
    points, unlabelled = {}, 0
    for frame, prediction in predictions(session, frames, ("filled",) if fill else ()):
        labels = prediction.variants["filled"] if fill else prediction.labels
        _write(session, out, subset, frame.token, labels)
        points[frame.token] = len(labels.entry)
        unlabelled += int((labels.entry < 0).sum())
    _write_about(session, out, subset, fill)
    problems = []
    if session.own_vocabulary:
        write_meta(out, subset, use_camera=True)
        problems = check_submission(out, subset, points, session.run.taxonomy)
    return PredictSummary(
        out=out,
        format="submission" if session.own_vocabulary else "arrays",
        frames=len(frames),
        points=sum(points.values()),
        unlabelled=unlabelled,
        problems=problems,
        weights_random=session.store.provenance.weights_random,
        seconds=time.perf_counter() - begin,
    )


def _write(session: Session, out: Path, subset: str, token: str, labels: PointLabels) -> None:
    if session.own_vocabulary:
        semantic = class_ids(session.vocabulary, session.run.taxonomy)[labels.entry]
        write_labels(out, subset, token, encode(semantic, labels.instance, session.run.taxonomy, frame=token))
    else:
        path = out / "labels" / subset / f"{token}.npz"
        save_arrays(path, entry=labels.entry.astype(np.int16), instance=labels.instance.astype(np.int32))


def _write_about(session: Session, out: Path, subset: str, fill: bool) -> None:
    """What the labels are and where they come from, beside them."""
    about = {
        "entries": [{"name": e.name, "kind": e.kind, "synonyms": e.synonyms} for e in session.vocabulary.entries],
        "unlabelled": -1,
        "subset": subset,
        "filled": fill,
        "run": str(session.run.path),
        "step": session.run.step,
        "encoder": session.vocabulary.encoder,
        "weights_sha256": session.vocabulary.weights_sha256,
        "weights_random": session.store.provenance.weights_random,
        "merge": session.merge.model_dump(mode="json"),
        "classifier": session.classifier.model_dump(mode="json"),
    }
    try:
        (out / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write: {error}", path=out / ABOUT, remedy="Make room, or choose another --out"
        ) from error
