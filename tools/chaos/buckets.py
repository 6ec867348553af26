"""An S3 server that fails, answers late, or does what it was asked and does not say so; and two runs at once on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from threading import Thread
from unittest import mock

import numpy as np

from ovps.cache import remote
from ovps.errors import CacheError, OvpsError
from tests.helpers.s3 import BUCKET, Rude, copy_of, served, used
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome

STATUS = (500, 503, 403)
PATIENCE = timedelta(seconds=1)  # in place of a minute
REQUESTS = 260  # of a run, roughly


def server_errors(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """From one request on all fail, or now and then one does, or is done and told as failed."""
    with served() as server:
        for number in range(count):
            url = f"s3://{BUCKET}/errors-{number}/zarr"
            how = ("all from one on", "now and then", "done, told as failed")[number % 3]
            status = int(STATUS[rng.integers(len(STATUS))] if how == "all from one on" else rng.choice([500, 503]))
            first = int(rng.integers(REQUESTS))
            rude = Rude(server)
            outcome = Outcome("S3 errors", f"{how}, {status}, request {first}")

            def answer(method: str, path: str) -> int | None:
                if how == "all from one on":  # noqa: B023
                    return status if len(rude.asked) > first else None  # noqa: B023
                return status if rng.random() < 0.05 else None  # noqa: B023

            setattr(rude, "lost" if how == "done, told as failed" else "answer", answer)
            _disturbed(ground, rude, url, outcome, retries=0 if how == "all from one on" else 6)
            yield _finished(ground, server, url, outcome)


def timeouts(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """From one request on nothing is answered in time, or one request is not."""
    with served() as server, mock.patch.object(remote, "TIMEOUT", PATIENCE):
        for number in range(count):
            url = f"s3://{BUCKET}/late-{number}/zarr"
            first, for_ever = int(rng.integers(REQUESTS)), number % 2 == 0
            rude = Rude(server)
            outcome = Outcome("S3 timeouts", f"request {first}{' and all after it' if for_ever else ''}")

            def late(method: str, path: str) -> None:
                asked = len(rude.asked)  # noqa: B023
                if asked > first if for_ever else asked == first:  # noqa: B023
                    time.sleep(1.5 * PATIENCE.total_seconds())

            rude.answer = late
            _disturbed(ground, rude, url, outcome, retries=0 if for_ever else 6)
            yield _finished(ground, server, url, outcome)


def two_runs(ground: Ground, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """Nothing locks a bucket: both write, each partition is committed once."""
    with served() as server:
        for number in range(count):
            url = f"s3://{BUCKET}/both-{number}/zarr"
            outcome = Outcome("two runs at once, bucket", "")
            with used(server, ground.folder / "reads"):
                told: list[str] = []

                def run(delay: float) -> None:
                    time.sleep(delay)
                    try:
                        ground.precompute(url)  # noqa: B023
                    except OvpsError as error:
                        told.append(type(error).__name__)  # noqa: B023
                        if not isinstance(error, CacheError):
                            outcome.note = str(error)  # noqa: B023

                threads = [Thread(target=run, args=(float(rng.uniform(0, 0.5)) * k,)) for k in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                outcome.what = f"the later one: {', '.join(told) or 'nothing left to do'}"
                outcome.seen |= {"run"} if told else set()
            yield _finished(ground, server, url, outcome)


def _disturbed(ground: Ground, rude: Rude, url: str, outcome: Outcome, retries: int) -> None:
    with mock.patch.object(remote, "RETRIES", retries), used(rude.endpoint, ground.folder / "reads"):
        try:
            ground.precompute(url)
        except OvpsError as error:
            outcome.seen.add("run")
            if not error.remedy:
                outcome.note = f"no remedy: {error}"
        finally:
            rude.close()


def _finished(ground: Ground, server: str, url: str, outcome: Outcome) -> Outcome:
    """What is committed reads as it was written; the same command again does the rest."""
    with used(server, ground.folder / "reads"):
        told = Outcome("", "")
        ground.read(url, told)
        outcome.wrong += told.wrong
        try:
            ground.precompute(url)
            outcome.mended = "precompute" if "run" in outcome.seen else "nothing"
        except OvpsError as error:
            outcome.note = f"the same command again: {error}"
        copy = copy_of(url, ground.folder / "copy")
    ground.compare(copy, outcome)
    shutil.rmtree(copy)
    return outcome
