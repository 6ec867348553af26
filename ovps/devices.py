"""The device of torch that something runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ovps.errors import ConfigError, counted
from ovps.shortage import faults

_TYPES = ("cpu", "cuda", "privateuseone")  # the last: torch's name for an accelerator of another package
_REMEDY = "Give cpu, cuda, or cuda:0 and so on; `ovps doctor` says what torch sees"


@contextmanager
def usual_tensors() -> Iterator[None]:
    """Let torch make float32 on the CPU where nothing is said, whatever the caller has set as its defaults."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def device_of(name: str | None) -> torch.device:
    """Find the device of a name, `cpu`, `cuda` or `cuda:N`; None: a GPU if there is one.

    Raises:
        ConfigError: no such device, or none that torch sees here.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name or ("cuda" if there else "cpu"))
    except faults(RuntimeError) as error:
        raise ConfigError(f"no device {name!r}", remedy=_REMEDY) from error
    if device.type not in _TYPES or (device.type == "cpu" and device.index):
        raise ConfigError(f"no device {name!r}", remedy=_REMEDY)
    if device.type == "cuda" and (device.index or 0) >= there:
        seen = counted(there, "GPU") if there else "no GPU"
        raise ConfigError(f"device {name} was asked for, and torch sees {seen}", remedy=_REMEDY)
    return device
