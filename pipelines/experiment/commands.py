"""An experiment as the command line asks for it: names and lists as text."""

from __future__ import annotations

from ovps.errors import ConfigError
from pipelines.experiment.runner import ExperimentSummary, run_experiment
from pipelines.experiment.schema import load_experiment, selected


def run(
    name_or_file: str,
    *,
    systems: str | None = None,
    splits: str | None = None,
    seeds: str | None = None,
    jobs: int = 1,
    yes: bool = False,
) -> ExperimentSummary:
    """Run a shipped experiment or a YAML file; comma-separated lists replace the experiment's own.

    Raises:
        ConfigError: a name that does not exist, or seeds that are no numbers.
        OvpsError: whatever stops a stage.
    """
    whole = load_experiment(name_or_file)
    part = selected(whole, _names(systems), _names(splits), _numbers(seeds))
    return run_experiment(part, whole=whole, jobs=jobs, yes=yes)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(n.strip() for n in text.split(",") if n.strip())


def _numbers(text: str | None) -> tuple[int, ...] | None:
    names = _names(text)
    try:
        return None if names is None else tuple(int(n) for n in names)
    except ValueError as error:
        raise ConfigError(f"seeds {text!r} are not numbers", remedy="Write --seeds 0,1,2") from error
