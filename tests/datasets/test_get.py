from __future__ import annotations

import subprocess
import sys

import pytest

from ovps import datasets
from ovps.errors import ConfigError


@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_is_found_by_its_own_name(name):
    dataset = datasets.get(name)
    assert dataset.name == name
    assert dataset.taxonomy.classes
    assert dataset.default_version


def test_unknown_data_set():
    with pytest.raises(ConfigError, match=r"no dataset named 'waymo'.*nuscenes.*ovps\.datasets"):
        datasets.get("waymo")


def test_readers_do_not_import_the_devkit():
    # workers read files of many frames; the devkit would cost each of them seconds and hundreds of megabytes
    code = "import sys; import ovps.datasets as d; d.get('nuscenes'); sys.exit('nuscenes.nuscenes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("OVPS_SEMANTIC_KITTI", str(tmp_path))
    assert datasets.default_root("semantic-kitti") == tmp_path
    monkeypatch.delenv("OVPS_SEMANTIC_KITTI")
    assert datasets.default_root("semantic-kitti").parts == ("data", "semantic-kitti")
