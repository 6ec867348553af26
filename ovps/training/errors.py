"""What can go wrong in the course of training."""

from __future__ import annotations

from typing import ClassVar

from ovps.errors import OvpsError


class TrainingError(OvpsError):
    """A loss or gradient that is no number any more."""

    kind: ClassVar[str] = "training"
    exit_code: ClassVar[int] = 9
