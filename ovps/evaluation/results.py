"""Results of an evaluation, as models that become JSON. All scores are fractions in 0..1; tables print percent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from statistics import fmean, harmonic_mean
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel, computed_field, model_validator

from cache_schemas import Provenance
from ovps.errors import ConfigError, counted, listed
from ovps.evaluation.mask_recall import RecallCounts
from ovps.evaluation.panoptic_quality import PanopticCounts, class_iou
from ovps.evaluation.unknown import UnknownScore
from ovps.model.classify import ClassifierConfig
from ovps.model.panoptic import MergeConfig
from ovps.taxonomy import Kind, Split, Taxonomy
from ovps.training.cache_content import CacheContent

# `all`, `base`, `novel`, and each of them over things and over stuff alone.
GROUPS = tuple("/".join(filter(None, parts)) for parts in product(("all", "base", "novel"), ("", "things", "stuff")))
HARMONIC = "harmonic"  # no group of classes: the harmonic mean of base and novel, as hPQ and hIoU

T = TypeVar("T")


FORMAT = "ovps-eval-1"


class _Model(BaseModel, frozen=True, extra="forbid"):
    """A part of a result: nobody changes it, and no field is unknown."""


class ClassScore(_Model):
    """The scores of one class. `segments` are the true ones: those found, and those missed of `min_points`."""

    id: int
    name: str
    kind: Kind
    novel: bool
    pq: float
    sq: float
    rq: float
    iou: float
    tp: float  # float, because reference rows are means over seeds
    fp: float
    fn: float
    points: int

    @property
    def segments(self) -> float:
        return self.tp + self.fn


class GroupScore(_Model):
    """Means over the classes of a group: over all of them as the devkit does, and over those in the ground truth."""

    classes: int
    present: int
    pq: float
    sq: float
    rq: float
    pq_dagger: float
    miou: float
    pq_present: float | None
    miou_present: float | None


class PanopticResult(_Model):
    """PQ and IoU of one system. Groups without a class (novel, where all classes are base) are left out."""

    frames: int
    classes: list[ClassScore]
    groups: dict[str, GroupScore]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def harmonic(self) -> dict[str, float | None]:
        """Harmonic means of base and novel: `pq` is hPQ, `miou` hIoU [Xian et al. 2017]; empty without novel classes.

        2 b n / (b + n): as low as the lower of the two where the other is bought with it. PLA and RegionPLC rank by
        hIoU.
        """
        return {name: self.score(HARMONIC, name) for name in ("pq", "miou")} if HARMONIC in self.columns else {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Groups that have a class, in the order of GROUPS, and HARMONIC where base and novel have."""
        there = tuple(g for g in GROUPS if g in self.groups)
        return (*there, HARMONIC) if {"base", "novel"} <= set(there) else there

    def score(self, group: str, name: str) -> float | None:
        """Look up a field of GroupScore, of a group or HARMONIC; None where it has no value, or the group no class."""
        if group == HARMONIC:
            return harmonic(self.score("base", name), self.score("novel", name))
        return getattr(self.groups[group], name) if group in self.groups else None

    @model_validator(mode="before")
    @classmethod
    def _computed_again(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if k != HARMONIC} if isinstance(values, dict) else values


def harmonic(base: float | None, novel: float | None) -> float | None:
    """Compute the harmonic mean of the scores of base and novel classes; None unless there are both.

    >>> round(harmonic(0.6, 0.3), 3)
    0.4
    """
    return None if base is None or novel is None else float(harmonic_mean((base, novel)))


class GroupRecall(_Model):
    """Share of the true segments of a group, or a class, that some mask covers."""

    segments: int
    found: int
    recall: float | None  # None: no segment


class RecallResult(_Model):
    """Mask recall at IoU 0.5, pooled over the segments of each group."""

    classes: dict[str, GroupRecall]
    groups: dict[str, GroupRecall]

    def score(self, group: str) -> float | None:
        """Look up the recall of a group, or of HARMONIC; None where there is no segment."""
        if group == HARMONIC:
            return harmonic(self.score("base"), self.score("novel"))
        return self.groups[group].recall if group in self.groups else None


def _groups(items: Iterable[T], kind: Callable[[T], Kind], novel: Callable[[T], bool]) -> dict[str, list[T]]:
    """The items of each of GROUPS; empty groups are left out."""
    groups: dict[str, list[T]] = {g: [] for g in GROUPS}
    for item in items:
        for group in ("all", "novel" if novel(item) else "base"):
            groups[group].append(item)
            groups[f"{group}/{'things' if kind(item) == 'thing' else 'stuff'}"].append(item)
    return {g: members for g, members in groups.items() if members}


def _group_score(scores: list[ClassScore]) -> GroupScore:
    present = [s for s in scores if s.points]
    return GroupScore(
        classes=len(scores),
        present=len(present),
        pq=fmean(s.pq for s in scores),
        sq=fmean(s.sq for s in scores),
        rq=fmean(s.rq for s in scores),
        pq_dagger=fmean(s.pq if s.kind == "thing" else s.iou for s in scores),
        miou=fmean(s.iou for s in scores),
        pq_present=fmean(s.pq for s in present) if present else None,
        miou_present=fmean(s.iou for s in present) if present else None,
    )


def panoptic_result(counts: PanopticCounts, taxonomy: Taxonomy, novel: Iterable[int]) -> PanopticResult:
    """Turn counts into scores per class and per group; `novel` are class ids."""
    novel_ids = set(novel)
    pq, sq, rq, iou = counts.per_class()
    scores = [
        ClassScore(
            id=c.id,
            name=c.name,
            kind=c.kind,
            novel=c.id in novel_ids,
            pq=float(pq[c.id]),
            sq=float(sq[c.id]),
            rq=float(rq[c.id]),
            iou=float(iou[c.id]),
            tp=float(counts.tp[c.id]),
            fp=float(counts.fp[c.id]),
            fn=float(counts.fn[c.id]),
            points=int(counts.confusion[c.id].sum()),
        )
        for c in taxonomy.classes
    ]
    return PanopticResult(frames=counts.frames, classes=scores, groups=_group_results(scores))


def _group_results(scores: list[ClassScore]) -> dict[str, GroupScore]:
    grouped = _groups(scores, lambda s: s.kind, lambda s: s.novel)
    return {g: _group_score(members) for g, members in grouped.items()}


def nothing_to_find(result: PanopticResult) -> list[str]:
    """Warn of groups of which no class has a point in the ground truth: their scores are 0 whatever is predicted."""
    empty = [name for name in ("all", "base", "novel") if name in result.groups and not result.groups[name].present]
    frames = counted(result.frames, "frame")
    if "all" in empty:
        return [
            f"no point of {frames} is labelled as one of {len(result.classes)} classes, and scores of 0 say nothing:"
            " look whether the taxonomy names the raw classes of these labels"
        ]
    return [
        f"no point of {frames} is labelled as a {name} class"
        f" ({listed(c.name for c in result.classes if c.novel == (name == 'novel'))}), and {name} scores of 0 say"
        " nothing: score more frames, or by another split"
        for name in empty
    ]


def mean_result(results: list[PanopticResult]) -> PanopticResult:
    """Average runs on the same frames (seeds), class by class; groups are means of those."""
    scores = []
    for same_class in zip(*(r.classes for r in results), strict=True):
        means = {f: fmean(getattr(s, f) for s in same_class) for f in ("pq", "sq", "rq", "iou", "tp", "fp", "fn")}
        scores.append(same_class[0].model_copy(update=means))
    return PanopticResult(frames=results[0].frames, classes=scores, groups=_group_results(scores))


def recall_result(counts: RecallCounts, taxonomy: Taxonomy, novel: Iterable[int]) -> RecallResult:
    """Turn counts into recall per class, and pooled per group."""
    novel_ids = set(novel)

    def share(ids: list[int]) -> GroupRecall:
        segments, found = int(counts.segments[ids].sum()), int(counts.found[ids].sum())
        return GroupRecall(segments=segments, found=found, recall=found / segments if segments else None)

    grouped = _groups(taxonomy.classes, lambda c: c.kind, lambda c: c.id in novel_ids)
    return RecallResult(
        classes={c.name: share([c.id]) for c in taxonomy.classes},
        groups={g: share([c.id for c in members]) for g, members in grouped.items()},
    )


def miou_result(points: NDArray, taxonomy: Taxonomy, novel: Iterable[int]) -> dict[str, float | None]:
    """Compute mIoU per group of a confusion (256, 256), over the classes that occur in its ground truth.

    For parts of the points (that a camera sees, and others), where a class may well not occur at all.
    """
    novel_ids = set(novel)
    iou = class_iou(points)
    occurs = points.sum(1) > 0
    grouped = _groups(taxonomy.classes, lambda c: c.kind, lambda c: c.id in novel_ids)
    present = {g: [float(iou[c.id]) for c in members if occurs[c.id]] for g, members in grouped.items()}
    return {g: fmean(values) if values else None for g, values in present.items()}


class FrameScore(_Model):
    """PQ of the system on one frame, over the base or novel classes of which the frame has a segment; None: none."""

    token: str
    scene: str
    index: int
    base: float | None
    novel: float | None


def frame_pq(counts: PanopticCounts, ids: Iterable[int]) -> float | None:
    """Average PQ over those of the classes `ids` that have a true segment in `counts`; None if none of them has."""
    pq = counts.per_class()[0]
    return mean_or_none(float(pq[i]) for i in ids if counts.tp[i] + counts.fn[i])


def mean_or_none(values: Iterable[float]) -> float | None:
    """Average some values; None if there are none."""
    found = list(values)
    return fmean(found) if found else None


class Row(_Model):
    """One line of the table: the system, a variant of it, or a reference."""

    name: str
    description: str
    panoptic: PanopticResult
    instances: bool = True  # False: no instances are predicted, PQ says something about stuff only

    def score(self, group: str, name: str) -> float | None:
        """Look up a field of GroupScore, of a group or HARMONIC; None where it says nothing about this row."""
        whole = self.instances or name not in ("pq", "sq", "rq", "pq_dagger", "pq_present") or group.endswith("/stuff")
        return self.panoptic.score(group, name) if whole else None


class EvalResult(_Model):
    """Everything one evaluation found, as written to `eval/metrics.json`.

    Attributes:
        ignored: names of classes that the split leaves out: their points do not count.
        weights_random: the CLIP behind the cache has random weights: nothing here says anything about the method.
        system: the run, as its inference settings say.
        variants: the same run with one setting changed.
        references: what its numbers are to be compared with.
        mask_recall: `queries` (any query's mask, before the merge), `merged` (segments after it), `proposals` (these
            and the clusters of the variant), each also over the points that a camera sees (`/seen`) and the others
            (`/unseen`).
        miou: over the points that a camera sees (`seen`), and the others (`unseen`), by group.
        parts: the run on the points that a camera sees (`seen`), and the others (`unseen`); empty in evaluations of
            older versions.
        seen_points: share of the labelled points that a camera sees.
        checkpoint_sha256, vocabulary_sha256: of the weights' file, and of the vocabulary
            (`ovps.vocabulary.digest`); None in evaluations of older versions, as is `parameters`.
        parameters: of the network.
        content: of the files that hold the frames which were scored; None in evaluations of older versions.
        unknown: how well novel classes are told from base ones by a score for "none of the vocabulary" where it has
            only the base ones, over `points` and `segments`: `system`, the same on the points that a camera sees
            (`system/seen`), and those by their F_clip alone (`clip/seen`); empty unless asked for.
        novel_taught, base_hidden: where it was scored by another split than it was trained with: names of novel classes
            whose labels it was trained with, and of base classes whose labels it was not.
        warnings: what of vocabulary, split and run does not fit, a sentence each.
    """

    format: str = FORMAT
    run: str
    step: int
    seed: int
    split: str
    ignored: list[str] = []
    taxonomy: str
    min_points: int
    subset: str
    frames: int
    vocabulary: list[str]
    weights_random: bool
    cache: Provenance
    inference: dict[str, Any]
    system: Row
    variants: list[Row]
    references: list[Row]
    parts: list[Row] = []
    mask_recall: dict[str, RecallResult]
    miou: dict[str, dict[str, float | None]]
    seen_points: float
    seconds: float
    machine: str
    versions: dict[str, str]
    checkpoint_sha256: str | None = None
    vocabulary_sha256: str | None = None
    parameters: int | None = None
    content: CacheContent | None = None
    unknown: dict[str, dict[str, UnknownScore]] = {}
    novel_taught: list[str] = []
    base_hidden: list[str] = []
    warnings: list[str] = []

    @property
    def novel(self) -> frozenset[int]:
        """Ids of the classes that the scores call novel."""
        return frozenset(c.id for c in self.system.panoptic.classes if c.novel)

    @property
    def rows(self) -> list[Row]:
        return [self.system, *self.variants, *self.parts, *self.references]


def settings_of(result: EvalResult, folder: Path) -> tuple[MergeConfig, ClassifierConfig]:
    """Read back the inference settings that an evaluation was made with.

    Args:
        folder: that it was read from, for the error.

    Raises:
        ConfigError: an earlier version made it, which had not all of them: today's would not give its scores.
    """
    known = result.inference
    missing = [name for config in (MergeConfig, ClassifierConfig) for name in config.model_fields if name not in known]
    if missing:
        raise ConfigError(
            f"its scores are of an earlier ovps, which knew nothing of {listed(missing)}",
            path=folder,
            remedy="Evaluate again, by the same `ovps eval`",
        )
    merge, classifier = ({name: known[name] for name in c.model_fields} for c in (MergeConfig, ClassifierConfig))
    return MergeConfig(**merge), ClassifierConfig(**classifier)


def split_of(result: EvalResult) -> Split:
    """Return the split that an evaluation scored by, which may be another than the run's own."""
    return Split(
        name=result.split,
        taxonomy=result.taxonomy,
        novel=tuple(c.name for c in result.system.panoptic.classes if c.novel),
        ignored=tuple(result.ignored),
    )


def describe_inference(result: EvalResult) -> str:
    """Describe, for people, the thresholds and the naming of masks that an evaluation was made with."""
    return ", ".join(f"{k} {v}" for k, v in result.inference.items() if not isinstance(v, dict))
