#!/usr/bin/env bash
# What `make core-check` runs: the tests of the core on numpy 2 and without MinkowskiEngine, in an environment of its own.
#
#   PYTHON=python3.12 CORE=build/core tools/core_check.sh     # CORE is made if there is none; several GB
#
# nuscenes-devkit comes without its dependencies, so that its cap on numpy does not count: tests compare with it. What it
# imports for drawing only is stood in for. That the core does without it is a test of its own (tests/test_extras.py).
set -euo pipefail
cd "$(dirname "$0")/.."
core=${CORE:-build/core}
if [ ! -x "$core/bin/python" ]; then
  mkdir -p "$(dirname "$core")"
  VENV=$core EXTRAS=dev CONSTRAINTS=tools/numpy2.txt tools/setup.sh
  "$core/bin/python" -m pip install -q --no-deps nuscenes-devkit pyquaternion cachetools
fi
python=$(cd "$core/bin" && pwd)/python
"$python" - <<'E'
import sys
import numpy, pyarrow, torch, zarr
print(f"Python {sys.version.split()[0]}, numpy {numpy.__version__}, torch {torch.__version__}, zarr {zarr.__version__}, pyarrow {pyarrow.__version__}")
sys.exit(int(numpy.__version__.split(".")[0]) < 2 and "this environment has numpy 1: name another folder (CORE)")
E
stand_ins=$PWD/tools/gpu_check/stand_ins
export PYTHONPATH=$PWD:$stand_ins/cv2:$stand_ins/sklearn
exec "$python" -m pytest -q tests/geometry tests/cache tests/batch tests/model tests/losses tests/systems tests/training \
  tests/inference tests/evaluation tests/test_taxonomy.py tests/test_entries.py tests/test_vocabulary_file.py tests/test_api.py "$@"
