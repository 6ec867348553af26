"""PQ of frames as large as nuScenes', beside the devkit's, and what a frame's scores take of its evaluation.

python -m benchmarks.bench_evaluation
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.panoptic.panoptic_seg_evaluator import PanopticEval

from benchmarks.rows import Row, table
from benchmarks.setting import options
from driveworld import demo_run
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.evaluation.tally import VARIANTS, Tally
from ovps.inference.session import open_session, predictions
from pipelines.precompute import precompute

POINTS, FRAMES = 34_688, 20  # of the real frame
THINGS, CLASSES, MIN_POINTS = 10, 17, 15
EQUAL = 1e-9


def rows() -> list[Row]:
    """Milliseconds a frame."""
    maps = [drawn(seed) for seed in range(FRAMES)]
    counts, devkit = PanopticCounts.empty(), PanopticEval(CLASSES, ignore=[0], min_points=MIN_POINTS)
    ours, theirs = [], []
    for true_class, true_instance, pred_class, pred_instance in maps:
        begin = perf_counter()
        counts.add(true_class, true_instance, pred_class, pred_instance, min_points=MIN_POINTS)
        ours.append(perf_counter() - begin)
        begin = perf_counter()
        devkit.addBatch(pred_class, pred_instance, true_class, true_instance)
        theirs.append(perf_counter() - begin)
    difference = np.abs(counts.per_class()[0][1:CLASSES] - devkit.getPQ()[3][1:]).max()
    assert difference < EQUAL, f"PQ differs from the devkit's by {difference}"
    return [
        Row(f"PQ of {POINTS:,} points, equal to {EQUAL:g}", "the devkit's", 1e3 * min(ours), 1e3 * min(theirs), "ms"),
        scoring(),
    ]


def drawn(seed: int) -> tuple[NDArray[np.int64], ...]:
    """Random segments of one frame, and a prediction that has nine tenths of the points right."""
    rng = np.random.default_rng(seed)
    segment = np.sort(rng.integers(0, 60, POINTS))
    true_class = rng.integers(0, CLASSES, 60)[segment]
    true_instance = np.where(true_class <= THINGS, segment, 0)
    wrong = rng.random(POINTS) < 0.1
    other = rng.permutation(POINTS)
    pred_class, pred_instance = (np.where(wrong, a[other], a) for a in (true_class, true_instance))
    return true_class, true_instance, pred_class, pred_instance


def scoring() -> Row:
    """All scores of a frame (variants, references, recall of masks) in what its evaluation takes, network included."""
    store = precompute(options()).out
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        demo_run.unpack(run)
        session = open_session(run, store)
        tally = Tally(session.taxonomy, session.novel, session.vocabulary)
        scored, begin = 0.0, perf_counter()
        for number, (frame, made) in enumerate(predictions(session, session.store.frames, tuple(VARIANTS))):
            if number:
                before = perf_counter()
                tally.add(frame, made, number)
                scored += perf_counter() - before
            else:
                begin = perf_counter()  # the first one warms up
        whole, count = perf_counter() - begin, len(session.store.frames) - 1
    return Row(
        "scores of a frame of `ovps eval`", "evaluation, network included", 1e3 * scored / count, 1e3 * whole / count,
        "ms", 0.1,
    )  # fmt: skip


if __name__ == "__main__":
    print(table(rows()))
