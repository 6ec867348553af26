"""A device that is not there is told by every command, before anything else is done."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from ovps import load_run
from ovps.cli import app
from ovps.devices import device_of
from ovps.errors import ConfigError
from ovps.inference.session import open_session


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "meta", "cpu:1", "cuda:-1"])
def test_a_name_of_no_device(name):
    with pytest.raises(ConfigError, match=rf"no device '{name}'"):
        device_of(name)


def test_the_gpus_that_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(None) == device_of("cuda") == torch.device("cuda")
    assert device_of("cuda:1").index == 1
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device cuda:2 was asked for, and torch sees 2 GPUs"):
        device_of("cuda:2")


@pytest.mark.parametrize(
    "line",
    [
        "train --cache nowhere --out run",
        "eval --run nowhere --cache nowhere",
        "predict --run nowhere --cache nowhere --out p",
        "tune --run nowhere --cache nowhere",
        "report --run nowhere --cache nowhere",
        "precompute --dataroot nowhere --encoder demo --out z",
        "segment nowhere --encoder demo --names car",
        "demo --out d",
        "query bus --cache nowhere",
        "view --cache nowhere",
        "export --cache nowhere --out e --ply",
        "cache repair nowhere",
    ],
)
@pytest.mark.parametrize(("device", "told"), [("gpu", "no device 'gpu'"), ("cuda", "torch sees no GPU")])
def test_every_command_tells_it_first(line, device, told, no_gpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*line.split(), "--device", device])
    assert isinstance(done.exception, ConfigError), done.output
    assert told in str(done.exception)
    assert "ovps doctor" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_python_is_told_too(no_gpu, tmp_path):
    for opens in (lambda: load_run(tmp_path, "cuda"), lambda: open_session(None, tmp_path, device="gpu")):
        with pytest.raises(ConfigError, match="device"):
            opens()
