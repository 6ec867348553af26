"""One job: train a run, unless it is trained, and score it for each of its systems, unless that is done.

Runs in this process, or in one of its own (`pipelines.experiment.queue`). Never touches CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovps import systems
from ovps.batch.loader import training_frames
from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.cache.writer import is_store
from ovps.errors import CheckpointError, ConfigError, command
from ovps.evaluation.results import EvalResult
from ovps.progress import say
from ovps.taxonomy import load_split
from ovps.training.cache_content import content_of, load_content
from ovps.training.files import exclusive
from ovps.training.run import last_checkpoint
from ovps.training.run_files import LAST, load_settings
from ovps.vocabulary import Vocabulary, digest, first_synonyms, save_vocabulary, without_entries
from pipelines.evaluate import ChangedError, evaluate, file_sha256, load_frame_scores, load_result
from pipelines.experiment.trainings import Evaluation, Training
from pipelines.train import check_same, plan, resolve, train

VOCABULARY = "vocabulary.safetensors"

BEGIN_ANEW = "Delete the run's folder to have it trained again, or name another folder under `runs` in the experiment"

Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Job:
    """A training with its evaluations, as a worker process is given it.

    Attributes:
        threads: of torch and MinkowskiEngine, instead of the config's.
    """

    training: Training
    threads: int | None = None

    @property
    def as_trained(self) -> Training:
        """The training with the number of threads among its settings."""
        if self.threads is None:
            return self.training
        overrides = (*self.training.overrides, f"threads={self.threads}")
        return self.training.model_copy(update={"overrides": overrides})


def do(job: Job, stage: Stage) -> None:
    """Train and score.

    Args:
        stage: entered with the command that a step stands for.

    Raises:
        OvpsError: whatever stops it. Doing it again goes on there.
    """
    training = job.as_trained
    if (training.run / LAST).is_file():
        config = resolve(training.options)
        with _trained_anew(training.run):
            check_same(training.run, config, plan(Store.open(training.cache), config)[1], BEGIN_ANEW)
    if not trained(training.run):
        with stage(training.command), _trained_anew(training.run, "--restart"):
            train(training.options)
    for evaluation in [e for e in training.evaluations if found(training, e) is None]:
        with exclusive(training.run), stage(evaluation_command(training, evaluation)):
            _evaluate(training, evaluation)


def total_steps(training: Training) -> int:
    """Steps of the whole training."""
    return plan(Store.open(training.cache), resolve(training.options))[1].total_steps


def trained(run: Path) -> bool:
    """Tell whether a run has reached its last step; raise CheckpointError if what is there is damaged."""
    return (run / LAST).is_file() and steps_of(run) >= load_settings(run)[1].total_steps


def steps_of(run: Path) -> int:
    """Read how far a run has come; raise CheckpointError if what is there is damaged."""
    if not (run / LAST).is_file():
        return 0
    with _trained_anew(run):
        config, info = load_settings(run)
        return last_checkpoint(run, config, info).step


@contextmanager
def _trained_anew(run: Path, instead_of: str = "") -> Iterator[None]:
    """Say of a damaged run how the experiment trains it again: `ovps train` would be asked for all of its settings.

    Args:
        instead_of: what a remedy names that is replaced; others stay.
    """
    try:
        yield
    except CheckpointError as error:
        if instead_of not in (error.remedy or ""):
            raise
        remedy = f"Restore it, or delete the run, which the experiment then trains again: {command('rm', '-r', run)}"
        raise CheckpointError(error.message, path=error.path, remedy=remedy) from error


def found(training: Training, evaluation: Evaluation) -> EvalResult | None:
    """The evaluation, if it is there and of these weights, frames, labels, this split, vocabulary and inference.

    Raises:
        ConfigError: it may not be read.
    """
    try:
        result = load_result(training.folder(evaluation))
    except ChangedError as error:
        say(f"{error.message} (file {error.path}); scored again")
        return None
    except ConfigError as error:
        if error.unreadable:  # scores that are there and closed are not scored again
            raise
        return None  # not evaluated, or by another version
    weights = file_sha256(training.run / LAST)
    if weights is None or not is_store(storage_of(training.cache)):
        return None
    store = Store.open(training.cache)
    split = load_split(evaluation.split)
    every = resolve(training.options).data.unlabelled_frames == "error"
    frames = [ref for ref in store.frames_of([evaluation.subset]) if every or ref.labelled]
    scored = [frame.token for frame in load_frame_scores(training.folder(evaluation))]
    if scored and scored != [ref.token for ref in frames]:
        return None
    if result.content.renewed(content_of(store, frames)) if result.content else _has_changed(training, store):
        return None
    wanted = {
        "checkpoint_sha256": weights,
        "vocabulary_sha256": digest(vocabulary_of(store, evaluation)),
        "cache": store.provenance,
        "subset": evaluation.subset,
        "frames": len(frames),
        "inference": evaluation.merge.model_dump(mode="json") | evaluation.classifier.model_dump(mode="json"),
        "split": split.name,
        "novel": frozenset(split.novel_ids(store.taxonomy)),
        "ignored": list(split.ignored),
    }
    return result if all(getattr(result, name) == value for name, value in wanted.items()) else None


def vocabulary_of(store: Store, evaluation: Evaluation) -> Vocabulary:
    """Choose the vocabulary of an evaluation: the store's own, or the first synonym of each class."""
    known = without_entries(store.vocabulary, load_split(evaluation.split).ignored)
    return known if evaluation.vocabulary == "own" else first_synonyms(known)


def _evaluate(training: Training, evaluation: Evaluation) -> EvalResult:
    folder = training.folder(evaluation)
    file = None
    if evaluation.vocabulary != "own":
        file = folder / VOCABULARY
        save_vocabulary(vocabulary_of(Store.open(training.cache), evaluation), file)
    return evaluate(
        training.run,
        training.cache,
        subset=evaluation.subset,
        vocabulary=file,
        out=folder,
        merge=evaluation.merge,
        classifier=evaluation.classifier,
        split=evaluation.split,
    )


def _has_changed(training: Training, store: Store) -> bool:
    """Tell whether a store holds other labels or features than a run began to learn from.

    An evaluation of an earlier version does not say what it is of: then it may be of what was there before.
    """
    before, config = load_content(training.run), resolve(training.options)
    if before is None:
        return False
    unlabelled = config.data.unlabelled_frames if systems.get(config.system).needs_labels else "use"
    return bool(before.renewed(content_of(store, training_frames(store, config.data.subsets, unlabelled))))


def evaluation_command(training: Training, evaluation: Evaluation) -> str:
    """Write the command line for the same scores. Names the inference settings that differ from the run's own."""
    own, _ = load_settings(training.run)
    sets = [
        f"{section}.{name}={value}"
        for section, wanted in (("merge", evaluation.merge), ("classifier", evaluation.classifier))
        for name, value in wanted.model_dump(mode="json").items()
        if value != getattr(own, section).model_dump(mode="json")[name]
    ]
    folder = training.folder(evaluation)
    vocabulary = ("--vocab", folder / VOCABULARY) if evaluation.vocabulary != "own" else ()
    subset = ("--subset", evaluation.subset) if evaluation.subset != "val" else ()
    what = ("--run", training.run, "--cache", training.cache, "--split", evaluation.split, *subset, *vocabulary)
    return command("ovps", "eval", *what, *(word for s in sets for word in ("--set", s)), "--out", folder)
