"""Questions to a system, with a look at what it gives: another package may bring it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.errors import CheckpointError, ConfigError, SetupError
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import MergeConfig, Panoptic
from ovps.plugins import misgiven
from ovps.protocols import described, unlike
from ovps.systems.protocol import Answer, System
from ovps.vocabulary import Vocabulary

_NAN = "Go on from a checkpoint before: copy a step_N.pt of the run in the place of last.pt; or train it again"


def training_classes(system: System, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
    """The classes that a system is trained with, see `System.training_classes`.

    Raises:
        VocabularyError: a base class has no entry.
        SetupError: the system gives something else.
    """
    found = _text(system, "training_classes", system.training_classes(vocabulary, base))
    if not system.needs_labels:
        return found
    if found.is_thing.tolist() != base.is_thing.tolist():
        fault = f"{len(found)} classes that are not the {len(base.names)} base classes in their order"
        raise misgiven("system", system, "training_classes", fault, SetupError)
    if system.uses_text:
        _check_texts(system, found, vocabulary, base)
    return found


def _check_texts(system: System, found: ClassText, vocabulary: Vocabulary, base: ClassSplit) -> None:
    """Raise SetupError if a base class is given the text of another entry: a novel one's would be taught from."""
    entries: dict[bytes, set[str]] = {}  # by embedding: two may have one
    for row, entry in zip(vocabulary.embeddings, vocabulary.class_index, strict=True):
        entries.setdefault(row.tobytes(), set()).add(vocabulary.names[entry])
    for row, number in zip(found.text.numpy(), found.class_index.tolist(), strict=True):
        name, of = base.names[number], entries.get(row.tobytes())
        if of and name not in of:
            fault = f"the text of {', '.join(sorted(of))} as that of {name}"
            raise misgiven("system", system, "training_classes", fault, SetupError)


def classes(system: System, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
    """The classes that a system answers with, see `System.classes`.

    Raises:
        VocabularyError: an entry that it cannot know.
        SetupError: the system gives something else.
    """
    found = _text(system, "classes", system.classes(vocabulary, trained))
    if found.is_thing.tolist() != vocabulary.is_thing.tolist():
        fault = f"{len(found)} classes that are not the {len(vocabulary.names)} entries of the vocabulary in order"
        raise misgiven("system", system, "classes", fault, SetupError)
    return found


def check_naming(system: System, classifier: ClassifierConfig) -> None:
    """Check that a system can name masks as it is asked to.

    Raises:
        ConfigError: it cannot.
    """
    ways: tuple[str, ...] | None = getattr(system, "namings", None)
    if ways is not None and classifier.classes not in ways:
        raise ConfigError(
            f"system {system.name} cannot name masks by classifier.classes={classifier.classes}",
            remedy=f"Set classifier.classes={' or '.join(ways)}",
        )


def answer(
    system: System,
    network: nn.Module,
    batch: VoxelBatch,
    classes: ClassText,
    merge: MergeConfig,
    classifier: ClassifierConfig,
) -> Answer:
    """The answer of a system for a batch of one frame, see `System.answer`.

    Raises:
        ConfigError: a way to name masks that this system does not have.
        SetupError: the system gives something else.
        CheckpointError: NaN.
    """
    check_naming(system, classifier)
    found: Any = system.answer(network, batch, classes, merge, classifier)
    fault = unlike(found, Answer)
    if fault:
        raise misgiven("system", system, "answer", f"{described(found)}, which {fault[0]}", SetupError)
    features = getattr(found, "features", None)  # of voxels, where it has some
    if isinstance(features, Tensor) and len(features) != len(batch.coords):
        others = f"features of {len(features)} voxels, expected {len(batch.coords)}"
        raise misgiven("system", system, "answer", others, SetupError)
    if any(
        isinstance(x, Tensor) and x.is_floating_point() and x.isnan().any()
        for x in getattr(found, "__dict__", {}).values()
    ):
        raise CheckpointError("the network answers with NaN", remedy=_NAN)
    return found


def segmented(system: System, found: Answer, merge: MergeConfig, batch: VoxelBatch, classes: ClassText) -> Panoptic:
    """The panoptic labels of an answer for all V voxels of its frame, see `Answer.segment`.

    Args:
        batch, classes: that the answer is to.

    Raises:
        SetupError: the answer gives something else.
    """
    return _labels(system, found.segment(merge), batch, classes)


def variant(
    system: System,
    found: Answer,
    name: str,
    merged: Panoptic,
    merge: MergeConfig,
    batch: VoxelBatch,
    classes: ClassText,
) -> Panoptic:
    """A variant of the panoptic labels of an answer, see `Answer.variant`.

    Raises:
        SetupError: the answer gives something else.
    """
    return _labels(system, found.variant(name, merged, merge), batch, classes)


def _labels(system: System, merged: Any, batch: VoxelBatch, classes: ClassText) -> Panoptic:
    if not isinstance(merged, Panoptic):
        raise misgiven("system", system, "answer", f"one that segments into {described(merged)}", SetupError)
    voxels = len(batch.coords)
    for name, labels in vars(merged).items():
        if not isinstance(labels, Tensor) or labels.shape != (voxels,) or labels.is_floating_point():
            fault = f"one with {name} {described(labels)}, expected ({voxels},) int64"
            raise misgiven("system", system, "answer", fault, SetupError)
    least, most = (int(x) for x in merged.voxel_class.aminmax()) if voxels else (-1, -1)
    if least < -1 or most >= len(classes):
        fault = f"one with voxel_class {least} to {most}, expected -1 to {len(classes) - 1}"
        raise misgiven("system", system, "answer", fault, SetupError)
    return merged


def _text(system: System, method: str, given: Any) -> ClassText:
    if not isinstance(given, ClassText):
        raise misgiven("system", system, method, f"{described(given)}, expected ClassText", SetupError)
    return given
