"""What covered things are called by the query's own class embedding, and by CLIP pooled in its mask (reference).

No question of speed: the unified head against the features it was taught with. The things are the true ones that some
query's mask covers (IoU 0.5) and of which it has a CLIP feature, so that masks play no part. All frames of `val`.

python -m benchmarks.naming runs/testworld/ovps-b10n6-s0-b9235e62 zarr/testworld
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from ovps.cache.frame_data import CachedFrame
from ovps.errors import ConfigError
from ovps.evaluation.mask_recall import COVERED, best_iou, true_segments
from ovps.inference.session import Session, open_session
from ovps.model.classify import ClassifierConfig, class_cosines
from ovps.model.masks import MaskForm, mask_probability
from ovps.systems.naming import pooled_clip
from ovps.systems.queries import SYSTEM, MaskAnswer
from ovps.taxonomy import Taxonomy

INSIDE = 0.5  # mask probability, as in mask recall


class Named(NamedTuple):
    """A covered thing: the entries it is called, and the cosine of the two embeddings."""

    own: int
    pooled: int
    cosine: float


def covered_things(frame: CachedFrame, answer: MaskAnswer, taxonomy: Taxonomy, form: MaskForm) -> list[tuple[int, int]]:
    """Class id of each covered thing of a frame, and the query whose mask fits it best."""
    assert frame.label is not None, frame.token
    semantic, instance = taxonomy.decode(frame.label)
    classes, segment = true_segments(semantic, instance, min_points=taxonomy.min_points)
    things = {c.id for c in taxonomy.classes if c.kind == "thing"}
    masks = (mask_probability(answer.logits, form) > INSIDE).numpy()
    point_voxel = answer.batch.point_voxel.numpy()
    iou = np.stack([best_iou(segment, len(classes), point_voxel, mask[None]) for mask in masks], axis=1)
    best = iou.argmax(1)
    return [(int(c), int(q)) for c, q, i in zip(classes, best, iou.max(1), strict=True) if c in things and i >= COVERED]


@torch.inference_mode()
def named(session: Session) -> dict[int, list[Named]]:
    """The covered things by class id."""
    run, classes, found = session.run, session.classes, defaultdict(list)
    if run.system.name != SYSTEM.name:
        raise ConfigError("this run has no queries named by text", remedy="Name a run of ovps, pfc or their ablations")

    def entry(embedding: Tensor) -> list[int]:
        return class_cosines(embedding, classes).argmax(1).tolist()

    for ref in session.store.frames_of(["val"]):
        frame = session.store.read(ref)
        answer = SYSTEM.answer(run.network, run.batch(frame), classes, session.merge, ClassifierConfig())
        pooled, has_clip = pooled_clip(answer.logits, answer.batch.clip, answer.batch.clip_valid, session.merge.masks)
        own, clip, cosine = entry(answer.embedding), entry(pooled), F.cosine_similarity(answer.embedding, pooled)
        for class_id, query in covered_things(frame, answer, session.taxonomy, session.merge.masks):
            if has_clip[query]:
                found[class_id].append(Named(own[query], clip[query], float(cosine[query])))
    return found


def main(
    run: Annotated[Path, typer.Argument(help="Of a system with queries.")],
    cache: Annotated[Path, typer.Argument(help="It was trained on.")],
) -> None:
    session = open_session(run, cache, device="cpu")
    names, found = list(session.vocabulary.names), named(session)
    print(f"{run.name}: things of val that a mask covers; named rightly, in percent\n")
    print("| | things | own embedding | pooled CLIP | cosine of both | own embedding says |\n|---|---|---|---|---|---|")
    for c in sorted(session.taxonomy.classes, key=lambda c: (c.id not in session.novel, c.id)):
        if things := found.get(c.id):
            right = [100 * np.mean([names[t[i]] == c.name for t in things]) for i in range(2)]
            said = Counter(names[t.own] for t in things).most_common(3)
            cells = [len(things), *(f"{r:.0f}" for r in right), f"{np.mean([t.cosine for t in things]):.2f}"]
            words = ", ".join(f"{name} {count}" for name, count in said)
            print(f"| {c.name}{' (novel)' * (c.id in session.novel)} | {' | '.join(map(str, cells))} | {words} |")


if __name__ == "__main__":
    typer.run(main)
