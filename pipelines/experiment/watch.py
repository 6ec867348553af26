"""Progress of trainings in other processes: one progress bar over the steps of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovps.progress import progress
from ovps.training.metrics import last_step
from pipelines.experiment.cell import Job, total_steps


@contextmanager
def watched(jobs: Sequence[Job]) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal; call what is yielded, with a note, to bring it up to date."""
    runs = [job.training.run for job in jobs]
    total = sum(total_steps(job.training) for job in jobs)
    with progress("trainings", "steps", total, done=_steps(runs)) as counter:
        yield lambda note: counter.show(_steps(runs), note)


def _steps(runs: Sequence[Path]) -> int:
    return sum(map(last_step, runs))
