"""An experiment as the command line asks for it: a shipped one by name, or a part of it."""

from __future__ import annotations

from pipelines.experiment.runner import ExperimentSummary, run_experiment
from pipelines.experiment.schema import load_experiment, selected


def run(
    experiment: str,
    *,
    systems: tuple[str, ...] | None = None,
    splits: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    jobs: int = 1,
    yes: bool = False,
) -> ExperimentSummary:
    """Run a shipped experiment or a YAML file, with its own systems, splits and seeds or with others.

    Raises:
        ConfigError: a name that does not exist.
        OvpsError: whatever stops a stage.
    """
    whole = load_experiment(experiment)
    return run_experiment(selected(whole, systems, splits, seeds), whole=whole, jobs=jobs, yes=yes)
