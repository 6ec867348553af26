from __future__ import annotations

import subprocess
import sys

import pytest

from ovps import datasets
from ovps.errors import ConfigError
from ovps.taxonomy import load_taxonomy


@pytest.mark.parametrize("name", datasets.KNOWN)
def test_every_known_data_set_is_whole(name):
    dataset = datasets.get(name)
    assert name == dataset.NAME
    assert load_taxonomy(dataset.TAXONOMY).classes
    for function in ("default_root", "load_frames", "read_points", "read_labels", "read_image"):
        assert callable(getattr(dataset, function))


def test_unknown_data_set():
    with pytest.raises(ConfigError, match=r"no data set named 'waymo'.*nuscenes"):
        datasets.get("waymo")


def test_readers_do_not_import_the_devkit():
    # workers read files of many frames; the devkit would cost each of them seconds and hundreds of megabytes
    code = "import sys; import ovps.datasets as d; d.get('nuscenes'); sys.exit('nuscenes.nuscenes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_root(monkeypatch, tmp_path):
    dataset = datasets.get("nuscenes")
    monkeypatch.setenv("OVPS_NUSCENES", str(tmp_path))
    assert dataset.default_root() == tmp_path
    monkeypatch.delenv("OVPS_NUSCENES")
    assert dataset.default_root().parts == ("data", "nuscenes")
