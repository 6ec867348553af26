#!/usr/bin/env bash
# What `make setup` runs: .venv, the pinned packages, and, for the extra minkowski, MinkowskiEngine built from its
# patched sdist.
#
#   PYTHON=python3.11 tools/setup.sh
#   VENV=build/core EXTRAS=dev CONSTRAINTS=tools/numpy2.txt tools/setup.sh     # as `make core-check` has it
#
# The wheel of MinkowskiEngine is kept in ${OVPS_CACHE:-~/.cache/ovps} under a name that holds everything it depends
# on (torch, Python, CPU or CUDA, the patch), so a second set-up, of another clone too, does not build it again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv} constraints=${CONSTRAINTS:-constraints.txt}
cache=${OVPS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ovps}
version='import sys; print(*sys.version_info[:2])'

# what is there stays as it was asked for: `make test` after `EXTRAS=dev make setup PYTHON=python3.11` names neither
there= known=
read -r there known 2>/dev/null <"$venv/.ovps-setup" || true
extras=${EXTRAS:-${known:-dev,nuscenes,driveworld,minkowski,ros}}
# uv makes one without pip
[ ! -x "$venv/bin/python" ] || "$venv/bin/python" -c "import pip" 2>/dev/null || "$venv/bin/python" -m ensurepip >/dev/null 2>&1 || true
own=$("$venv/bin/python" -c "import pip; $version" 2>/dev/null || true)  # nothing, where making it was stopped
wanted=$own
if [ -n "${PYTHON:-}" ] || [ -z "$own" ]; then
  PYTHON=${PYTHON:-python3}
  "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
    echo "ovps needs Python 3.11 or 3.12; $PYTHON is $("$PYTHON" --version). Try: make setup PYTHON=python3.11" >&2; exit 1; }
  wanted=$("$PYTHON" -c "$version")
fi

stamp=$({ cat pyproject.toml "$constraints" tools/setup.sh tools/minkowski/*; echo "$extras $wanted"; } | sha256sum | cut -c1-16)
if [ "$there" = "$stamp" ] && [ "$own" = "$wanted" ]; then exit 0; fi
case ",$extras," in *,minkowski,*) minkowski=1 ;; *) minkowski= ;; esac
[ -z "$minkowski" ] || command -v g++ >/dev/null || {
  echo "no C++ compiler: MinkowskiEngine is built from source and needs g++. ovps does without it, more slowly on a CPU: EXTRAS=dev,nuscenes,driveworld make setup" >&2; exit 1; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
if [ "$own" != "$wanted" ]; then  # of another Python, or not whole
  "$PYTHON" -m venv $([ ! -f "$venv/pyvenv.cfg" ] || echo --clear) "$venv"
fi
echo "== packages (several GB at the first time: PyPI's torch carries its CUDA libraries)"
pip install -q -c "$constraints" torch torchvision numpy setuptools wheel ninja

if [ -n "$minkowski" ]; then
echo "== MinkowskiEngine"
key=$("$venv/bin/python" - <<'P'
import hashlib, os, pathlib, platform, sys, torch
from torch.utils.cpp_extension import CUDA_HOME
cpu = os.environ.get("ME_CPU_ONLY") == "1" or not (torch.cuda.is_available() and CUDA_HOME)
patch = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(pathlib.Path("tools/minkowski").iterdir()))).hexdigest()
build = "cpu" if cpu else f"cu{torch.version.cuda}-sm{''.join(map(str, torch.cuda.get_device_capability()))}"
print(f"py{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}-{build}-{platform.machine()}-{patch[:12]}")
P
)
wheels=$cache/minkowski/$key
if ! ls "$wheels"/*.whl >/dev/null 2>&1; then
  echo "   building (1 to 2 minutes on the CPU, about 10 with CUDA): $wheels"
  rm -rf "$wheels.part"; mkdir -p "$wheels.part"
  PYTHON=$venv/bin/python tools/minkowski/build.sh "$wheels.part" >"$cache/minkowski/build.log" 2>&1 || {
    tail -20 "$cache/minkowski/build.log" >&2; echo "MinkowskiEngine did not build; the whole log: $cache/minkowski/build.log" >&2; exit 1; }
  rm -rf "$wheels"; mv "$wheels.part" "$wheels"
fi
pip install -q --no-deps --force-reinstall "$wheels"/*.whl
fi

echo "== ovps"
pip install -q -c "$constraints" -e ".[$extras]"
echo "$stamp $extras" >"$venv/.ovps-setup"
echo "== done. Next: $venv/bin/ovps doctor"
