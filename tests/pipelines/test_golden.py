"""A tiny training must end where it ended when it was last looked at: what no other test notices moves these numbers.

After a change that is meant to move them: python -m tests.pipelines.test_golden, and say in the commit why they moved.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch

from ovps.model.panoptic import MergeConfig
from ovps.training.metrics import read_metrics
from pipelines.evaluate import evaluate
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.small import small_run

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny.json"
STEPS, LAST = 40, 5
LOSSES = ("class", "mask_focal", "mask_dice", "exclusion", "position", "object", "voxel", "coverage")
# Other processors round otherwise, and rounding decides matches early on: a band, not a bit pattern.
LOSS_TOLERANCE = 0.25  # relative
SCORE_TOLERANCE = 0.06  # absolute


SYSTEMS = {"ovps": (), "minus_clusters": ("model.cluster_queries=0",)}  # and what differs in their settings


def tiny(folder: Path, system: str) -> dict[str, float]:
    """Losses, mean of the last steps, and scores on the frames trained on."""
    store = write_synthetic_store(folder / "store", subsets=("train",))
    # proposals need more steps than these before anything is learned
    settings = (f"steps={STEPS}", "seed=3", "loss.class_gamma=2", "loss.coverage_weight=1.0", "loss.proposal_weight=0")
    small_run(store, folder / "run", *settings, *SYSTEMS[system])
    lines = read_metrics(folder / "run")[-LAST:]
    losses = {f"loss/last/{name}": sum(line[f"loss/last/{name}"] for line in lines) / LAST for name in LOSSES}
    result = evaluate(folder / "run", store, subset="train", merge=MergeConfig(score=0.1))
    groups = result.system.panoptic.groups
    scores = {f"{kind}/{g}": getattr(groups[g], kind) for kind in ("pq", "miou") for g in ("base/stuff", "base/things")}
    recall = result.mask_recall["queries"].groups["base"].recall
    assert recall is not None
    return losses | scores | {"mask_recall/base": recall}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_tiny_training_ends_where_it_did(tmp_path, system):
    before = torch.get_num_threads()
    try:
        found = tiny(tmp_path, system)
    finally:
        torch.set_num_threads(before)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[system]
    assert found.keys() == golden.keys()
    for name, value in golden.items():
        tolerance = {"rel": LOSS_TOLERANCE} if name.startswith("loss/") else {"abs": SCORE_TOLERANCE}
        assert found[name] == pytest.approx(value, **tolerance), name


if __name__ == "__main__":
    numbers = {}
    for name in SYSTEMS:
        with tempfile.TemporaryDirectory() as scratch:
            numbers[name] = {key: round(value, 5) for key, value in tiny(Path(scratch), name).items()}
    GOLDEN.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(GOLDEN.read_text(encoding="utf-8"))
