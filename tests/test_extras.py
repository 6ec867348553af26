"""The core does without the extras: nothing of it imports them, and where one is needed the error says which."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.synthetic_store import write_synthetic_store

# as if the extras were not installed
WITHOUT = """
import sys
EXTRAS = {
    *("nuscenes", "pyquaternion", "trimesh", "embreex"),
    *("pypcd4", "plyfile", "cv2", "rosbags", "viser", "laspy", "obstore"),
}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.modules["MinkowskiEngine"] = None  # it is looked for first
"""


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + script, *arguments], capture_output=True, text=True, check=False
    )


def test_every_module_of_the_core_is_imported_without_the_extras():
    done = _run(
        "import importlib, pkgutil, ovps, pipelines, cache_schemas\n"
        "packages = (ovps, pipelines, cache_schemas)\n"
        "names = [m.name for p in packages for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.')]\n"
        "extras = {'ovps.model.sparse.minkowski', 'ovps.cache.remote', 'ovps.viewer.server', 'ovps.viewer.export'}\n"
        "extras |= {'pipelines.view', 'pipelines.export', 'pipelines.demo'}\n"
        "names = [n for n in names if not n.endswith('__main__') and n not in extras]\n"
        "assert len(names) > 120\n"
        "for name in names: importlib.import_module(name)\n"
    )
    assert done.returncode == 0, done.stderr


def test_training_and_scores_need_no_extra(tmp_path):
    store = write_synthetic_store(tmp_path / "store", frames=2)
    done = _run(
        "from pathlib import Path\n"
        "import ovps\n"
        "from tests.training.small import small_run\n"
        "store, run = map(Path, sys.argv[1:])\n"
        "small_run(store, run, 'steps=1')\n"
        "print(ovps.score(ovps.load_run(run, device='cpu'), ovps.open_store(store)).frames)\n",
        str(store),
        str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "2"


def test_nuscenes_is_read_without_its_devkit(mini_nuscenes):
    done = _run(
        "from pathlib import Path\n"
        "from ovps import datasets\n"
        "print(len(datasets.get('nuscenes').frames(Path(sys.argv[1]), 'v1.0-trainval', ('train', 'val'))))\n",
        str(mini_nuscenes),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4"]


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["cache", "info", "s3://bucket/store"], "remote"),
        (["world", "build", "--out", "never"], "driveworld"),
        (["data", "import", "drive.bag", "--list"], "ros"),
    ],
)
def test_a_command_that_needs_an_extra_names_it(command, extra):
    done = _run("from ovps.cli import main; main()", *command)
    assert done.returncode == 8, done.stderr
    assert f'pip install "ovps[{extra}]"' in " ".join(done.stderr.split())
    assert "is not installed" in done.stderr
