"""How far trainings in other processes are: one progress bar over the steps of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovps.progress import progress_bar
from ovps.training.metrics import last_step
from pipelines.experiment.one import Job, total_steps

SPEED_OVER = 300.0  # seconds: a training tells its step every `log_interval` steps only


@contextmanager
def watched(jobs: Sequence[Job]) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal; call what is yielded, with a note, to bring it up to date."""
    runs = [job.training.run for job in jobs]
    with progress_bar(SPEED_OVER) as bar:
        total = sum(total_steps(job.training) for job in jobs)
        task = bar.add_task("steps", total=total, completed=_steps(runs), note="")
        yield lambda note: bar.update(task, completed=_steps(runs), note=note)


def _steps(runs: Sequence[Path]) -> int:
    return sum(map(last_step, runs))
