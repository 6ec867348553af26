"""Where the command line begins: libraries that cannot be loaded are one sentence, with the exit code of set-up."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def begin(
    *arguments: str, stand_ins: Path, limit: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call the command line where some modules are others."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "ovps", *arguments],
        env=os.environ | {"PYTHONPATH": f"{stand_ins}:{ROOT}"} | environment,
        cwd=stand_ins,
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "arguments"), [("typer", ["--version"]), ("torch", ["eval", "--run", "r", "--cache", "c"])]
)
@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("ImportError('libx.so: failed to map segment')", "cannot be loaded: libx.so: failed to map segment"),
        ("OSError('libx.so: failed to map segment from shared object')", "cannot be loaded: libx.so"),
        ("MemoryError()", "not enough memory"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_a_fault_of_the_installation(tmp_path, module, arguments, raised, told):
    (tmp_path / f"{module}.py").write_text(f"raise {raised}\n")
    ended = begin(*arguments, stand_ins=tmp_path)
    assert ended.returncode == 8, ended.stderr
    assert ended.stderr.startswith(f"setup error: {told}")
    assert ended.stderr.count("\n") == 1
    ended = begin(*arguments, "--json", stand_ins=tmp_path)
    assert ended.returncode == 8
    assert json.loads(ended.stdout)["error"] == "setup"


@pytest.mark.parametrize("megabytes", [500, 4000])
def test_a_limit_of_the_address_space_is_named(tmp_path, megabytes):
    """Into the first torch's libraries do not fit, with the second OpenBLAS waits for ever: neither is begun."""
    (tmp_path / "typer.py").write_text("raise AssertionError('something was imported')\n")
    ended = begin("eval", "--run", "r", "--cache", "c", stand_ins=tmp_path, limit=megabytes << 20)
    assert ended.returncode == 8, ended.stderr
    assert "setup error: not enough memory" in ended.stderr
    assert f"limited to {megabytes:,} MB: raise the limit (ulimit -v unlimited)" in ended.stderr
    assert "limit memory by a container or cgroup instead" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_current_folder_that_was_removed_is_named(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    command = f"cd {here}; rmdir {here}; exec {sys.executable} -m ovps cache info {tmp_path} --json"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 8, ended.stderr
    assert ended.stderr == "setup error: the current folder has been removed. Go to one that is there (cd)\n"
    assert json.loads(ended.stdout)["message"] == "the current folder has been removed"


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("train", "--help")])
def test_help_is_given_however_little_memory_there_is(tmp_path, arguments):
    ended = begin(*arguments, stand_ins=tmp_path, limit=500 << 20)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def test_other_errors_are_not_taken_for_it(tmp_path):
    (tmp_path / "typer.py").write_text("raise OSError(5, 'Input/output error')\n")
    ended = begin("--version", stand_ins=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_an_older_encoding_of_the_output_ends_no_command(tmp_path):
    (tmp_path / "typer.py").write_text("import sys\nprint('50.1 \u00b1 0.2')\nsys.exit(0)\n")
    ended = begin("--version", stand_ins=tmp_path, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "50.1 \\xb1 0.2\n", "")


def test_what_others_print_is_no_part_of_the_json(tmp_path):
    prints = "import os\nprint('loading', flush=True)\nos.system('echo another process')\n"
    (tmp_path / "typer.py").write_text(f"{prints}raise ImportError('libx.so')\n")
    ended = begin("cache", "info", "zarr", "--json", stand_ins=tmp_path)
    assert json.loads(ended.stdout)["error"] == "setup"
    assert ended.stderr.splitlines()[:2] == ["loading", "another process"]
    assert begin("cache", "info", "zarr", stand_ins=tmp_path).stdout == "loading\nanother process\n"


def test_the_backend_of_a_notebook_is_none_of_the_command(tmp_path):
    """Its kernel leaves MPLBACKEND to all that it starts, also where that one's matplotlib does not know it."""
    done = begin("doctor", "--json", stand_ins=tmp_path, MPLBACKEND="module://of_another_environment")
    (found,) = (check for check in json.loads(done.stdout)["checks"] if check["name"] == "imports")
    assert found["status"] == "ok", found


def test_settings_of_dask_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "x.yaml").write_text("a: [")
    words = ["precompute", "--dataset", "nuscenes", "--dataroot", "world", "--encoder", "demo", "--workers", "0"]
    done = begin(*words, stand_ins=tmp_path, DASK_CONFIG=str(tmp_path))
    assert done.returncode == 8, done.stderr
    assert f"{tmp_path}/x.yaml" in done.stderr
    assert done.stderr.rstrip().endswith(f"(file {tmp_path}). Mend its files, or move them away")
