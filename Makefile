PYTHON ?=
CONFIG ?= driveworld
SYSTEMS ?=
MINUTES ?= 9
STAGES ?=
DEVICE ?=
PYTHON_VERSION ?= 3.12
MINKOWSKI ?=
CORE ?= build/core
FAULTS ?= 300
SEED ?= 0
JOBS ?= $(if $(filter driveworld driveworld-kitti,$(CONFIG)),2,1)
BIN := .venv/bin
# what people make and put here, which takes days or cannot be made again
MADE := data zarr zarr.query query.html demo runs results reports
# two processes with one thread each: threads of several that wait for one another spin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup reproduce reproduce-full demo test test-slow test-all corrupt chaos core-check lint bench real-check gpu-check gpu-wheels clean

help:  ## print this
	@echo "ovps: open-vocabulary 3D panoptic segmentation"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.11   the interpreter that .venv is made with"
	@echo "  CONFIG=driveworld   what make reproduce runs; driveworld-kitti, nuscenes-mini, or nuscenes, the paper's"
	@echo "  SYSTEMS=ovps        which systems, comma-separated; those of the experiment without it"
	@echo "  MINUTES=9 STAGES=a,b DEVICE=cpu         of make gpu-check; all stages without STAGES"
	@echo "  PYTHON_VERSION=3.12 MINKOWSKI=a.whl    of make gpu-wheels; MinkowskiEngine is built without MINKOWSKI"
	@echo "  FAULTS=300 SEED=0                       of make chaos"
	@echo "  JOBS=2              trainings at a time, each with one thread; 1 with CONFIG=nuscenes"

setup:  ## make .venv: pinned packages and MinkowskiEngine built from source
	@PYTHON=$(PYTHON) tools/setup.sh

reproduce: setup  ## data set, CLIP features, trainings, evaluations, report; only what is missing
	$(BIN)/ovps experiment run $(CONFIG) --jobs $(JOBS) $(if $(SYSTEMS),--systems $(SYSTEMS))

reproduce-full: setup  ## the paper's table and the ablation, three seeds: hours; stopped, it goes on where it was
	$(BIN)/ovps experiment run table1 --jobs $(JOBS) --yes
	$(BIN)/ovps experiment run ablation --jobs $(JOBS) --yes

demo: setup  ## a first picture in two minutes: one street, labelled by a run that ships; no training
	$(BIN)/ovps demo

test: setup  ## the default test suite, under 15 minutes on 2 cores
	$(PYTEST)

test-slow: setup  ## the slow tests that need no real frames: CI runs them after the default suite
	$(PYTEST) -m "slow and not real_data"

test-all: setup  ## the default suite and the slow tests
	$(PYTEST) -m "slow or not slow"

corrupt: setup  ## corrupt input of every data set: what comes of it, counted
	$(PYTEST) tests/corrupt

chaos: setup  ## faults against a store and those who use it, FAULTS of them: what tells, what mends, bytes lost or wrong
	$(BIN)/python -m tools.chaos --faults $(FAULTS) --seed $(SEED)

core-check:  ## the core on numpy 2 and without MinkowskiEngine, in an environment of its own (CORE=build/core, made if missing: several GB)
	@PYTHON=$(PYTHON) CORE=$(CORE) tools/core_check.sh

lint: setup  ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## speed as ratios against named references: one table, and JSON
	$(BIN)/python -m benchmarks

real-check: setup  ## the same code on real frames, of nuScenes and of KITTI; needs OVPS_REAL_DATA
	@test -n "$$OVPS_REAL_DATA" || { echo "set OVPS_REAL_DATA to a folder with dataroots nuscenes/, kitti/, kitti_raw/, semantickitti/" >&2; exit 2; }
	$(BIN)/python -m pytest -m real_data -v -s --durations=5

gpu-check: setup  ## facts, checks and measurements on a GPU, in MINUTES; docs/gpu.md
	$(BIN)/python -m tools.gpu_check --minutes $(MINUTES) $(if $(STAGES),--stages $(STAGES)) $(if $(DEVICE),--device $(DEVICE))

gpu-wheels: setup  ## wheels for a GPU machine without a network, in build/wheels; docs/gpu.md
	$(BIN)/python -m tools.gpu_wheels --python-version $(PYTHON_VERSION) $(if $(MINKOWSKI),--minkowski $(MINKOWSKI))

clean:  ## remove .venv, build and the caches of tools; data, stores, runs and results stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@set -- $(wildcard $(MADE)); [ $$# -eq 0 ] || echo "left, to be deleted by hand if nobody needs them: $$*"
