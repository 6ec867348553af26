"""Checkpoints: everything that the next step depends on, written atomically, read without pickle."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ovps.errors import CheckpointError
from ovps.shortage import faults
from ovps.training.files import write_whole
from ovps.training.run_files import ANEW
from ovps.versions import WROTE_IT, other_format

FORMAT = "ovps-checkpoint-1"

_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError)

Architecture = dict[str, Any]
Origin = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state after `step` updates. Order, augmentation and learning rate follow from the step.

    Attributes:
        architecture: what the weights fit, by dotted name, in plain values.
        step: updates done.
        network, optimiser: state dicts.
        rng: state of torch's generator (dropout), and of every GPU's.
        origin: the training that it is of, by dotted name, in plain values; empty where an earlier version wrote it.
    """

    architecture: Architecture
    step: int
    network: dict[str, Any]
    optimiser: dict[str, Any]
    rng: list[torch.Tensor]
    origin: Origin

    @property
    def seed(self) -> int | None:
        """The seed of torch's generator; None where no step of a training made the weights."""
        return torch.Generator().set_state(self.rng[0]).initial_seed() if self.optimiser["state"] else None


def save_checkpoint(
    path: Path, architecture: Architecture, origin: Origin, step: int, network: nn.Module, optimiser: Optimizer
) -> None:
    """Write the state after `step` updates.

    Args:
        origin: the training that it is of, see `check_origin`.

    Raises:
        CheckpointError: the disk refuses; the checkpoint before is untouched.
    """
    rng = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    content = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "architecture": architecture,
            "origin": origin,
            "step": step,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "rng": rng,
        },
        content,
    )
    write_whole(path, content.getvalue())


def load_checkpoint(path: Path, architecture: Architecture) -> Checkpoint:
    """Read a checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: missing, damaged, of another version, or its weights are of another architecture: names what
            differs.
    """
    if not path.is_file():
        raise CheckpointError("no such checkpoint", path=path, remedy="Train first: ovps train --cache CACHE --out RUN")
    try:
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:  # torch does not look at the checksums it writes
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is not what was written")
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if other := other_format(content, FORMAT):
            raise CheckpointError(other, path=path, remedy=WROTE_IT)
        if content["format"] != FORMAT:
            raise KeyError(f"format {content['format']!r}")
        parts = {k: content[k] for k in ("architecture", "step", "network", "optimiser", "rng")}
        found = Checkpoint(**parts, origin=content.get("origin", {}))
    except faults(*_UNREADABLE, KeyError, TypeError) as error:
        raise CheckpointError(
            f"damaged, or not a checkpoint of ovps: {_first_line(error)}",
            path=path,
            remedy=ANEW,
        ) from error
    differing = differences(found.architecture, architecture)
    if differing:
        raise CheckpointError(
            f"a checkpoint of another architecture: {'; '.join(differing)}",
            path=path,
            remedy="Use the settings it was trained with, or a folder of its own for the other run",
        )
    return found


def check_origin(checkpoint: Checkpoint, origin: Origin, last: int, path: Path) -> None:
    """Raise CheckpointError if a checkpoint is not of the training that a run's settings describe.

    Only what both state is compared, as two versions do not state the same. A checkpoint of before it stated anything
    is judged by its step and, where one process trained alone, by the seed in the state of its generator: another
    training of the same length and seed is then not told from this one.

    Args:
        origin: of the run.
        last: step that the run ends at.
        path: of the checkpoint.
    """
    there = checkpoint.origin
    if not there and origin.get("processes") == 1 and checkpoint.seed is not None:
        there = {"seed": checkpoint.seed}
    both = there.keys() & origin.keys()
    found = differences({n: there[n] for n in there if n in both}, {n: origin[n] for n in origin if n in both})
    if checkpoint.step > last:
        found.append(f"it is at step {checkpoint.step:,}, the run ends at {last:,}")
    if found:
        raise CheckpointError(
            f"a checkpoint of another run: {'; '.join(found)}",
            path=path,
            remedy="Put the run's own back, or take the whole folder of the run that it is of",
        )


def differences(there: Mapping[str, Any], now: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> list[str]:
    """Settings that differ, as `name: old there, new now`, but for names that begin with one of `ignore`."""
    names = [*there, *(n for n in now if n not in there)]
    return [
        f"{name}: {there.get(name, 'not set')!r} there, {now.get(name, 'not set')!r} now"
        for name in names
        if there.get(name, "not set") != now.get(name, "not set") and not name.startswith(ignore)
    ]


def restore(checkpoint: Checkpoint, network: nn.Module, optimiser: Optimizer | None, path: Path) -> None:
    """Put a checkpoint's state into network, optimiser and (with an optimiser) torch's generators.

    Raises:
        CheckpointError: the tensors do not fit, in spite of the same architecture: another version of the code.
    """
    try:
        network.load_state_dict(checkpoint.network)
        if optimiser is not None:
            optimiser.load_state_dict(checkpoint.optimiser)
    except faults(RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"its weights do not fit this version of ovps: {_first_line(error)}",
            path=path,
            remedy="Use the version that trained it (run.json names it), or train again",
        ) from error
    if optimiser is not None:
        torch.set_rng_state(checkpoint.rng[0])
        if torch.cuda.is_available() and len(checkpoint.rng) == 1 + torch.cuda.device_count():
            torch.cuda.set_rng_state_all(checkpoint.rng[1:])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
