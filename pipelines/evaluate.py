"""Score a run on labelled frames of a cache. Neither CLIP nor the data set is needed.

ovps eval --run runs/driveworld-ovps --cache ./zarr
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import ovps
from ovps import strict_json
from ovps.batch.settings import UnlabelledFrames
from ovps.cache.frame_data import FrameRef
from ovps.cache.object_numbers import without_numbers
from ovps.cache.where import Where
from ovps.errors import ConfigError, StorageError, faults_of
from ovps.evaluation.results import FORMAT, EvalResult, FrameScore, nothing_to_find
from ovps.evaluation.tally import VARIANTS, Tally
from ovps.evaluation.unknown import UnknownScore, UnknownTally
from ovps.files import check_writable, refusals, write_together
from ovps.files import file_sha256 as sha256_of
from ovps.inference.prediction import class_warnings
from ovps.inference.session import (
    Session,
    check_classes,
    labelled_frames_of,
    left_out,
    open_session,
    predictions,
    seen_in_training,
)
from ovps.machine import cores
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.parquet import read_parquet
from ovps.places import check_free
from ovps.shortage import faults
from ovps.systems.openscene import far_from_texts
from ovps.taxonomy import Split
from ovps.training.cache_content import content_of
from ovps.training.run import Run
from ovps.training.run_files import LAST
from ovps.versions import WROTE_IT, only_unknown, other_format
from ovps.vocabulary import digest, without_entries
from pipelines.written import WRITTEN, Written

METRICS = "metrics.json"
CLASSES = "classes.parquet"
FRAMES = "frames.parquet"
UNKNOWN = ("system", "system/seen", "clip/seen")  # scores for none of the vocabulary, see EvalResult


class UnsavedError(StorageError):
    """A disk that refuses scores, which are in `result`."""

    result: EvalResult


def evaluate(
    run: Path,
    cache: Where,
    *,
    subset: str = "val",
    vocabulary: Path | None = None,
    out: Path | None = None,
    merge: MergeConfig | None = None,
    classifier: ClassifierConfig | None = None,
    split: str | None = None,
    unknown: bool = False,
    unlabelled_frames: UnlabelledFrames | None = None,
    device: str | None = None,
    backend: str | None = None,
) -> EvalResult:
    """Panoptic quality of a run, its variants and the reference rows; written to `eval/` of the run.

    Args:
        run: folder of a training run.
        cache: a store of the same CLIP, labelled.
        subset: the data set's own split to score on.
        vocabulary: a vocabulary file whose entries are named after the data set's classes (other synonyms, further
            entries as distractors); None: the data set's own.
        out: folder for metrics.json, classes.parquet and frames.parquet; None: `RUN/eval`.
        merge, classifier: instead of the run's.
        split: which classes to call novel, instead of the run's split; for a run trained on all classes.
        unknown: score novel classes as unknown too, in a second pass with a vocabulary of the base classes.
        unlabelled_frames: `skip` scores the others; None: as the run was trained (`data.unlabelled_frames`).
        device: None: a GPU if there is one.
        backend: engine of the sparse convolutions; None: that of the training, where it is installed.

    Raises:
        CheckpointError, CacheError, VocabularyError: see `open_session`.
        ConfigError: no such subset, frames without labels, or no novel class to be unknown.
        UnsavedError: the disk refuses.
    """
    folder = out or run / "eval"
    check_free(folder)
    check_writable(folder)
    # before they are read: weights that change meanwhile are scored again, not hidden
    weights = file_sha256(run / LAST)
    session = open_session(
        run,
        cache,
        vocabulary=vocabulary,
        merge=merge,
        classifier=classifier,
        split=split,
        device=device,
        backend=backend,
    )
    check_classes(session.store, session.run.taxonomy)
    frames = labelled_frames_of(session.store, subset, unlabelled_frames or session.run.config.data.unlabelled_frames)
    content = content_of(session.store, frames)
    asked = without_novel(session) if unknown else None
    taxonomy = session.taxonomy
    novel = set(session.split.novel)
    taught, hidden = other_labels({c.name: c.name in novel for c in taxonomy.classes}, session.run)
    begin = time.perf_counter()
    tally = Tally(taxonomy, session.novel, session.vocabulary)
    for number, (frame, prediction) in enumerate(predictions(session, frames, tuple(VARIANTS))):
        tally.add(frame, prediction, number)
    summary = tally.summary()

    result = EvalResult(
        run=run.resolve().name,
        step=session.run.step,
        seed=session.run.config.seed,
        split=session.split.name,
        ignored=list(session.split.ignored),
        taxonomy=taxonomy.name,
        min_points=taxonomy.min_points,
        subset=subset,
        vocabulary=list(session.vocabulary.names),
        weights_random=session.store.provenance.weights_random,
        cache=session.store.provenance,
        inference=session.merge.model_dump(mode="json") | session.classifier.model_dump(mode="json"),
        seconds=time.perf_counter() - begin,
        machine=machine(session.device),
        versions=versions(),
        checkpoint_sha256=weights,
        vocabulary_sha256=digest(session.vocabulary),
        parameters=sum(p.numel() for p in session.run.network.parameters()),
        content=content,
        unknown=score_unknown(asked, frames) if asked else {},
        novel_taught=taught,
        base_hidden=hidden,
        warnings=[
            *class_warnings(session.vocabulary, taxonomy),
            *session.warnings(),
            *nothing_to_find(summary["system"].panoptic),
            *left_out(session.store, subset, frames),
            *without_numbers(session.store, frames),
            *seen_in_training(session.run.info, frames),
            *split_warnings(session.split, session.run.split, taught, hidden),
        ],
        **summary,
    )
    try:
        save_result(result, folder, tally.frames)
    except StorageError as error:
        unsaved = UnsavedError(error.message, path=error.path, remedy=error.remedy)
        unsaved.result = result
        raise unsaved from error
    return result


def other_labels(novel: Mapping[str, bool], run: Run) -> tuple[list[str], list[str]]:
    """Name the novel classes whose labels a run was trained with, and the base ones of which it was not.

    None of either if it was trained without any label: by which split says nothing then.

    Args:
        novel: of each class that is scored, whether it is scored as novel.
        run: with the split that it was trained by.
    """
    if not run.system.needs_labels:
        return [], []
    trained = run.split
    taught = [name for name, is_novel in novel.items() if is_novel and name not in trained.hidden]
    return taught, [name for name, is_novel in novel.items() if not is_novel and name in trained.hidden]


def split_warnings(scored: Split, trained: Split, taught: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """Warn of the classes that `other_labels` names, a sentence each."""
    by = f"split {scored.name}; the run was trained by split {trained.name}"
    warnings = [f"with labels of {', '.join(taught)}, novel in {by}"] if taught else []
    return warnings + ([f"without labels of {', '.join(hidden)}, base in {by}"] if hidden else [])


def without_novel(session: Session) -> Session:
    """A session in which novel classes are unknown: its vocabulary has no entry of theirs.

    Raises:
        ConfigError: the split has no novel class, or the vocabulary no other.
    """
    if not session.novel:
        raise ConfigError(
            f"split {session.split.name} has no novel class to be unknown", remedy="Name another with --split"
        )
    names = tuple(session.split.novel)
    if not set(session.vocabulary.names) - set(names):
        raise ConfigError(
            f"split {session.split.name} leaves no base class that an unknown one could be taken for",
            remedy="Name another with --split",
        )
    return replace(session, vocabulary=without_entries(session.vocabulary, names))


def score_unknown(asked: Session, frames: Sequence[FrameRef]) -> dict[str, dict[str, UnknownScore]]:
    """Score how well novel classes are told from base ones.

    Args:
        asked: see `without_novel`.
    """
    tallies = {name: UnknownTally(asked.novel, asked.taxonomy.min_points) for name in UNKNOWN}
    for frame, prediction in predictions(asked, frames, unknown=True):
        assert frame.label is not None
        assert prediction.unknown is not None
        semantic, instance = asked.taxonomy.true_segments(frame.label)
        by_clip = far_from_texts(torch.from_numpy(frame.clip), ClassText.of(asked.vocabulary, ()))
        scores = prediction.unknown, prediction.unknown, by_clip.numpy()[frame.point_voxel]
        for (name, tally), score in zip(tallies.items(), scores, strict=True):
            kept = frame.views > 0 if name.endswith("/seen") else slice(None)
            tally.add(score[kept], semantic[kept], instance[kept])
    return {name: tally.result() for name, tally in tallies.items()}


def file_sha256(path: Path) -> str | None:
    """Hash a file's content with SHA-256; None where there is no file."""
    return sha256_of(path) if path.is_file() else None


def save_result(result: EvalResult, folder: Path, frames: Sequence[FrameScore] = ()) -> None:
    """Write metrics.json, one line per row and class in classes.parquet, and one per frame in frames.parquet.

    metrics.json ends with the SHA-256 of its own content and of the files beside it, so that what is changed later is
    never taken for what was measured.

    Raises:
        StorageError: the disk refuses.
    """
    lines = [{"row": row.name, **c.model_dump()} for row in result.rows for c in row.panoptic.classes]
    contents = {CLASSES: _parquet(lines)} | ({FRAMES: _parquet([f.model_dump() for f in frames])} if frames else {})
    record = json.loads(strict_json.dumps(result.model_dump(mode="json")))  # as it will be read
    record[WRITTEN] = Written.of(record, contents).model_dump()
    contents[METRICS] = (strict_json.dumps(record, indent=2) + "\n").encode()
    write_together({folder / name: content for name, content in contents.items()})
    if not frames:
        with refusals(folder):
            (folder / FRAMES).unlink(missing_ok=True)  # of an evaluation before


def _parquet(lines: list[dict[str, Any]]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines), content)
    return content.getvalue()


def load_result(folder: Path, again: str = "ovps eval --run RUN --cache CACHE") -> EvalResult:
    """Read the result that `evaluate` wrote.

    Args:
        again: the command that writes it, for a remedy.

    Raises:
        ConfigError: nothing there, of another version, or changed since. Files of before digests were written are
            taken as they are.
    """
    path = folder / METRICS
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if other := other_format(record, FORMAT):
            raise ConfigError(other, path=path, remedy=WROTE_IT)
        written = Written.model_validate(record.pop(WRITTEN)) if WRITTEN in record else None
        result = EvalResult.model_validate(record)
        if written is not None:
            _check_unchanged(folder, record, written)
        return result
    except FileNotFoundError as error:
        raise ConfigError("not evaluated yet", path=path, remedy=f"Run: {again}") from error
    except faults(OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if unknown := only_unknown(error):
            raise ConfigError(unknown, path=path, remedy=f"{WROTE_IT}, or run `ovps eval` again") from error
        message = f"not an evaluation: {faults_of(error)}"
        raise ConfigError(message, path=path, remedy="Run `ovps eval` again") from error


class ChangedError(ConfigError):
    """Scores that are not those that were measured."""


def _check_unchanged(folder: Path, record: dict[str, Any], written: Written) -> None:
    changed = written.changed(folder) + [METRICS] * (not written.is_of(record))
    if changed:
        raise ChangedError(
            f"{' and '.join(changed)} changed after the evaluation: these are not the scores that were measured",
            path=folder / changed[0],
            remedy="Run `ovps eval` again",
        )


def load_frame_scores(folder: Path) -> list[FrameScore]:
    """The system's scores frame by frame; empty where an older version evaluated."""
    path = folder / FRAMES
    return [FrameScore(**line) for line in read_parquet(path).to_pylist()] if path.is_file() else []


def versions() -> dict[str, str]:
    """List the versions of the packages that the numbers depend on."""
    return {"ovps": ovps.__version__, "torch": torch.__version__, "python": platform.python_version()}


def machine(device: torch.device) -> str:
    """Name the device and the machine that this runs on, in a few words."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{platform.system()} {platform.machine()}, {cores()} cores, {torch.get_num_threads()} threads{gpu}"
