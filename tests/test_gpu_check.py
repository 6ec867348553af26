"""The GPU check runs whole on a CPU; a stage that fails takes none with it; predictions are what they claim to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import MinkowskiEngine as ME
import psutil
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ovps.errors import CheckpointError
from pipelines.experiment import schema
from pipelines.experiment.join import SAME, read_part
from pipelines.experiment.schema import load_experiment
from pipelines.experiment.trainings import plan
from pipelines.train import resolve
from tools.gpu_check import minkowski, runner, stand_ins, training
from tools.gpu_check.predict import Ceilings, Cost, convolutions_counted, count
from tools.gpu_check.record import LOG, RESULTS, Recorder, read_lines
from tools.gpu_check.setting import ROOT, Setting
from tools.gpu_check.step import PROFILE

STAGES = "abcde"


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The real command with every stage; its folder, exit code and terminal."""
    out = tmp_path_factory.mktemp("gpu_check")
    command = [sys.executable, "-m", "tools.gpu_check", "--device", "cpu", "--minutes", "8"]
    folders = ["--out", str(out / "out"), "--work", str(out / "work"), "--wheels", str(out / "none")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *folders], cwd=ROOT, env=environment, capture_output=True, text=True)
    return out / "out", done


@pytest.mark.slow
def test_every_stage_runs_on_a_cpu(checked):
    out, done = checked
    lines = read_lines(out)
    failed = [f"{line.stage} {line.name}: {line.note}" for line in lines if line.ok is False]
    assert not failed, (out / LOG).read_text()[-5000:]
    assert done.returncode == 0, done.stderr
    assert [line.stage for line in lines if line.name == "stage"] == list(STAGES)
    named = {(line.stage, line.name): line for line in lines}
    for stage, name in [
        ("a", "copy bandwidth"),
        ("a", "matrix product bf16"),
        ("b", "ME: rows keep their order"),
        ("b", "training step, gradient"),
        ("b", "resumed run"),
        ("b", "pfc trained and scored"),
        ("c", "whole stage"),
        ("d", "step, batch 2"),
        ("d", "host waits, batch 2"),
        ("d", "step with CLIP online, batch 2"),
        ("e", "trained: ovps, b12n4, seed 0"),
    ]:
        assert (stage, name) in named
    # every timing of stages c and d of something that was counted stands beside its prediction
    for line in (named["c", "encoder fp32, batch 1"], named["d", "step, batch 2"]):
        assert line.predicted is not None
        assert line.value is not None
        assert line.predicted > 0 < line.value


@pytest.mark.slow
def test_the_table_comes_last(checked):
    out, done = checked
    table = done.stdout[done.stdout.rindex("GPU check") :]
    assert done.stdout.index("== stage e") < done.stdout.rindex("GPU check")
    for line in read_lines(out):
        assert line.name.split()[0] in table
    assert "0 failed" in table.splitlines()[-1]


@pytest.mark.slow
def test_what_was_trained_can_be_joined(checked):
    out, _ = checked
    part = read_part(out)
    assert [(run.system, run.split, run.seed) for run in part.results.runs] == [
        ("ovps", "b12n4", 0),
        ("openscene", "b12n4", 0),
    ]
    assert (out / PROFILE).read_text().count("\n") > 10


# --- stages of a test ---------------------------------------------------------------------------------------------


STAGE = """
import os, subprocess, sys, time
def run(setting, recorder):
    recorder.add("before", 1.0)
    {}
"""
BODIES = {
    "measures": "recorder.add('measured', 2.0)",
    "raises": "raise ValueError('no such thing')",
    "dies": "os._exit(7)",
    "hangs": "recorder.add('child', float(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)",
}


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Runs stages of `BODIES`; the lines they left."""

    def run(names, minutes=1.0):
        for name in names:
            (tmp_path / f"stage_{name}.py").write_text(STAGE.format(BODIES[name]))
        monkeypatch.syspath_prepend(str(tmp_path))
        setting = Setting("cpu", True, tmp_path, tmp_path, tmp_path)
        modules = {name: (f"stage_{name}", 1.0) for name in names}
        runner.run_stages(setting, names, minutes, modules, preload=["tools.gpu_check.runner"])
        return read_lines(tmp_path)

    return run


def test_a_stage_that_fails_takes_none_with_it(stages, capfd, tmp_path):
    lines = stages(["raises", "dies", "measures"])
    told = [(line.stage, line.name, line.ok) for line in lines]
    assert told == [
        ("raises", "before", None),
        ("raises", "error", False),
        ("raises", "stage", False),
        ("dies", "before", None),
        ("dies", "stage", False),
        ("measures", "before", None),
        ("measures", "measured", None),
        ("measures", "stage", True),
    ]
    assert "no such thing" in lines[1].note
    assert "exit code 7" in lines[4].note
    assert "ValueError: no such thing" in (tmp_path / LOG).read_text()


def test_a_stage_that_overruns_is_ended_with_its_children(stages):
    lines = {(line.stage, line.name): line for line in stages(["measures", "hangs", "measures"], minutes=0.2)}
    end, child = lines["hangs", "stage"], lines["hangs", "child"]
    assert end.ok is False
    assert "ended after its" in end.note
    assert child.value is not None
    assert not psutil.pid_exists(int(child.value)) or psutil.Process(int(child.value)).status() == "zombie"
    assert lines["measures", "stage"].ok


def test_a_line_is_on_the_disk_when_it_is_told_and_half_a_line_is_left_out(tmp_path):
    recorder = Recorder(tmp_path, "a")
    recorder.add("within", 0.5, tolerance=1.0)
    recorder.add("beyond", 2.0, tolerance=1.0)
    recorder.add("no number", float("nan"), tolerance=1.0)
    with recorder.guarded("fails"):
        raise RuntimeError("why")
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"stage": "a", "na')
    lines = read_lines(tmp_path)
    assert [(line.name, line.ok) for line in lines] == [
        ("within", True),
        ("beyond", False),
        ("no number", False),
        ("fails", False),
    ]
    assert "why" in lines[-1].note


@pytest.mark.slow
def test_results_of_a_gpu_stand_on_the_ground_of_table1_and_the_split_of_the_paper_comes_first(monkeypatch):
    monkeypatch.chdir(training.OWN)
    experiment, table = training.whole_experiment(), load_experiment("table1")
    for name in SAME:
        assert getattr(experiment, name) == getattr(table, name)
    schema.check(experiment, "gpu_check")
    everything = {t.key for t in plan(experiment)}
    ordered = training.in_order(experiment)
    assert len(ordered) == len(everything) == len({t.key for t in ordered})
    own = [t.split for t in ordered if t.split != "all"]
    assert own == sorted(own, key=experiment.splits.index)
    seeds = [t.seed for t in ordered if t.split == "b12n4"]
    assert seeds == sorted(seeds)
    steps = {Path(t.system).stem: resolve(t.options).steps for t in ordered}
    assert steps["ovps"] == steps["pfc"] == steps["openscene"] == 2000
    assert steps["ovps_long"] == steps["pfc_long"] == steps["closed_set_long"] == 12000
    long, short = ({t.system: resolve(t.options) for t in ordered}[name] for name in ("pfc_long.yaml", "pfc"))
    assert long.model_copy(update={"steps": short.steps}) == short


# --- predictions ----------------------------------------------------------------------------------------------------


def test_flops_are_torchs_own_and_bytes_those_of_inputs_and_outputs():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))
    image = torch.randn(2, 3, 8, 8)
    with Cost() as cost:
        net(image).sum().backward()
    with FlopCounterMode(display=False) as reference:
        net(image).sum().backward()
    assert cost.flops == reference.get_total_flops()
    a, b = torch.randn(4, 5), torch.randn(5, 6)
    with Cost() as cost:
        a @ b
    assert cost.operations == [(2 * 4 * 5 * 6, 4 * (4 * 5 + 5 * 6 + 4 * 6))]


def test_seconds_are_those_of_what_binds_each_operation():
    cost = Cost(operations=[(100.0, 1.0), (1.0, 100.0), (0.0, 0.0)])
    assert cost.seconds(Ceilings({"fp32": 10.0}, 20.0, 0.25), "fp32") == 100 / 10 + 100 / 20 + 0.25


def test_sparse_convolutions_count_a_product_for_each_pair_of_neighbours():
    coords = minkowski.cloud(60, 5)
    near = (coords[:, None, 1:] - coords[None, :, 1:]).abs().amax(-1) <= 1
    pairs = int((near & (coords[:, None, 0] == coords[None, :, 0])).sum())
    halves = (coords // torch.tensor([1, 2, 2, 2])).unique(dim=0)
    layers = nn.ModuleList(
        [
            ME.MinkowskiConvolution(4, 6, kernel_size=3, dimension=3),
            ME.MinkowskiConvolution(6, 8, kernel_size=2, stride=2, dimension=3),
            ME.MinkowskiConvolutionTranspose(8, 2, kernel_size=2, stride=2, dimension=3),
            ME.MinkowskiConvolution(2, 3, kernel_size=1, dimension=3),
        ]
    )
    cost = Cost()
    with torch.no_grad(), convolutions_counted(layers, cost, training=False):
        x = ME.SparseTensor(torch.randn(len(coords), 4), coordinates=coords)
        for layer in layers:
            x = layer(x)
    assert len(halves) < len(coords)
    voxels = len(coords)  # each has one parent, on the way down and up
    expected = [pairs * 4 * 6, voxels * 6 * 8, voxels * 8 * 2, voxels * 2 * 3]
    assert [flops for flops, _ in cost.operations] == [2 * e for e in expected]


def test_waits_are_where_the_host_must_know():
    def action():
        x = torch.randn(10)
        float(x.sum()), x.nonzero(), x[x > 0], torch.bincount(torch.arange(3))
        x[torch.tensor([1, 2])] + 1

    assert count(action, nn.Linear(1, 1)).waits == 4


# --- the other machine ------------------------------------------------------------------------------------------------


def test_a_wheel_is_taken_only_if_it_fits(tmp_path):
    wanted = "+pt2.11.0.cu130"
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    for name in (
        f"minkowskiengine-0.5.4+pt2.10.0.cu130-{tag}-{tag}-linux_x86_64.whl",
        f"minkowskiengine-0.5.4+pt2.11.0.cpu-{tag}-{tag}-linux_x86_64.whl",
        "minkowskiengine-0.5.4+pt2.11.0.cu130-cp39-cp39-linux_x86_64.whl",
    ):
        (tmp_path / name).touch()
    assert minkowski.carried(tmp_path, wanted) is None
    right = tmp_path / f"minkowskiengine-0.5.4+pt2.11.0.cu130-{tag}-{tag}-linux_x86_64.whl"
    right.touch()
    assert minkowski.carried(tmp_path, wanted) == right
    assert minkowski.fits("0.5.4+pt2.11.0.cpu", "+pt2.11.0.")
    assert not minkowski.fits("0.5.4+pt2.11.0.cpu", wanted)
    assert not minkowski.fits(None, wanted)


def test_the_devkit_works_without_what_it_imports_for_drawing(monkeypatch):
    assert stand_ins.missing() == []
    monkeypatch.setattr(stand_ins, "find_spec", lambda name: None)
    folders = stand_ins.missing()
    assert [folder.name for folder in folders] == ["cv2", "sklearn"]
    code = (
        "import cv2, sklearn.metrics, ovps.datasets as d; d.get('nuscenes');"
        "from nuscenes.nuscenes import NuScenes; from nuscenes.utils.geometry_utils import points_in_box;"
        "print(cv2.__file__, sklearn.metrics.__file__)"
    )
    path = os.pathsep.join(map(str, [*folders, ROOT]))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all("stand_ins" in file for file in done.stdout.split())


def test_a_result_of_one_stage_has_a_letter_that_the_docs_explain():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {letter} |" in page for letter in runner.STAGES)


def test_an_error_about_what_lies_in_the_work_folder_names_that_folder(tmp_path):
    work = tmp_path / "my work"
    recorder = Recorder(tmp_path, "e", work=work)
    there = CheckpointError("the folder holds another run", path=work / "runs" / "a", remedy="x" * 400)
    recorder.failed("left", there)
    recorder.failed("elsewhere", CheckpointError("no", path=tmp_path))
    left, elsewhere = read_lines(tmp_path)
    assert left.note.endswith(f"If another version of ovps left it there: rm -r '{work}'")
    assert "rm -r" not in elsewhere.note
