"""Base PQ against minutes of training: which schedule and model size learn the base classes on this machine.

python -m benchmarks.study runs/a runs/b ... --out docs/results/study

Of runs that were trained and scored already (`ovps train`, `ovps eval --split`). Minutes: the mean time of a step, data
included, times their number; they compare only between runs that had the same company on the machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer

from ovps.evaluation.results import EvalResult
from ovps.training.config import flat
from ovps.training.run_files import load_settings
from pipelines.experiment.collect import training_minutes

SHOWN = (
    *("model.layers", "model.queries", "data.grid", "optimiser.lr"),
    *("loss.class_weight", "loss.object_weight", "loss.exclusion_weight", "loss.proposal_weight"),
)


def point(run: Path) -> dict[str, Any]:
    """What a run was, took and reached."""
    config, info = load_settings(run)
    result = EvalResult.model_validate_json((run / "eval" / "metrics.json").read_text(encoding="utf-8"))
    settings = flat(config)
    return {
        "run": run.name,
        "steps": info.total_steps,
        "minutes": round(training_minutes(run, info.total_steps) or 0, 1),
        "base_pq": round(100 * (result.system.score("base", "pq") or 0), 1),
        "base_miou": round(100 * (result.system.score("base", "miou") or 0), 1),
        "base_recall": round(100 * (result.mask_recall["queries"].groups["base"].recall or 0), 1),
        "threads": config.threads,
        **{name: settings[name] for name in SHOWN},
    }


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs that are scored.")],
    out: Annotated[Path, typer.Option(help="Folder of study.json and study.svg.")] = Path("docs/results/study"),
) -> None:
    points = [point(run) for run in runs]
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.json").write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    for p in points:
        axes.scatter(p["minutes"], p["base_pq"], color="tab:orange" if p["run"].startswith("closed") else "tab:blue")
        axes.annotate(p["run"], (p["minutes"], p["base_pq"]), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="minutes of training, one thread", ylabel="PQ of base classes, %", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out / "study.svg", metadata={"Date": None})
    for p in points:
        print("| " + " | ".join(str(v) for v in p.values()) + " |")


if __name__ == "__main__":
    typer.run(main)
