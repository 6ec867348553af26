"""A trained run over the frames of a cache: what `evaluate`, `predict` and `report` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch

from cache_schemas import Provenance
from ovps.batch.settings import UnlabelledFrames
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.reader import Store
from ovps.cache.remedies import relabelling
from ovps.cache.where import Where
from ovps.devices import device_of
from ovps.errors import ConfigError, listed
from ovps.inference.clip_alone import clip_alone
from ovps.inference.predict_frame import predict_frame
from ovps.inference.prediction import FramePrediction, mixed_kinds
from ovps.machine import use_own_cores
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.progress import progress
from ovps.systems.asked import check_naming
from ovps.systems.protocol import System
from ovps.taxonomy import Split, Taxonomy, load_split
from ovps.training.config import TrainConfig, default_config, dotted, load_config
from ovps.training.run import Run, load_run
from ovps.training.run_files import ANSWERS, CONFIG, RunInfo, load_settings
from ovps.vocabulary import Vocabulary, load_vocabulary, without_entries

_IN_EXPERIMENTS = "in an experiment, with data.unlabelled_frames: skip under `set`"


@dataclass(frozen=True, eq=False)
class Session:
    """A run and a cache of the same CLIP, and the vocabulary to predict with.

    Attributes:
        own_vocabulary: the vocabulary is the data set's own, as the cache has it, without what the split ignores.
        merge, classifier: the run's own unless others were asked for.
        split: which classes the scores call novel, and which they ignore; the run's own, but for a closed set, which
            was trained on all.
    """

    run: Run
    store: Store
    vocabulary: Vocabulary
    own_vocabulary: bool
    merge: MergeConfig
    classifier: ClassifierConfig
    split: Split
    device: torch.device

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes that predictions are scored by."""
        return self.split.scored(self.run.taxonomy)

    @property
    def novel(self) -> tuple[int, ...]:
        """Ids of the classes that the scores call novel."""
        return self.split.novel_ids(self.run.taxonomy)

    def warnings(self) -> list[str]:
        """Warn of what makes answers worse than they could be: lost frames, an unfinished run, other CLIP, or kinds."""
        return [
            *run_warnings(self.run, self.store),
            *self._unread(),
            *([] if self.own_vocabulary else mixed_kinds(self.vocabulary, self.taxonomy)),
        ]

    def _unread(self) -> list[str]:
        """Warn of settings that are not the run's own and that its system does not look at, in one sentence."""
        reads: tuple[str, ...] | None = getattr(self.run.system, "reads", None)
        own = {"merge": self.run.config.merge, "classifier": self.run.config.classifier}
        asked = {"merge": self.merge, "classifier": self.classifier}
        before, now = (dotted({k: v.model_dump(mode="json") for k, v in each.items()}) for each in (own, asked))
        found = [name for name in now if now[name] != before[name]]
        unread = [] if reads is None else [name for name in found if not name.startswith(reads)]
        if not unread:
            return []
        return [f"system {self.run.system.name} does not look at {', '.join(unread)}: the given values change nothing"]

    @cached_property
    def classes(self) -> ClassText:
        """Entries of the vocabulary as tensors for the run's system, on its device."""
        return self.run.classes(self.vocabulary).to(self.device)


def open_session(
    run: Path | None,
    cache: Where,
    *,
    vocabulary: Path | None = None,
    merge: MergeConfig | None = None,
    classifier: ClassifierConfig | None = None,
    split: str | Split | None = None,
    device: str | None = None,
    backend: str | None = None,
) -> Session:
    """Load a run, a cache and a vocabulary, and check that they belong together.

    Without a run the CLIP features of the cache answer by themselves.

    Args:
        split: which classes the scores call novel, and which they ignore; None: the run's own.
        device: None: a GPU if there is one.
        backend: see `ovps.training.run.load_run`.

    Raises:
        ConfigError: no such split, device or backend, or a way to name masks that the system does not have.
        CheckpointError: no run, or a damaged one.
        CacheError: no cache, or one of another CLIP than the run's.
        VocabularyError: no vocabulary, or one of another CLIP.
    """
    use_own_cores()
    place = device_of(device)
    store = Store.open(cache)
    loaded = clip_alone(store) if run is None else load_run(run, place, backend)
    loaded.check_cache(store.provenance, store.path)
    asked = load_split(split) if isinstance(split, str) else split
    by = asked.of(loaded.taxonomy) if asked else loaded.split
    own = without_entries(store.vocabulary, by.ignored)
    chosen = load_vocabulary(vocabulary) if vocabulary is not None else own
    loaded.check_vocabulary(chosen, vocabulary)
    naming = classifier or loaded.config.classifier
    check_naming(loaded.system, naming)
    return Session(
        run=loaded,
        store=store,
        vocabulary=chosen,
        own_vocabulary=vocabulary is None,
        merge=merge or loaded.config.merge,
        classifier=naming,
        split=by,
        device=place,
    )


def uses_clip(system: System, config: TrainConfig) -> bool:
    """Tell whether anything of a run comes from CLIP: its text, its features as input, or what is learned from them."""
    loss = config.loss
    return system.uses_text or config.model.fusion or any(loss.weight(t) > 0 for t in ("object", "voxel"))


def random_clip(provenance: Provenance, system: System, config: TrainConfig) -> list[str]:
    """Warn of CLIP features of random weights that a system learns or answers from, in one sentence, or none."""
    if not provenance.weights_random or not uses_clip(system, config):
        return []
    return ["random CLIP weights: labels that come from them mean nothing"]


def run_warnings(run: Run, store: Store) -> list[str]:
    """Warn of what makes answers of a run on a store worse than they could be."""
    provenance = store.provenance
    return [
        *store.warnings(),
        *run.unfinished(),
        *run.other_grid(provenance),
        *run.other_features(provenance),
        *random_clip(provenance, run.system, run.config),
    ]


def seen_in_training(info: RunInfo, frames: Sequence[FrameRef]) -> list[str]:
    """Warn of frames that a run has learned from, as where scenes went from one subset to another since."""
    known = set(info.scenes)
    found = [frame for frame in frames if frame.scene in known]
    scenes = tuple(dict.fromkeys(frame.scene for frame in found))
    return (
        [f"{len(found)} of {len(frames)} frames are of scenes that the run was trained on: {listed(scenes)}"]
        if found
        else []
    )


def inference_settings(run: Path | None, overrides: Sequence[str]) -> tuple[MergeConfig, ClassifierConfig]:
    """Read the `merge` and `classifier` settings of a run, the defaults of none, and change them by `key.sub=value`.

    Raises:
        CheckpointError: no run, or a damaged one.
        ConfigError: a setting that is not of inference, or a value that does not fit.
    """
    trained = [o for o in overrides if not f"{o.partition('=')[0]}.".startswith(ANSWERS)]
    if trained:
        raise ConfigError(
            f"{', '.join(trained)} changes what is learned",
            remedy="Set merge.* and classifier.* here, others in training",
        )
    if run is None:
        config = default_config(overrides)
        return config.merge, config.classifier
    load_settings(run)  # says so if there is none
    config = load_config(str(run / CONFIG), overrides)
    return config.merge, config.classifier


def check_classes(store: Store, taxonomy: Taxonomy) -> None:
    """Check that the labels of a store are of the classes of a run.

    Raises:
        ConfigError: they are read by another taxonomy than the run's.
    """
    if not store.taxonomy.reads_labels_as(taxonomy):
        one = f"taxonomy {store.taxonomy.name}"
        raise ConfigError(
            f"its labels are of {one if store.taxonomy.name != taxonomy.name else f'another {one}'}, and the run was"
            f" trained with classes of {taxonomy.name}: nothing can be scored",
            path=str(store.path),
            remedy="Score on a store of the data set that it was trained on, or write predictions with `ovps predict`",
        )


def labelled_frames_of(store: Store, subset: str, unlabelled: UnlabelledFrames = "error") -> list[FrameRef]:
    """List the frames of a subset that have labels.

    Args:
        unlabelled: what is done where some have none: `skip` leaves them out.

    Raises:
        ConfigError: there are none with labels, or some have none and are not to be left out; or another word.
    """
    if unlabelled not in get_args(UnlabelledFrames):
        raise ConfigError(f"unlabelled frames are {unlabelled!r}", remedy=f"One of {get_args(UnlabelledFrames)}")
    frames = store.frames_of([subset])
    without = [ref for ref in frames if not ref.labelled]
    if not without:
        return frames
    labelled = [ref for ref in frames if ref.labelled]
    if unlabelled == "error" or not labelled:
        others = f"score the others with --unlabelled-frames skip ({_IN_EXPERIMENTS}), " if labelled else ""
        raise ConfigError(
            f"{len(without)} of {len(frames)} frames of {subset} have no labels to score against",
            path=str(store.path),
            frame=without[0].token,
            remedy=f"Add their labels to the data set and run {relabelling(store.provenance)}, {others}choose another"
            " subset, or write predictions with `ovps predict`",
        )
    return labelled


def left_out(store: Store, subset: str, scored: Sequence[FrameRef]) -> list[str]:
    """Warn of the frames of a subset that are not scored, in one sentence, or none."""
    frames = store.frames_of([subset])
    count = len(frames) - len(scored)
    return [f"{count} of {len(frames)} frames of {subset} have no labels and are not scored"] if count else []


def predictions(
    session: Session, frames: Sequence[FrameRef], variants: tuple[str, ...] = (), unknown: bool = False
) -> Iterator[tuple[CachedFrame, FramePrediction]]:
    """Iterate over frames and the predictions of the run on them, with a progress bar. Arguments as `predict_frame`."""
    run = session.run
    with progress("inference", "frames", len(frames)) as counter:
        for ref in frames:
            frame = session.store.read(ref)
            batch = run.batch(frame).to(session.device)
            labels = predict_frame(
                run.system, run.network, batch, session.classes, session.merge, session.classifier, variants, unknown
            )
            yield frame, labels
            counter.advance()
