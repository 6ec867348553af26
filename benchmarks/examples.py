"""PQ of one run where its novel classes are also shown by 0, 1, 5, 20 examples of the training frames (reference: 0).

Examples are labelled objects with `min_points` seen points, drawn from the training part of the store, never from the
frames that are scored. The vocabulary is the data set's own, the weight of the examples that of `ovps vocab build`.

python -m benchmarks.examples runs/driveworld/ovps-b12n4-s0-... zarr/driveworld
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.naming_rules import GROUPS, cells
from ovps.cache.reader import Store
from ovps.errors import ConfigError
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.results import PanopticResult, panoptic_result
from ovps.examples import add_examples
from ovps.inference.prediction import class_ids
from ovps.inference.session import Session, labelled_frames_of, open_session
from ovps.model.panoptic import merge
from ovps.systems.naming import name_masks
from ovps.systems.queries import SYSTEM, mask_evidence
from ovps.vocabulary import Vocabulary
from pipelines.examples import gap

RULES: tuple[Literal["unified", "per_mask"], ...] = ("unified", "per_mask")


def objects(store: Store, subset: str) -> dict[int, NDArray[np.float32]]:
    """CLIP features (K, C) of the labelled objects of a subset that cameras see well enough, by class id."""
    found: dict[int, list[NDArray[np.float32]]] = {}
    for ref in labelled_frames_of(store, subset):
        one = store.objects(ref)
        for row in np.flatnonzero(one.seen_points >= store.taxonomy.min_points):
            found.setdefault(int(one.classes[row]), []).append(one.embedding[row])
    return {class_id: np.stack(rows) for class_id, rows in found.items()}


def shown(
    session: Session, pool: Mapping[int, NDArray[np.float32]], shift: NDArray[np.float32], count: int, draw: int
) -> Vocabulary:
    """The session's vocabulary, every novel class that has examples moved towards `count` of its own."""
    vocabulary = session.vocabulary
    for class_id in (i for i in session.novel if count and i in pool):
        rng = np.random.default_rng([draw, class_id])
        chosen = rng.permutation(len(pool[class_id]))[:count]  # the first of one order: more examples hold the fewer
        name = session.taxonomy.by_id[class_id].name
        vocabulary = add_examples(vocabulary, name, None, pool[class_id][chosen], shift)
    return vocabulary


@torch.inference_mode()
def scored(
    session: Session, subset: str, vocabularies: Mapping[tuple[int, int], Vocabulary]
) -> dict[tuple[str, int, int], PanopticResult]:
    """Score every vocabulary, by number of examples and draw, by every rule; the network is run once a frame."""
    run, taxonomy = session.run, session.taxonomy
    if run.system.name != SYSTEM.name:
        raise ConfigError("this run has no queries named by text", remedy="Name a run of ovps, pfc or their ablations")
    class_of = class_ids(session.vocabulary, taxonomy)
    texts = {key: run.classes(v) for key, v in vocabularies.items()}
    counts = {(rule, *key): PanopticCounts.empty() for rule in RULES for key in texts}
    for ref in labelled_frames_of(session.store, subset):
        frame = session.store.read(ref)
        assert frame.label is not None
        semantic, instance = taxonomy.true_segments(frame.label)
        batch = run.batch(frame)
        points = batch.point_voxel.numpy()
        output = run.network(batch)[-1]
        for key, classes in texts.items():
            evidence = mask_evidence(run.network, output, batch, classes, session.merge)
            for rule in RULES:
                probability = name_masks(evidence, session.classifier.model_copy(update={"classes": rule}))
                answer = merge(probability, output.mask_logits[0], classes.is_thing, batch.position, session.merge)
                entry, thing = (x.numpy()[points] for x in (answer.voxel_class, answer.voxel_instance))
                counts[rule, *key].add(semantic, instance, class_of[entry], thing, min_points=taxonomy.min_points)
    return {key: panoptic_result(c, taxonomy, session.novel) for key, c in counts.items()}


def main(
    run: Annotated[Path, typer.Argument(help="Of a system with queries.")],
    cache: Annotated[Path, typer.Argument(help="It was trained on.")],
    subset: Annotated[str, typer.Option(help="Frames to score.")] = "val",
    source: Annotated[str, typer.Option(help="Subset that examples are drawn from.")] = "train",
    examples: Annotated[str, typer.Option(help="Numbers of examples, comma-separated.")] = "0,1,5,20",
    draws: Annotated[int, typer.Option(help="Draws of each number; the table has their mean.")] = 3,
) -> None:
    if source == subset:
        raise ConfigError("examples out of the frames that are scored", remedy="Name another --source")
    session = open_session(run, cache, device="cpu")
    pool = objects(session.store, source)
    shift = gap(session.store, labelled_frames_of(session.store, source))
    numbers = [int(n) for n in examples.split(",")]
    keys = [(n, draw) for n in numbers for draw in range(draws if n else 1)]
    results = scored(session, subset, {key: shown(session, pool, shift, *key) for key in keys})
    print(f"{run.name}, {subset}, examples out of {source}, mean of {draws} draws: PQ in percent\n")
    print(f"| rule | examples | {' | '.join((*GROUPS, 'harmonic'))} |\n" + "|---" * (len(GROUPS) + 3) + "|")
    for rule in RULES:
        for n in numbers:
            found = [cells(r) for (name, count, _), r in results.items() if (name, count) == (rule, n)]
            print(f"| {rule} | {n} | {' | '.join(f'{fmean(c):.1f}' for c in zip(*found, strict=True))} |")


if __name__ == "__main__":
    typer.run(main)
