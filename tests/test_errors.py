"""Errors name the file, the frame and the remedy, and survive the way back from a worker process."""

import pickle
import re
from pathlib import Path

import pytest

from ovps import errors

TREE = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.OvpsError)]


def test_message_names_file_frame_and_remedy():
    error = errors.FrameError("image is truncated", path="a.jpg", frame="f1", remedy="Copy it again")
    assert str(error) == "image is truncated (file a.jpg, frame f1). Copy it again"


@pytest.mark.parametrize("kind", TREE, ids=lambda c: c.__name__)
def test_errors_cross_process_borders_unchanged(kind):
    error = kind("broken", path="a/b.zarr", frame="f1", remedy="Mend it")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.path, copy.frame, copy.remedy) == ("broken", "a/b.zarr", "f1", "Mend it")


def test_kinds_are_distinct_and_exit_codes_are_never_zero():
    kinds = [c.kind for c in TREE]
    assert len(kinds) == len(set(kinds))
    assert all(c.exit_code != 0 for c in TREE)


def test_a_path_in_bytes_is_told_as_text():
    """As the system names files in some of its own errors."""
    assert str(errors.ConfigError("gone", path=b"runs/\xc3\xa4")) == "gone (file runs/\u00e4)"


def test_every_error_is_of_a_kind_with_a_documented_exit_code():
    root = Path(errors.__file__).parents[1]
    files = [path for folder in ("ovps", "pipelines", "driveworld") for path in (root / folder).rglob("*.py")]
    assert len(files) > 200
    assert [str(path) for path in files if re.search(r"(raise|return) OvpsError\(", path.read_text("utf-8"))] == []
