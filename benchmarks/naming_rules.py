"""PQ of one run under every naming rule, the network run once a frame; with noise on its CLIP features too (reference).

No question of speed, and no choice of a setting: novel scores are in view. All frames of a subset.

python -m benchmarks.naming_rules runs/driveworld/ovps-b10n6-s0-... zarr/driveworld --noise 0,0.5,1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer

from ovps.batch.voxels import frame_batch
from ovps.errors import ConfigError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import HARMONIC, PanopticResult, panoptic_result
from ovps.inference.prediction import class_ids
from ovps.inference.session import Session, labelled_frames_of, open_session
from ovps.model.classify import class_cosines
from ovps.model.inputs import VoxelBatch
from ovps.model.panoptic import merge
from ovps.systems.naming import name_masks
from ovps.systems.queries import SYSTEM, mask_evidence

CUBE = 4.0  # metres within which noise is alike, as a wrong view of CLIP's is
GROUPS = ("all", "base", "novel/things", "novel/stuff")
RULES: Mapping[str, Mapping[str, Any]] = {
    "unified head": {},
    "unified, base logits - 0.5": {"base_shift": 0.5},
    "unified, base logits - 1": {"base_shift": 1.0},
    "ensemble": {"classes": "ensemble"},
    "ensemble, certainty 0.5": {"classes": "ensemble", "certainty": 0.5},
    "pooled CLIP alone": {"classes": "ensemble", "base_weight": 1.0, "novel_weight": 1.0},
    "per mask": {"classes": "per_mask"},
    "per mask, margin 0.02": {"classes": "per_mask", "margin": 0.02},
    "per mask, margin 0.05": {"classes": "per_mask", "margin": 0.05},
    "per mask, margin 0.1": {"classes": "per_mask", "margin": 0.1},
    "per mask, certainty 0.5": {"classes": "per_mask", "certainty": 0.5},
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


@torch.inference_mode()
def scored(session: Session, subset: str, level: float) -> tuple[dict[str, PanopticResult], float]:
    """Score every rule, and say how often the nearest text of a voxel's feature is its point's class."""
    run, taxonomy = session.run, session.taxonomy
    if run.system.name != SYSTEM.name:
        raise ConfigError("this run has no queries named by text", remedy="Name a run of ovps, pfc or their ablations")
    class_of = class_ids(session.vocabulary, taxonomy)
    counts = {rule: PanopticCounts.empty() for rule in RULES}
    right = labelled = 0
    for number, ref in enumerate(labelled_frames_of(session.store, subset)):
        frame = session.store.read(ref)
        assert frame.label is not None
        semantic, instance = taxonomy.decode(frame.label)
        batch = noisy(frame_batch(frame, run.grid), level, number)
        points = batch.point_voxel.numpy()
        output = run.network(batch)[-1]
        evidence = mask_evidence(run.network, output, batch, session.classes, session.merge)
        for rule, changes in RULES.items():
            probability = name_masks(evidence, session.classifier.model_copy(update={"classes": "unified", **changes}))
            answer = merge(probability, output.mask_logits[0], session.classes.is_thing, batch.position, session.merge)
            entry, thing = (x.numpy()[points] for x in (answer.voxel_class, answer.voxel_instance))
            counts[rule].add(semantic, instance, class_of[entry], thing, min_points=taxonomy.min_points)
        seen = batch.clip_valid.numpy()[points] & (semantic > 0)
        nearest = class_of[class_cosines(batch.clip, session.classes).argmax(1).numpy()[points]]
        right, labelled = right + int((nearest == semantic)[seen].sum()), labelled + int(seen.sum())
    results = {rule: panoptic_result(c, taxonomy, session.novel) for rule, c in counts.items()}
    return results, right / max(labelled, 1)


def cells(result: PanopticResult) -> list[float]:
    """PQ in percent of each of GROUPS, and the harmonic mean of base and novel."""
    return [100 * (result.score(group, "pq") or 0.0) for group in (*GROUPS, HARMONIC)]


def main(
    run: Annotated[Path, typer.Argument(help="Of a system with queries.")],
    cache: Annotated[Path, typer.Argument(help="It was trained on.")],
    subset: Annotated[str, typer.Option(help="Frames to score.")] = "val",
    noise: Annotated[str, typer.Option(help="Lengths of the noise, comma-separated; features have length 1.")] = "0",
) -> None:
    session = open_session(run, cache, device="cpu")
    print(f"{run.name}, {subset}: PQ in percent; hPQ is the harmonic mean of base and novel\n")
    print("| noise | CLIP right on | rule | all | base | novel things | novel stuff | hPQ |\n" + "|---" * 8 + "|")
    for level in map(float, noise.split(",")):
        results, accuracy = scored(session, subset, level)
        for rule, result in results.items():
            numbers = " | ".join(f"{x:.1f}" for x in cells(result))
            print(f"| {level:g} | {100 * accuracy:.0f} % | {rule} | {numbers} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
