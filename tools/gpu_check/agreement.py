"""Stage b: the device agrees with the CPU. MinkowskiEngine first, then the project."""

from __future__ import annotations

from tools.gpu_check import minkowski
from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import Setting


def run(setting: Setting, recorder: Recorder) -> None:
    minkowski.ensure(setting, recorder)
    minkowski.checks(setting, recorder)
    from tools.gpu_check import project  # what it imports needs MinkowskiEngine

    project.run(setting, recorder)
