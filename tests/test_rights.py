"""Files and folders that may not be read: nothing is damaged, and nothing is to be deleted or made again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovps.cache.reader import Store
from ovps.cache.where import storage_of
from ovps.errors import CheckpointError, ConfigError, CorruptStoreError, StorageError, right_to_read
from ovps.files import refusals
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.recording import write_recording
from tests.pipelines.untrained import untrained

# root reads everything unless it gives that up
WITHOUT_RIGHTS = (
    [shutil.which("setpriv") or "setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
)


@pytest.fixture(scope="module")
def made(tmp_path_factory, kitti_world):
    folder = tmp_path_factory.mktemp("rights")
    run, cache = untrained(folder)
    world = write_mini_nuscenes(folder / "world")
    (folder / "words.txt").write_text("car")
    return {
        "words": folder / "words.txt",
        "run": run,
        "cache": cache,
        "world": world,
        "recording": write_recording(folder / "recording"),
        "kitti": Path(shutil.copytree(kitti_world, folder / "kitti")),
    }


def partition(places: dict[str, Path]) -> Path:
    """The one that holds the frames of val."""
    (ref,) = {ref.partition for ref in Store.open(places["cache"]).frames if ref.subset == "val"}
    return next((places["cache"] / "partitions").glob(f"{ref}*"))


FOLDER = "precompute --dataset folder --dataroot {recording} --encoder demo --workers 0 --out {run}-y"
KITTI = "precompute --dataset semantickitti --dataroot {kitti} --encoder demo --workers 0 --out {run}-k"
CLOSED = {
    "store.json": (lambda p: p["cache"] / "store.json", "cache info {cache}"),
    "the store": (lambda p: p["cache"], "cache info {cache}"),
    "a manifest": (lambda p: next((p["cache"] / "manifest").iterdir()), "cache verify {cache}"),
    "a partition": (partition, "eval --run {run} --cache {cache}"),
    "a partition, verified": (partition, "cache verify {cache}"),
    "a file": (lambda p: next(f for f in partition(p).rglob("*") if f.name == "zarr.json"), "cache verify {cache}"),
    "a checkpoint": (lambda p: p["run"] / "checkpoints" / "last.pt", "eval --run {run} --cache {cache}"),
    "the vocabulary of a run": (lambda p: p["run"] / "vocabulary.safetensors", "eval --run {run} --cache {cache}"),
    "settings of a run": (lambda p: p["run"] / "run.json", "predict --run {run} --cache {cache} --out {run}-out"),
    "a run": (lambda p: p["run"], "eval --run {run} --cache {cache}"),
    "words": (lambda p: p["words"], "eval --run {run} --cache {cache} --vocab {words}"),
    "words to be": (lambda p: p["words"], "vocab build --names {words} --encoder demo --out {run}-v"),
    "tables": (lambda p: p["world"] / "v1.0-trainval" / "scene.json", "precompute --dataroot {world} --out {run}-z"),
    "its calibration": (lambda p: next(p["recording"].glob("calibration.*")), "data check {recording}"),
    "a recording": (lambda p: p["recording"], "data check {recording}"),
    "its points": (lambda p: p["recording"] / "points", "data check {recording}"),
    "a sweep": (lambda p: p["recording"] / "points" / "000.bin", FOLDER),
    "its images": (lambda p: p["recording"] / "images", "data check {recording}"),
    "images of a sequence": (lambda p: p["kitti"] / "sequences" / "00" / "image_2", KITTI),
}


# a process that has given up root's rights closes a place, runs a command and opens it again, case by case
PROGRAM = """
import contextlib, io, json, os, sys
from ovps import cli

answers = {}
for name, (place, words) in json.loads(sys.argv[1]).items():
    sys.argv, out, mode, code = ["ovps", *words, "--json"], io.StringIO(), os.stat(place).st_mode, 0
    os.chmod(place, 0)
    try:
        with contextlib.redirect_stdout(out):
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        os.chmod(place, mode)
    answers[name] = (code, out.getvalue())
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(made) -> dict[str, tuple[int, str]]:
    """Exit code and output of each command while what it reads is closed."""
    cases = {name: (str(find(made)), shlex.split(line.format(**made))) for name, (find, line) in CLOSED.items()}
    command = [*WITHOUT_RIGHTS, sys.executable, "-c", PROGRAM, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_that_may_not_be_written_is_named_and_not_what_was_tried_in_it(tmp_path):
    closed = tmp_path / "pages"
    closed.mkdir(mode=0o500)
    program = f"from pathlib import Path; from ovps.files import check_writable; check_writable(Path({str(closed)!r}))"
    command = [*WITHOUT_RIGHTS, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert f"cannot write: Permission denied (file {closed}). Make {closed} writable" in done.stderr


CHECKS = """
import sys
from pathlib import Path
from ovps.inference import kitti_submission, plain_labels, submission

folder, points = Path(sys.argv[1]), {"08_000000": 1}
print(*submission.check_submission(folder, "val", points, None), sep="\\n")
print(*plain_labels.check_labels(folder, "val", points, ()), sep="\\n")
print(*kitti_submission.FORMAT.check(folder, "val", points, None), sep="\\n")
Path(sys.argv[2]).chmod(0)
kitti_submission.FORMAT.check(folder, "val", points, None)
"""


def test_predictions_that_may_not_be_read_are_not_missing(tmp_path):
    kitti = tmp_path / "sequences" / "08" / "predictions" / "000000.label"
    names = ("val/submission.json", "panoptic/val/08_000000_panoptic.npz", "labels/val/08_000000.npz")
    files = [*(tmp_path / name for name in names), kitti]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0)
    done = subprocess.run(
        [*WITHOUT_RIGHTS, sys.executable, "-c", CHECKS, tmp_path, kitti.parent],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    kitti.parent.chmod(0o700)
    told = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert told == [f"may not be read: {right_to_read(file)}" for file in files]
    assert f"PermissionError: [Errno 13] Permission denied: {str(kitti.parent)!r}" in done.stderr


@pytest.mark.parametrize("closed", [["partitions"], ["manifest", ".lock"]])
def test_all_rights_that_a_store_needs_are_asked_for_before_anything_is_computed(made, monkeypatch, closed):
    cache, access = made["cache"], os.access
    with storage_of(cache).exclusive():
        pass  # there is a lock now
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in closed and access(path, mode))
    with pytest.raises(StorageError, match=rf"no right to write {' and '.join(closed)} .*chmod -R u\+w {cache}"):
        storage_of(cache).exclusive()


@pytest.mark.parametrize("name", CLOSED)
def test_what_may_not_be_read_is_to_be_made_readable(made, answers, name):
    place = CLOSED[name][0](made)
    code, output = answers[name]
    assert code in range(2, 10), output
    told = json.loads(output)
    wanted = "u+rx" if place.is_dir() else "u+r"
    assert told["remedy"].endswith(f"the right to read it: chmod {wanted} {place}"), told
    assert "may not be read" in told["message"]
    assert Path(told["path"]).is_relative_to(place), told
    assert "elete" not in output


def test_the_folder_that_is_closed_is_named_and_not_what_lies_in_it(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b" / "file"
    inner.parent.mkdir(parents=True)
    inner.touch()
    assert right_to_read(inner).endswith(f"chmod u+r {inner}")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "a")
    assert right_to_read(inner).endswith(f"chmod u+rx {tmp_path / 'a'}")


def test_another_remedy_gives_way_only_where_reading_was_refused(tmp_path, monkeypatch):
    closed = tmp_path / "x"
    closed.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)

    def raised(cause: OSError) -> CorruptStoreError:
        try:
            raise CorruptStoreError("damaged", path=tmp_path, remedy="Delete it") from cause
        except CorruptStoreError as error:
            return error

    assert raised(OSError(5, "Input/output error")).remedy == "Delete it"
    denied = raised(PermissionError(13, "Permission denied", str(closed)))
    assert (denied.message, denied.remedy) == ("may not be read", right_to_read(closed))
    assert (denied.path, raised(OSError(5, "Input/output error")).path) == (str(closed), str(tmp_path))
    for other in (
        PermissionError(13, "Permission denied"),  # of a port
        PermissionError(13, "Permission denied", str(tmp_path / "to be written")),
    ):
        assert (raised(other).message, raised(other).remedy) == ("damaged", "Delete it")
    assert ConfigError("no", remedy="Do that").remedy == "Do that"
    with (
        pytest.raises(CheckpointError, match=f"Make {tmp_path / 'x'} writable, then again") as told,
        refusals(tmp_path, "then again", CheckpointError),
    ):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))
    assert "chmod" not in str(told.value)
    with pytest.raises(StorageError, match=r"a disk that can be written$"), refusals(tmp_path):
        raise OSError(30, "Read-only file system")
    with pytest.raises(StorageError, match="Free some space, or raise the limit on file sizes"), refusals(tmp_path):
        raise OSError("150530 requested and 25600 written")  # numpy on a full disk: no number of the error
