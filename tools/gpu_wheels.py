"""Fills a folder with the wheels that a GPU machine without a network lacks. See docs/gpu.md.

    python -m tools.gpu_wheels --python-version 3.12 --out build/wheels

Which: what the project's dependencies need, resolved, less what the machine's own packages need, resolved; then
nuscenes-devkit without its dependencies (it caps numpy below 2), and MinkowskiEngine built with CUDA. Needs pip and an
index; to build MinkowskiEngine also that Python and g++, and then it takes minutes and several GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MINKOWSKI = Path(__file__).parent / "minkowski"
MOST_MIB = 60

# What a machine for deep learning has; torch is named with its version apart.
THERE = (
    *("torchvision", "numpy>=2", "timm", "pyarrow", "scipy", "rich", "typer", "safetensors", "tensorboard", "pytest"),
    *("hypothesis", "pillow"),
)
# Carried even though newer versions of those need it: what the machine has may be older.
CARRIED = ("pydantic", "pyyaml", "packaging", "click", "fsspec", "jinja2", "psutil")
# Taken as they are: their caps or needs are not ours. cachetools and pyquaternion are what the devkit imports; OpenCV
# and scikit-learn, for drawing, are stood in for (tools/gpu_check/stand_ins).
ALONE = ("nuscenes-devkit", "pyquaternion", "cachetools", "embreex")
GLIBC = range(5, 35)  # manylinux_2_N that the machine takes

INSTALL = """\
#!/usr/bin/env bash
# Puts these wheels into a folder of their own, no network needed:   bash install.sh [SITE]
# Then, in the project:   export PYTHONPATH=SITE:$PWD
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=${1:-$here/../site}
"${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps --upgrade --target "$site" "$here"/*.whl
echo "export PYTHONPATH=$(cd "$site" && pwd):\\$PWD"
"""


@dataclass(frozen=True)
class Machine:
    """What the wheels are for.

    Attributes:
        python: version, as 3.12.
        torch: version.
        cuda: of torch, as 13.0.
        arch: compute capability, as 9.0.
    """

    python: str
    torch: str
    cuda: str
    arch: str

    @property
    def tag(self) -> str:
        return f"cp{self.python.replace('.', '')}"

    @property
    def minkowski(self) -> str:
        """What the name of a wheel of MinkowskiEngine for it has in it."""
        return f"+pt{self.torch}.cu{self.cuda.replace('.', '')}-{self.tag}-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python-version", default="3.12")
    parser.add_argument("--torch", default="2.11.0")
    parser.add_argument("--cuda", default="13.0")
    parser.add_argument("--arch", default="9.0", help="compute capability of the GPU")
    parser.add_argument("--out", type=Path, default=Path("build/wheels"))
    parser.add_argument("--minkowski", type=Path, help="a wheel that fits, instead of building one")
    parser.add_argument("--python", help="interpreter of that version, to build with")
    asked = parser.parse_args()
    machine = Machine(asked.python_version, asked.torch, asked.cuda, asked.arch)
    asked.out.mkdir(parents=True, exist_ok=True)

    wanted = lacking(machine)
    print(f"== {len(wanted)} packages: {', '.join(wanted)}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.out) as fresh:  # a version of an earlier call does not stay beside ours
        download(machine, wanted, Path(fresh))
        for old in asked.out.glob("*.whl"):
            if machine.minkowski not in old.name:
                old.unlink()
        for wheel in Path(fresh).iterdir():
            wheel.replace(asked.out / wheel.name)
    wheel = asked.minkowski or minkowski(machine, asked.python)
    if machine.minkowski not in wheel.name:
        sys.exit(f"{wheel.name} does not fit: its name lacks {machine.minkowski}")
    for old in asked.out.glob("[mM]inkowski*.whl"):
        if not old.samefile(wheel):
            old.unlink()
    if wheel.parent.resolve() != asked.out.resolve():
        shutil.copy(wheel, asked.out)
    subprocess.run([sys.executable, str(MINKOWSKI / "fetch_sdist.py"), str(asked.out)], check=True, stdout=sys.stderr)
    (asked.out / "install.sh").write_text(INSTALL, encoding="utf-8")

    size = sum(file.stat().st_size for file in asked.out.iterdir()) / 2**20
    print(f"== {asked.out}: {len(list(asked.out.glob('*.whl')))} wheels, {size:.1f} MiB of at most {MOST_MIB}")
    if size > MOST_MIB:
        largest = sorted(asked.out.iterdir(), key=lambda f: -f.stat().st_size)[:5]
        sys.exit(f"too large to carry; the largest: {', '.join(f.name for f in largest)}")


def dependencies(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """Names that the project declares, extras of data sets too, but for those built apart or taken alone."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    declared = [*project["dependencies"], *optional.get("nuscenes", ()), *optional.get("driveworld", ())]
    names = [canonical(re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0]) for line in declared]
    return list(dict.fromkeys(name for name in names if name not in ("torch", *ALONE, "ovps")))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lacking(machine: Machine) -> list[str]:
    """`name==version` of what has to be brought."""
    torch = f"torch=={machine.torch}"
    ours = resolved(machine, [torch, *THERE, *CARRIED, *dependencies()])
    theirs = resolved(machine, [torch, *THERE])
    carried = resolved(machine, [f"{name}=={ours[name]}" for name in CARRIED])
    chosen = sorted(name for name in ours if name not in theirs or name in carried)
    return [*(f"{name}=={ours[name]}" for name in chosen), *ALONE]


def resolved(machine: Machine, requirements: Sequence[str]) -> dict[str, str]:
    """Versions by name of the requirements and all that they need, as pip would install them there."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--report", str(report), "--target", scratch]
        pip(machine, "install", *options, *for_machine(machine), *requirements)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonical(one["metadata"]["name"]): one["metadata"]["version"] for one in installs}


def download(machine: Machine, requirements: Iterable[str], out: Path) -> None:
    pip(machine, "download", "--no-deps", "--dest", str(out), *for_machine(machine), *requirements)


def for_machine(machine: Machine) -> list[str]:
    platforms = [f"manylinux_2_{n}_x86_64" for n in reversed(GLIBC)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    return [
        *("--only-binary=:all:", "--python-version", machine.python, "--implementation", "cp"),
        *(f"--platform={p}" for p in platforms),
    ]


def pip(machine: Machine, *arguments: str) -> None:
    """That of the same Python where there is one: another's takes older versions, for it minds its own as well."""
    python = installed(machine.python) or sys.executable
    subprocess.run([python, "-m", "pip", "--quiet", *arguments], check=True, stdout=sys.stderr)


def minkowski(machine: Machine, python: str | None) -> Path:
    """The wheel of MinkowskiEngine: from the cache of set-up, or built there, under a name of all it depends on."""
    cache = os.environ.get("OVPS_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/ovps"
    patch = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(MINKOWSKI.iterdir()) if p.is_file())).hexdigest()[
        :12
    ]
    cuda, sm = (v.replace(".", "") for v in (machine.cuda, machine.arch))
    name = f"py{machine.tag[2:]}-torch{machine.torch}-cu{cuda}-sm{sm}-{platform.machine()}-{patch}"
    folder = Path(cache) / "minkowski" / name
    if not list(folder.glob("*.whl")):
        print(f"== MinkowskiEngine: building (5 minutes on 2 cores, several GB to download): {folder}", flush=True)
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        build(machine, python or interpreter(machine.python), part)
        part.replace(folder)
    return next(iter(sorted(folder.glob("*.whl"))))


def installed(version: str) -> str | None:
    """That Python, if it runs: a version manager has a shim for each, which refuses where another is chosen."""
    found = shutil.which(f"python{version}")
    runs = found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0
    return found if runs else None


def interpreter(version: str) -> str:
    found = installed(version)
    if found is None:
        sys.exit(
            f"no python{version} to build MinkowskiEngine with: name one with --python, or a wheel with --minkowski"
        )
    return found


def build(machine: Machine, python: str, out: Path) -> None:
    """In an environment of its own, with the compiler and headers that PyPI has for this CUDA: no GPU is needed."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "venv"
        subprocess.run([python, "-m", "venv", str(environment)], check=True)
        own = environment / "bin" / "python"
        compiler = [f"nvidia-{part}=={machine.cuda}.*" for part in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-cccl")]
        tools = [f"torch=={machine.torch}", "numpy", "setuptools", "wheel", "ninja", *compiler]
        subprocess.run([str(own), "-m", "pip", "install", "--quiet", *tools], check=True)
        major = machine.cuda.split(".")[0]
        (home,) = environment.glob(f"lib/python*/site-packages/nvidia/cu{major}")
        _as_installed(home)
        settings = {
            "PYTHON": str(own),
            "CUDA_HOME": str(home),
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CPATH": f"{home / 'include'}{os.pathsep}{home / 'include' / 'cccl'}",
            "TORCH_CUDA_ARCH_LIST": machine.arch,
            "ME_FORCE_CUDA": "1",
        }
        subprocess.run(["bash", str(MINKOWSKI / "build.sh"), str(out)], check=True, env=os.environ | settings)


def _as_installed(home: Path) -> None:
    """The names under which compiler and linker look for the libraries."""
    if not (home / "lib64").exists():
        (home / "lib64").symlink_to("lib")
    for library in (home / "lib").glob("*.so.*"):
        plain = library.with_name(f"{library.name.split('.so.')[0]}.so")
        if not plain.exists():
            plain.symlink_to(library.name)


if __name__ == "__main__":
    main()
