"""Memory, threads and open files that are lacking are told as that: never as damage, a bad frame or a wrong option."""

from __future__ import annotations

import ast
import errno
import io
import mmap
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from ovps import cli, shortage
from ovps.cache.reader import Store
from ovps.datasets.reading import read_npz_uint16
from ovps.errors import CheckpointError, CorruptStoreError, FrameError, SetupError
from ovps.shortage import shortage_of
from ovps.training.checkpoint import load_checkpoint
from tests.helpers.synthetic_store import write_synthetic_store

ROOT = Path(__file__).parents[1]
NO_MEMORY = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "/somewhere/a file")
NO_THREAD = RuntimeError("can't start new thread")
NO_FORK = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
NO_FILE = OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/somewhere/a file")
EACH = pytest.mark.parametrize("lack", [MemoryError(), NO_MEMORY, NO_THREAD, NO_FORK, NO_FILE], ids=repr)


def asked_too_much(of: str) -> Exception:
    """What a library raises that is asked for a petabyte."""
    try:
        np.empty(2**50) if of == "numpy" else torch.empty(2**50)
    except (MemoryError, RuntimeError) as error:
        return error
    raise AssertionError("this machine has it")


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (asked_too_much("numpy"), "memory"),
        (asked_too_much("torch"), "memory"),
        (NO_MEMORY, "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (NO_THREAD, "threads"),
        (NO_FORK, "threads"),
        (caused(RuntimeError("Nanny failed to start."), NO_THREAD), "threads"),
        (NO_FILE, "files"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "gpu"),
        (BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 3), None),
        (OSError(errno.ENOENT, "No such file or directory"), None),
        (RuntimeError("shape mismatch"), None),
        (ValueError("can't start new thread"), None),
        (caused(CorruptStoreError("damaged"), asked_too_much("numpy")), None),
    ],
)
def test_what_is_lacking(error, short):
    assert shortage_of(error) == short


@EACH
def test_a_store_is_not_damaged_for_want_of_it(lack, tmp_path, monkeypatch):
    store = Store.open(write_synthetic_store(tmp_path / "store", frames=1))

    def lacking(*arguments, **options):
        raise lack

    monkeypatch.setattr(zarr, "open_group", lacking)
    with pytest.raises(type(lack)):
        store.read(store.frames[0])


@EACH
def test_a_checkpoint_is_not_damaged_for_want_of_it(lack, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    torch.save({"format": "another"}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, {})

    def lacking(*arguments, **options):
        raise lack

    monkeypatch.setattr(torch, "load", lacking)
    with pytest.raises(type(lack)):
        load_checkpoint(path, {})


@EACH
def test_a_frame_is_not_bad_for_want_of_it(lack, tmp_path, monkeypatch):
    path = tmp_path / "labels.npz"
    np.savez(path, data=np.arange(3, dtype=np.uint16))
    assert read_npz_uint16(str(path), "token", "again").tolist() == [0, 1, 2]
    monkeypatch.setattr(shortage, "_could_have", lambda size: False)

    def lacking(*arguments, **options):
        raise lack

    monkeypatch.setattr(np, "load", lacking)
    with pytest.raises(type(lack)):
        read_npz_uint16(str(path), "token", "again")


def test_a_header_that_asks_for_more_than_a_file_can_hold_is_damage(tmp_path, monkeypatch):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<u2", "fortran_order": False, "shape": (2**49,)})
    path = tmp_path / "labels.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", content.getvalue() + bytes(6))
    with pytest.raises(FrameError, match="cannot be read"):
        read_npz_uint16(str(path), "token", "again")

    def nothing_left(*arguments):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", nothing_left)
    with pytest.raises(MemoryError):
        read_npz_uint16(str(path), "token", "again")


@EACH
def test_the_command_line_tells_it_with_a_remedy(lack, monkeypatch, capsys, tmp_path):
    def lacking(*arguments, **options):
        raise lack

    monkeypatch.setattr("ovps.cache.info.store_info", lacking)
    monkeypatch.setattr(sys, "argv", ["ovps", "cache", "info", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 8
    told = capsys.readouterr().err
    assert told.startswith("setup error: ")
    assert told.count("\n") == 1


def test_the_limits_of_threads_are_named(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (4321, 4321))
    monkeypatch.setattr("ovps.machine.most_threads", lambda: 512)
    with pytest.raises(SetupError) as told, shortage.told():
        raise RuntimeError("can't start new thread")
    for named in ("4,321 threads and processes (ulimit -u)", "512 threads and processes (docker run --pids-limit)"):
        assert named in str(told.value)


VERIFY = """
import resource, sys
from ovps import cli
import zarr, ovps.cache.verify
size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 2**22, size + 2**22))
sys.argv = ["ovps", "cache", "verify", sys.argv[1]]
cli.main()
"""


def test_verify_calls_no_sound_store_damaged_where_threads_find_no_room(tmp_path):
    store = write_synthetic_store(tmp_path / "store", frames=2)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", VERIFY, store], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 8, ended.stderr
    assert "setup error: not enough " in ended.stderr
    assert "ulimit -v unlimited" in ended.stderr
    assert "damaged" not in ended.stderr + ended.stdout


# Every reader that turns what the system raises into an error of a file

GENERAL = {"OSError", "RuntimeError", "MemoryError", "Exception"}
AS_THEY_ARE = {  # have another way
    "ovps/batch/loader_workers.py",  # knows what to do about shared memory and files
    "ovps/__main__.py",  # what else cannot be loaded
    "ovps/cli.py",  # a disk without room
    "ovps/machine.py",  # locks of processes
    "ovps/shortage.py",
    "ovps/viewer/server.py",  # a port that is taken
}


def converters(file: Path) -> list[int]:
    """Lines where an exception of a general kind becomes another."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ExceptHandler) and node.type is not None and not isinstance(node.type, ast.Call):
            kinds = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}
            raises = any(isinstance(part, ast.Raise) and part.exc is not None for part in ast.walk(node))
            if raises and kinds & GENERAL:
                found.append(node.lineno)
    return found


FILES = sorted(path for folder in ("ovps", "pipelines", "driveworld") for path in (ROOT / folder).rglob("*.py"))


def test_whatever_makes_an_error_of_a_file_lets_shortages_pass():
    places = {path.relative_to(ROOT).as_posix(): converters(path) for path in FILES}
    assert {file: lines for file, lines in places.items() if lines and file not in AS_THEY_ARE} == {}


def test_no_thread_to_read_in_is_told_in_one_sentence_and_nothing_else(tmp_path):
    """Zarr left a coroutine that nobody awaited, and a traceback when the process ended."""
    write_synthetic_store(tmp_path / "zarr", frames=1)
    (tmp_path / "refuse.py").write_text(
        "import sys, threading\n"
        "start = threading.Thread.start\n"
        "def refusing(thread):\n"
        "    if thread.name == 'zarr_io':\n"
        '        raise RuntimeError("can\'t start new thread")\n'
        "    start(thread)\n"
        "threading.Thread.start = refusing\n"
        "from ovps.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, tmp_path / "refuse.py", "predict", "--cache", tmp_path / "zarr", "--out", tmp_path / "p"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 8
    assert ended.stderr.splitlines()[-1].startswith("setup error: not enough threads: can't start new thread")
    assert not [word for word in ("Traceback", "awaited") if word in ended.stderr]
