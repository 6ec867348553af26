"""Provenance of results: the code, the machine, the versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from pydantic import BaseModel

import ovps
from pipelines.evaluate import machine


class CodeState(BaseModel, frozen=True):
    """The git commit of the code, and whether files differ from it; None outside a checkout."""

    commit: str | None
    dirty: bool | None

    def __str__(self) -> str:
        if self.commit is None:
            return "not a git checkout"
        return f"{self.commit[:12]}{', with uncommitted changes' if self.dirty else ''}"


def code_state(folder: Path = Path(ovps.__file__).parent) -> CodeState:
    """Describe the checkout that `folder` lies in, if it is tracked there: an installed copy is not."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or not _git(folder, "ls-files", "."):
        return CodeState(commit=None, dirty=None)
    return CodeState(commit=commit, dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")))


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where there is no git or no checkout."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def command_line() -> str:
    """Repeat the command line as typed, without the folders of this machine."""
    program = Path(sys.argv[0])
    name = (
        f"python -m {program.parent.parent.name}.{program.parent.name}" if program.stem == "__main__" else program.name
    )
    return " ".join([name, *sys.argv[1:]])


def this_machine() -> str:
    """Name the machine, and its GPU where there is one."""
    return machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
