"""How an entry is best shown by examples, chosen on base classes alone: true segments named by their CLIP feature.

A third of the base classes of a split in turn is shown by examples, as novel ones would be; the true novel classes take
no part. Segments of the training part, drawn anew each time; accuracy is a mean over classes. Reference: texts alone.

python -m benchmarks.examples_weight zarr/driveworld
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, harmonic_mean
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.examples import objects
from benchmarks.naming_rules import FOLDS
from ovps.cache.reader import Store
from ovps.examples import add_examples, mean_direction
from ovps.inference.session import labelled_frames_of
from ovps.taxonomy import load_split
from ovps.vocabulary import Vocabulary, without_entries
from pipelines.examples import gap

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 1.0)
DRAWS = 6
BESIDE, SHIFTED = "a row beside the texts", "a row beside, moved to where texts lie"

Pool = Mapping[str, NDArray[np.float32]]


def similarity(features: NDArray[np.float32], vocabulary: Vocabulary) -> NDArray[np.float32]:
    """The best cosine of each entry, (N, E)."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = unit @ vocabulary.embeddings.T
    return np.stack([rows[:, vocabulary.class_index == e].max(axis=1) for e in range(len(vocabulary.entries))], axis=1)


def accuracies(
    pool: Pool, vocabulary: Vocabulary, shift: NDArray[np.float32], how: str | float, count: int
) -> tuple[float, float]:
    """Mean accuracy of the classes that are shown, and of those that are not, over folds and draws."""
    names = list(pool)
    shown, others = [], []
    for fold in range(FOLDS):
        for draw in range(DRAWS):
            asked, extra = vocabulary, {}
            for name in names[fold::FOLDS]:
                rng = np.random.default_rng([draw, len(name), names.index(name)])
                chosen = pool[name][rng.permutation(len(pool[name]))[:count]]
                if isinstance(how, float):
                    asked = add_examples(asked, name, None, chosen, shift, how)
                else:
                    row = mean_direction(chosen) + (shift if how == SHIFTED else 0)
                    extra[name] = row / np.linalg.norm(row)
            for name in names:
                near = similarity(pool[name], asked)
                unit = pool[name] / np.linalg.norm(pool[name], axis=1, keepdims=True)
                for other, row in extra.items():
                    entry = asked.names.index(other)
                    near[:, entry] = np.maximum(near[:, entry], unit @ row)
                right = float((near.argmax(axis=1) == asked.names.index(name)).mean())
                (shown if name in names[fold::FOLDS] else others).append(right)
    return fmean(shown), fmean(others)


def main(
    cache: Annotated[str, typer.Argument(help="A labelled store.")],
    split: Annotated[str, typer.Option(help="Whose novel classes take no part.")] = "b12n4",
    subset: Annotated[str, typer.Option(help="Whose segments are named.")] = "train",
) -> None:
    store = Store.open(cache)
    chosen = load_split(split).of(store.taxonomy)
    found = objects(store, subset)
    pool = {store.taxonomy.by_id[i].name: found[i] for i in chosen.base_ids(store.taxonomy) if i in found}
    vocabulary = without_entries(store.vocabulary, chosen.hidden)
    shift = gap(store, labelled_frames_of(store, subset))
    print(
        f"base classes of {split}, segments of {subset}: accuracy in percent of shown / other classes, harmonic mean\n"
    )
    print("| examples | 1 | 5 | 20 |\n|---|---|---|---|")
    for how in (0.0, BESIDE, SHIFTED, *WEIGHTS):
        cells = []
        for count in (1, 5, 20):
            a, b = (100 * x for x in accuracies(pool, vocabulary, shift, how, count))
            cells.append(f"{a:.1f} / {b:.1f}, {harmonic_mean((a, b)):.1f}")
        name = how if isinstance(how, str) else f"texts moved, weight {how:g}" if how else "texts alone"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
