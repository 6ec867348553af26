"""python -m tools.gpu_check [--stages a,b,...] [--device cpu|cuda] [--minutes M] [--out DIR]"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from tools.gpu_check.record import LOG, RESULTS, read_lines
from tools.gpu_check.runner import STAGES, run_stages
from tools.gpu_check.setting import ROOT, Setting
from tools.gpu_check.stand_ins import missing
from tools.gpu_check.table import failures, show


def main(
    stages: Annotated[str, typer.Option(help="Which of a,b,c,d,e, in this order.")] = ",".join(STAGES),
    device: Annotated[str | None, typer.Option(help="cuda or cpu; cpu takes tiny sizes.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="For all stages together.")] = 9.0,
    out: Annotated[Path, typer.Option(help="Results to keep.")] = Path("build/gpu_check/out"),
    work: Annotated[Path, typer.Option(help="Scratch: worlds, caches, runs.")] = Path("build/gpu_check/work"),
    wheels: Annotated[Path, typer.Option(help="A MinkowskiEngine may lie there.")] = Path("build/wheels"),
) -> None:
    names = [name.strip() for name in stages.split(",") if name.strip()]
    if unknown := [name for name in names if name not in STAGES]:
        raise typer.BadParameter(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise typer.BadParameter(f"device {device} was asked for, and torch sees no GPU")
    setting = Setting(device, device == "cpu", out.resolve(), work.resolve(), wheels.resolve())
    for folder in (setting.out, setting.work, setting.site):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, LOG):
        (setting.out / name).unlink(missing_ok=True)
    _set_path(setting)
    # deterministic cuBLAS, as training asks for; it is read when a process first uses it, which may be before training
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run_stages(setting, names, minutes)
    lines = read_lines(setting.out)
    show(lines, Console(width=None if os.isatty(1) else 120, markup=False))
    raise typer.Exit(bool(failures(lines)))


def _set_path(setting: Setting) -> None:
    """The module path of every process that is started from here on; stages get this process's own."""
    before = [setting.site, ROOT]
    absent = missing()
    sys.path[:] = [*map(str, before), *sys.path, *map(str, absent)]
    given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, before), *given, *map(str, absent)])


if __name__ == "__main__":
    typer.run(main)
