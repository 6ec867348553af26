"""PQ of one run where masks of things are scored by how well they fit too: by the truth (bound), and as was learned.

The class probabilities of a mask that is named a thing are multiplied by a score of the mask. *True*: its IoU with the
segment that it fits best, novel ones included, which no head could know better. *Learned*: what a small network says
after training on that IoU, of masks of the training frames. It sees labels of base classes alone: a mask most of which
is unlabelled then is left out. It reads numbers of the mask, none of a class: how sure, how large, how far away, how
sharp its border, how it fits the cluster that it fits best, how much of it other masks claim.

python -m benchmarks.mask_scores runs/driveworld/ovps-b12n4-s0-... zarr/driveworld
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks.naming_rules import GROUPS, Scope, cells, scope
from ovps.cache.frame_data import CachedFrame
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import HARMONIC, panoptic_result
from ovps.inference.session import Session, labelled_frames_of, open_session
from ovps.model.inputs import LayerOutput, VoxelBatch
from ovps.model.masks import mask_probability
from ovps.model.panoptic import merge
from ovps.systems.naming import name_masks
from ovps.systems.queries import mask_evidence

EPOCHS, RATE, WIDTH = 400, 3e-3, 64
HELD_OUT = 5  # every so many-th frame to learn from says when to stop
LABELLED = 0.5  # of a mask's points: fewer, and base labels do not say how well it fits
SURE = (0.7, 0.3)  # probabilities: the area within the first over that within the second is how sharp a border is

# probabilities of entries (Q, E), a score of masks (Q, 1), and the merge's bar for probabilities -> probabilities
RULES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "times the score": lambda p, score, bar: p * score,
    "times its root": lambda p, score, bar: p * score.sqrt(),
    "where masks meet": lambda p, score, bar: torch.where(p >= bar, bar + (1 - bar) * p * score, 0.0),  # drops none
    "nothing under a half": lambda p, score, bar: p * (score > 0.5),
}


@dataclass(frozen=True, eq=False)
class Masks:
    """The Q masks of one frame.

    Attributes:
        probability: (Q, E), of entries.
        inside: (Q, N) bool, over points.
        facts: (Q, F) float32, numbers that say nothing of a class.
        asked: (Q,) bool, which the merge takes for a thing: sure enough, and not empty.
    """

    frame: CachedFrame
    batch: VoxelBatch
    output: LayerOutput
    probability: Tensor
    inside: Tensor
    facts: Tensor
    asked: Tensor


def masks_of(session: Session, asked: Scope, frame: CachedFrame) -> Masks:
    """Run the network on a frame."""
    batch = session.run.batch(frame)
    output = session.run.network(batch)[-1]
    evidence = mask_evidence(session.run.network, output, batch, asked.classes, session.merge)
    probability = name_masks(evidence, session.classifier)
    masks = mask_probability(output.mask_logits[0], session.merge.masks)
    best, label = probability.max(dim=1)
    facts = facts_of(masks, best, batch, session.merge.mask)
    inside = (masks >= session.merge.mask)[:, batch.point_voxel]
    taken = asked.classes.is_thing[label] & (best >= session.merge.score) & inside.any(dim=1)
    return Masks(frame, batch, output, probability, inside, facts, taken)


def facts_of(masks: Tensor, best: Tensor, batch: VoxelBatch, bar: float) -> Tensor:
    """Describe masks (Q, V) by numbers, (Q, 9); an empty one has zeros for what it lacks.

    Args:
        best: (Q,), the largest probability of an entry.
        bar: probability from which on a voxel belongs to a mask.
    """
    inside = (masks >= bar).float()
    size = inside.sum(dim=1)
    centre = inside @ batch.position / size.clamp(min=1)[:, None]
    spread = (inside @ batch.position.square() / size.clamp(min=1)[:, None] - centre.square()).clamp(min=0).sum(dim=1)
    sharp = (masks >= SURE[0]).sum(dim=1) / (masks >= SURE[1]).sum(dim=1).clamp(min=1)
    won = (inside * (best[:, None] * masks == (best[:, None] * masks).amax(dim=0))).sum(dim=1) / size.clamp(min=1)
    fits, covered = _with_clusters(inside, batch.cluster)
    mean = (inside * masks).sum(dim=1) / size.clamp(min=1)
    return torch.stack([best, size.log1p(), centre.norm(dim=1), spread.sqrt(), sharp, won, mean, fits, covered], dim=1)


def _with_clusters(inside: Tensor, cluster: Tensor | None) -> tuple[Tensor, Tensor]:
    """IoU with the cluster that a mask fits best, and the part of the mask that it covers, each (Q,)."""
    if cluster is None or int(cluster.max()) < 0:
        return torch.zeros(len(inside)), torch.zeros(len(inside))
    members = F.one_hot(cluster + 1)[:, 1:].float()
    both, size = inside @ members, inside.sum(dim=1, keepdim=True)
    iou, row = (both / (size + members.sum(dim=0) - both).clamp(min=1)).max(dim=1)
    return iou, both.gather(1, row[:, None])[:, 0] / size[:, 0].clamp(min=1)


def fit_of(masks: Masks, asked: Scope, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Compare masks with the segments of some classes: IoU with the best of them, and the labelled part, each (Q,)."""
    assert masks.frame.label is not None
    semantic, instance = (torch.from_numpy(x.astype(np.int64)) for x in asked.taxonomy.true_segments(masks.frame.label))
    known = torch.isin(semantic, torch.tensor(classes))
    _, segment = torch.unique(torch.stack([semantic, instance])[:, known], dim=1, return_inverse=True)
    inside, size = masks.inside.float(), masks.inside.sum(dim=1)
    labelled = inside[:, known].sum(dim=1) / size.clamp(min=1)
    if not len(segment):
        return torch.zeros(len(size)), labelled
    members = F.one_hot(segment).float()
    both = inside[:, known] @ members
    # what is not labelled may be anything: it is no part of the union
    union = inside[:, known].sum(dim=1, keepdim=True) + members.sum(dim=0) - both
    return (both / union.clamp(min=1)).amax(dim=1), labelled


class Scorer(nn.Module):
    """A small network from facts of masks (Q, F) to a score (Q,) between 0 and 1."""

    def __init__(self, facts: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", facts.mean(dim=0))
        self.register_buffer("std", facts.std(dim=0).clamp(min=1e-6))
        width = facts.shape[1]
        self.layers = nn.Sequential(
            *(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))
        )

    def forward(self, facts: Tensor) -> Tensor:
        """Score masks."""
        return self.layers((facts - self.mean) / self.std)[:, 0].sigmoid()


def learned(facts: Tensor, fit: Tensor, frame: Tensor, seed: int) -> Scorer:
    """Train a network on facts of masks (M, F) and how well they fit (M,), as long as it helps on frames held out.

    Args:
        frame: (M,) int64, number of the frame that a mask is of.
    """
    torch.manual_seed(seed)
    out = frame % HELD_OUT == 0
    scorer = Scorer(facts[~out])
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=RATE)
    best, kept = float("inf"), scorer.state_dict()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.binary_cross_entropy(scorer(facts[~out]), fit[~out]).backward()
        optimizer.step()
        with torch.no_grad():
            loss = float(F.binary_cross_entropy(scorer(facts[out]), fit[out]))
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in scorer.state_dict().items()}
    scorer.load_state_dict(kept)
    return scorer.eval()


def examples(session: Session, asked: Scope, subset: str, every: int) -> tuple[Tensor, Tensor, Tensor]:
    """Facts (M, F), fits (M,) and frames (M,) of masks that the merge takes for a thing, by labels of base classes."""
    base = session.split.base_ids(session.run.taxonomy)
    facts, fits, frames = [], [], []
    for number, ref in enumerate(labelled_frames_of(session.store, subset)[::every]):
        masks = masks_of(session, asked, session.store.read(ref))
        fit, labelled = fit_of(masks, asked, base)
        use = masks.asked & (labelled >= LABELLED)
        facts.append(masks.facts[use])
        fits.append(fit[use])
        frames.append(torch.full_like(fit[use], number, dtype=torch.int64))
    return torch.cat(facts), torch.cat(fits), torch.cat(frames)


@torch.no_grad()
def main(
    run: Annotated[Path, typer.Argument(help="Of a system with queries.")],
    cache: Annotated[Path, typer.Argument(help="It was trained on.")],
    learn_every: Annotated[int, typer.Option(min=1, help="Learn from every so many-th training frame.")] = 2,
    every: Annotated[int, typer.Option(min=1, help="Score every so many-th validation frame.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the small network.")] = 0,
) -> None:
    session = open_session(run, cache, device="cpu")
    asked = scope(session, session.split, session.run.info.classes.names)
    facts, fit, frame = examples(session, asked, "train", learn_every)
    with torch.enable_grad():
        scorer = learned(facts, fit, frame, seed)
    error, spread = (scorer(facts) - fit).abs().mean(), (fit - fit.mean()).abs().mean()
    print(f"{len(fit):,} masks to learn from, mean IoU {fit.mean():.2f} ± {spread:.2f}; error there {error:.2f}")
    names = ("as it is", *(f"{kind}, {name}" for kind in ("true", "learned") for name in RULES))
    counts = {name: PanopticCounts.empty() for name in names}
    classes = sorted(asked.taxonomy.by_id)
    errors = []
    for ref in labelled_frames_of(session.store, "val")[::every]:
        masks = masks_of(session, asked, session.store.read(ref))
        true, _ = fit_of(masks, asked, classes)
        guessed = scorer(masks.facts)
        errors.append(torch.stack([true, guessed])[:, masks.asked])
        answers = {"as it is": masks.probability}
        for kind, score in (("true", true), ("learned", guessed)):
            kept = torch.where(masks.asked, score, 1.0)[:, None]
            answers |= {
                f"{kind}, {name}": rule(masks.probability, kept, session.merge.score) for name, rule in RULES.items()
            }
        for name, probability in answers.items():
            _add(counts[name], session, asked, masks, probability)
    true, guessed = torch.cat(errors, dim=1)
    spread = (true - true.mean()).abs().mean()
    print(f"validation frames: mean IoU {true.mean():.2f} ± {spread:.2f}, error {(true - guessed).abs().mean():.2f}\n")
    print(f"| | {' | '.join((*GROUPS, HARMONIC))} |")
    print("|---" * (len(GROUPS) + 2) + "|")
    for name, count in counts.items():
        result = panoptic_result(count, asked.taxonomy, asked.split.novel_ids(asked.taxonomy))
        print(f"| {name} | {' | '.join(f'{x:.1f}' for x in cells(result))} |", flush=True)


def _add(count: PanopticCounts, session: Session, asked: Scope, masks: Masks, probability: Tensor) -> None:
    assert masks.frame.label is not None
    answer = merge(
        probability, masks.output.mask_logits[0], asked.classes.is_thing, masks.batch.position, session.merge
    )
    points = masks.batch.point_voxel
    entry, thing = (x[points].numpy() for x in (answer.voxel_class, answer.voxel_instance))
    semantic, instance = asked.taxonomy.true_segments(masks.frame.label)
    count.add(semantic, instance, asked.class_of[entry], thing, min_points=asked.taxonomy.min_points)


if __name__ == "__main__":
    typer.run(main)
