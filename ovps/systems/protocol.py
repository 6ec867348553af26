"""The contract of a system: what is trained, how it answers, what of its answer is tuned.

The built-in ones are `queries` (the method, and the paper's baseline), `closed_set`, `label_free`, `voxels`, and
`clip`, which learns nothing; another package adds one by an entry point in the group `ovps.systems` that leads to an
object like these. A YAML file of `ovps/configs/systems` names one of them (`system`) and sets what it trains with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ovps.batch.base_labels import ClassSplit
from ovps.batch.sample import Batch
from ovps.losses.config import LossConfig
from ovps.losses.total import LossTerms
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig
from ovps.model.config import ModelConfig
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import MergeConfig, Panoptic
from ovps.vocabulary import Vocabulary


@dataclass(frozen=True)
class Shape:
    """Sizes of a network that the data decide, not the config.

    Attributes:
        input_dim: channels of `VoxelBatch.features`.
        clip_dim: C.
        classes: number of classes that are trained on.
        stuff: of them, stuff classes.
    """

    input_dim: int
    clip_dim: int
    classes: int
    stuff: int


class Answer(Protocol):
    """The output of a network for one frame, before any threshold."""

    def segment(self, merge: MergeConfig) -> Panoptic:
        """Merge the answer into a class and an instance for every voxel of the frame."""
        ...

    def variant(self, name: str, merged: Panoptic, merge: MergeConfig) -> Panoptic:
        """Merge the answer in another way, one that the system lists; `merged` is what `segment` gave."""
        ...

    def unknown(self, merge: MergeConfig) -> Tensor:
        """Score each voxel by how likely it is none of the classes that were asked for, (V,) in 0..1."""
        ...

    def masks(self, merged: Panoptic, merge: MergeConfig) -> Tensor:
        """Return the masks that mask recall asks about, (Q, V) bool."""
        ...


class System(Protocol):
    """One kind of network, with its loss and its way to answer.

    Attributes:
        name: of the entry point.
        variants: further merges that `Answer.variant` makes, by name, see `ovps.evaluation.tally.VARIANTS`.
        tuning: what `ovps tune` tries: values of settings of the merge, by name.
        needs_labels: frames without labels cannot be trained on.
        learns_proposals: label-free proposals are targets; of frames whose labels are not looked at, they are of all
            voxels.
        uses_text: what it is trained on, or answers, comes from a vocabulary's embeddings.

    One that does not look at all settings of inference may have `reads`, a tuple of the beginnings of those that it
    does (`("merge.split_gap",)`): others that are given are warned of. One that cannot name masks in all ways may have
    `namings`, a tuple of the values of `classifier.classes` that it can be asked with: others are refused. Without
    either, or with None, all are taken: a subclass that answers in its own way sets its own.
    """

    name: str
    variants: tuple[str, ...]
    tuning: Mapping[str, Sequence[float]]
    needs_labels: bool
    learns_proposals: bool
    uses_text: bool

    def build(self, config: ModelConfig, shape: Shape) -> nn.Module:
        """Build a network that takes a `VoxelBatch`, its weights drawn from torch's generator."""
        ...

    def training_classes(self, vocabulary: Vocabulary, base: ClassSplit) -> ClassText:
        """Take from a vocabulary the classes that training is supervised with, in the order of `base`; none is novel.

        Raises:
            VocabularyError: a base class has no entry.
        """
        ...

    def classes(self, vocabulary: Vocabulary, trained: Sequence[str]) -> ClassText:
        """Take all entries of a vocabulary to answer with; `trained` names the classes that the run was trained on.

        Raises:
            VocabularyError: an entry that it cannot know.
        """
        ...

    def loss(
        self,
        network: nn.Module,
        outputs: Any,
        batch: Batch,
        classes: ClassText,
        mean_l1: float,
        config: LossConfig,
        reduce: Callable[[Tensor], Tensor],
    ) -> LossTerms:
        """Compute the loss of the network's outputs for a batch, in float32.

        Args:
            network: for what it learns besides its outputs, like the classifier.
            outputs: of the network.
            batch: with its targets.
            classes: as `training_classes` gave them.
            mean_l1: see `ovps.batch.statistics.ClipStatistics`.
            reduce: of normalisers over processes, see `ovps.losses.total.loss_terms`.
        """
        ...

    def answer(
        self,
        network: nn.Module,
        batch: VoxelBatch,
        classes: ClassText,
        merge: MergeConfig,
        classifier: ClassifierConfig,
    ) -> Answer:
        """Run a network, in evaluation mode, on a batch of one frame.

        Raises:
            ConfigError: a way to name masks that this system does not have.
        """
        ...

    def reads_camera(self, config: ModelConfig, classifier: ClassifierConfig, variant: str | None) -> bool:
        """Say whether the labels of a frame depend on its images, through their CLIP features."""
        ...
