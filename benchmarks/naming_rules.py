"""PQ of one run under every naming rule, the network run once a frame; with noise on its CLIP features too (reference).

Novel scores are in view and choose nothing. What may choose is the last column: classes hidden from among the base
ones. A third of them in turn is called novel, which is all that a rule learns of a class, and the true novel ones take
no part: no entry of the vocabulary, their points void. The network *was* trained on what is hidden so, which favours
the head. With --split they are hidden from training, too: a split whose `novel` are base classes that the run did not
see, and whose `ignored` are the true novel ones.

python -m benchmarks.naming_rules runs/driveworld/ovps-b10n6-s0-... zarr/driveworld --noise 0,0.5,1 --hide-every 4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray

from ovps.errors import ConfigError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import HARMONIC, PanopticResult, panoptic_result
from ovps.inference.prediction import class_ids
from ovps.inference.session import Session, labelled_frames_of, open_session
from ovps.model.class_text import ClassText
from ovps.model.classify import ClassifierConfig, class_cosines
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import merge
from ovps.systems.naming import name_masks
from ovps.systems.queries import SYSTEM, mask_evidence
from ovps.taxonomy import Split, Taxonomy
from ovps.vocabulary import without_entries

FOLDS = 3  # parts of the base classes that are hidden in turn
Scores = tuple[list[dict[str, PanopticResult]], float]  # of each scope by rule; share of points that CLIP names rightly
CUBE = 4.0  # metres within which noise is alike, as a wrong view of CLIP's is
GROUPS = ("all", "base", "novel/things", "novel/stuff")
RULES: Mapping[str, Mapping[str, Any]] = {
    "unified head": {},
    "unified, base logits - 0.5": {"base_shift": 0.5},
    "unified, base logits - 1": {"base_shift": 1.0},
    "ensemble": {"classes": "ensemble"},
    "ensemble, certainty 0.5": {"classes": "ensemble", "certainty": 0.5},
    "pooled CLIP alone": {"classes": "ensemble", "base_weight": 1.0, "novel_weight": 1.0},
    "per mask": {"classes": "per_mask", "margin": 0.0},
    "per mask, margin 0.02": {"classes": "per_mask", "margin": 0.02},
    "per mask, margin 0.05": {"classes": "per_mask", "margin": 0.05},
    "per mask, margin 0.1": {"classes": "per_mask", "margin": 0.1},
    "per mask, certainty 0.5": {"classes": "per_mask", "margin": 0.0, "certainty": 0.5},
}


def noisy(batch: VoxelBatch, level: float, seed: int) -> VoxelBatch:
    """Add to the unit features of a frame a random vector of length `level`, one for each cube, and normalise again."""
    if not level:
        return batch
    cube, row = np.unique(np.floor(batch.position.numpy() / CUBE).astype(np.int64), axis=0, return_inverse=True)
    drawn = np.random.default_rng(seed).standard_normal((len(cube), batch.clip.shape[1]), np.float32)
    noise = F.normalize(torch.from_numpy(drawn), dim=1)[torch.from_numpy(row.reshape(-1))]
    clip = F.normalize(batch.clip + level * noise, dim=1)
    return replace(batch, clip=torch.where(batch.clip_valid[:, None], clip, 0.0))


@dataclass(frozen=True, eq=False)
class Scope:
    """What a rule is asked and scored by.

    Attributes:
        split: whose novel classes are novel, and whose ignored ones take no part.
        taxonomy: of the classes that are scored.
        class_of: class ids by entry.
        classes: entries of the vocabulary; trained on are those that the rule may know.
    """

    split: Split
    taxonomy: Taxonomy
    class_of: NDArray[np.int64]
    classes: ClassText


def scope(session: Session, split: Split, trained: Sequence[str]) -> Scope:
    """Ask for all classes of a split but its ignored ones, of which `trained` are known."""
    taxonomy, run = split.scored(session.run.taxonomy), session.run
    vocabulary = without_entries(session.vocabulary, split.ignored)
    return Scope(split, taxonomy, class_ids(vocabulary, taxonomy), run.system.classes(vocabulary, trained))


def folds(session: Session) -> list[Scope]:
    """Hide every third base class, three times, so that each is hidden once; true novel classes are ignored."""
    base = [session.run.taxonomy.by_id[i].name for i in session.split.base_ids(session.run.taxonomy)]
    found = []
    for number in range(FOLDS):
        hidden = tuple(base[number::FOLDS])
        split = Split(name=f"hidden {number}", novel=hidden, ignored=session.split.hidden)
        found.append(scope(session, split, [name for name in base if name not in hidden]))
    return found


@torch.inference_mode()
def scored(session: Session, subset: str, level: float, every: int, scopes: Sequence[Scope]) -> Scores:
    """Score every rule in every scope on every so many-th frame, and say how often CLIP alone is right."""
    run = session.run
    if run.system.name != SYSTEM.name:
        raise ConfigError("this run has no queries named by text", remedy="Name a run of ovps, pfc or their ablations")
    counts = [{rule: PanopticCounts.empty() for rule in RULES} for _ in scopes]
    right = labelled = 0
    for number, ref in list(enumerate(labelled_frames_of(session.store, subset)))[::every]:
        frame = session.store.read(ref)
        assert frame.label is not None
        batch = noisy(run.batch(frame), level, number)
        points = batch.point_voxel.numpy()
        output = run.network(batch)[-1]
        for asked, count in zip(scopes, counts, strict=True):
            semantic, instance = asked.taxonomy.true_segments(frame.label)
            evidence = mask_evidence(run.network, output, batch, asked.classes, session.merge)
            for rule, changes in RULES.items():
                probability = name_masks(evidence, _config(session, changes))
                answer = merge(
                    probability, output.mask_logits[0], asked.classes.is_thing, batch.position, session.merge
                )
                entry, thing = (x.numpy()[points] for x in (answer.voxel_class, answer.voxel_instance))
                least = asked.taxonomy.min_points
                count[rule].add(semantic, instance, asked.class_of[entry], thing, min_points=least)
        first, (semantic, _) = scopes[0], scopes[0].taxonomy.decode(frame.label)
        seen = batch.clip_valid.numpy()[points] & (semantic > 0)
        nearest = first.class_of[class_cosines(batch.clip, first.classes).argmax(1).numpy()[points]]
        right, labelled = right + int((nearest == semantic)[seen].sum()), labelled + int(seen.sum())
    results = [
        {rule: panoptic_result(c, asked.taxonomy, asked.split.novel_ids(asked.taxonomy)) for rule, c in count.items()}
        for asked, count in zip(scopes, counts, strict=True)
    ]
    return results, right / max(labelled, 1)


def _config(session: Session, changes: Mapping[str, Any]) -> ClassifierConfig:
    return session.classifier.model_copy(update={"classes": "unified", **changes})


def cells(result: PanopticResult) -> list[float]:
    """PQ in percent of each of GROUPS, and the harmonic mean of base and novel."""
    return [100 * (result.score(group, "pq") or 0.0) for group in (*GROUPS, HARMONIC)]


def main(
    run: Annotated[Path, typer.Argument(help="Of a system with queries.")],
    cache: Annotated[Path, typer.Argument(help="It was trained on.")],
    subset: Annotated[str, typer.Option(help="Frames to score.")] = "val",
    split: Annotated[str | None, typer.Option(help="Which classes to call novel, and which to ignore.")] = None,
    noise: Annotated[str, typer.Option(help="Lengths of the noise, comma-separated; features have length 1.")] = "0",
    every: Annotated[int, typer.Option(min=1, help="Score every so many-th frame.")] = 1,
    hide_every: Annotated[int, typer.Option(min=0, help="The same where classes are hidden; 0: hide none.")] = 0,
) -> None:
    session = open_session(run, cache, split=split, device="cpu")
    whole = scope(session, session.split, session.run.info.classes.names)
    print(f"{run.name}, {session.split.name}, {subset}: PQ in percent; harmonic and hidden are hPQ, base with novel\n")
    print("| noise | CLIP right on | rule | all | base | novel things | novel stuff | harmonic | hidden |")
    print("|---" * 9 + "|", flush=True)
    for level in map(float, noise.split(",")):
        (results,), accuracy = scored(session, subset, level, every, [whole])
        hidden = scored(session, subset, level, hide_every, folds(session))[0] if hide_every else []
        for rule, result in results.items():
            chosen = [fold[rule].score(HARMONIC, "pq") or 0.0 for fold in hidden]
            last = f"{100 * fmean(chosen):.1f}" if chosen else "-"
            numbers = " | ".join([*(f"{x:.1f}" for x in cells(result)), last])
            print(f"| {level:g} | {100 * accuracy:.0f} % | {rule} | {numbers} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
