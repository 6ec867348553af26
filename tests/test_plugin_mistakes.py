"""Mistakes in things of other packages: each is told by the package, and by the frame where there is one."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from ovps import cli, plugins
from ovps.cache.reader import Store
from tests.test_outside import PAGES, blocks, write_shapes

MISTAKES = '''
import numpy as np
import torch

from ovps.frame import PointCloud
from ovps.systems.queries import QuerySystem
from mistaken.bytes import Bytes
from mistaken.colours import Colours, Loader
from mistaken.shapes import Shapes


def of(base, own_name, **methods):
    """An object of a class with some methods of its own."""
    return type(own_name, (base,), {"name": own_name, **methods})()


def odd(self, frame):
    if frame.token.endswith("001"):
        return {}["no such key"]
    return Shapes.points(self, frame)


def doubles(self, frame):
    cloud = Shapes.points(self, frame)
    return PointCloud(cloud.xyz.astype(float), cloud.intensity)


def one_by_one(self, *asked):
    yield from Shapes.frames(self, *asked)


class Lacks:
    name, taxonomy, occlusion, default_version = "lacks", Shapes.taxonomy, Shapes.occlusion, "v1"

    def frames(self, root, version, subsets):
        return []


lacks = Lacks()
a_class = Shapes
raises_once = of(Shapes, "raises_once", points=odd)
doubled = of(Shapes, "doubled", points=doubles)
pairs = of(Shapes, "pairs", points=lambda self, frame: (1, 2))
whole_labels = of(Shapes, "whole_labels", labels=lambda self, frame: Shapes.labels(self, frame).astype(np.int64))
blind = of(Shapes, "blind", image=lambda self, camera: None)
nothing = of(Shapes, "nothing", frames=lambda self, *asked: None)
numbers = of(Shapes, "numbers", frames=lambda self, *asked: [1, 2])
broken_tables = of(Shapes, "broken_tables", frames=lambda self, *asked: {}["tables"])
lazy = of(Shapes, "lazy", frames=one_by_one)


class LoaderOf(Loader):
    def __init__(self, own_name, **methods):
        self.kind = type(own_name, (Colours,), {"name": own_name, **methods})

    def load(self, weights, *, device="cpu", upscale=1.0):
        return self.kind(np.eye(4, dtype=np.float32), False, device, patch=8)


def tired(self, images):
    raise RuntimeError("no more")


def fewer_texts(self, texts):
    return Colours.embed(self, texts)[:1]


exhausted = LoaderOf("exhausted", encode=tired)
wide = LoaderOf("wide", dim=5)
arrays = LoaderOf("arrays", encode=lambda self, images: Colours.encode(self, images).numpy())
fewer = LoaderOf("fewer", embed=fewer_texts)
loader_class = Loader

short = of(Bytes, "short", encode=lambda self, f, s: {"clip/bytes": Bytes.encode(self, f, s)["clip/bytes"][:, :2]})
other = of(Bytes, "other", encode=lambda self, f, s: {"clip/other": Bytes.encode(self, f, s)["clip/bytes"]})
unread = of(Bytes, "unread", decode=lambda self, arrays, valid, s: Bytes.decode(self, arrays, valid, s)[1:])
no_key = of(Bytes, "no_key", encode=lambda self, features, state: state["nowhere"])

no_network = of(QuerySystem, "no_network", build=lambda self, config, shape: None)
no_loss = of(QuerySystem, "no_loss", loss=lambda self, *given: None)
bad_loss = of(QuerySystem, "bad_loss", loss=lambda self, *given: 1 / 0)
'''
NAMES = {
    "ovps.datasets": "lacks a_class raises_once doubled pairs whole_labels blind nothing numbers broken_tables lazy",
    "ovps.encoders": "exhausted wide arrays fewer loader_class",
    "ovps.codecs": "short other unread no_key",
    "ovps.systems": "no_network no_loss bad_loss",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of a package with mistakes, over the code of the pages that say how to add things."""
    folder = tmp_path_factory.mktemp("mistaken")
    (folder / "mistaken").mkdir()
    for module, page in PAGES.items():
        (code,) = blocks(page, "python")
        (folder / "mistaken" / module).write_text(code, encoding="utf-8")
    (folder / "mistaken" / "__init__.py").touch()
    (folder / "mistaken" / "mistakes.py").write_text(MISTAKES)
    return folder


@pytest.fixture
def ovps(package, tmp_path, monkeypatch, capsys):
    """Run a command line with that package installed; gives exit code, standard output and standard error."""
    points = [EntryPoint(name, f"mistaken.mistakes:{name}", g) for g, names in NAMES.items() for name in names.split()]
    for name, group, where in (
        ("shapes", "ovps.datasets", "mistaken.shapes:DATASET"),
        ("colours", "ovps.encoders", "mistaken.colours:LOADER"),
        ("bytes", "ovps.codecs", "mistaken.bytes:CODEC"),
    ):
        points.append(EntryPoint(name, where, group))
    monkeypatch.setattr(plugins, "entry_points", lambda **asked: EntryPoints(points).select(**asked))
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "data")

    def run(line):
        monkeypatch.setattr(sys, "argv", ["ovps", *line.split()])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


COMMAND = "precompute --dataset {} --dataroot data --encoder {} --codec {} --workers 0 --grid cylinder:60x45x8 --out z"
ONE_PART = [
    ("lacks", "colours", "bytes", 8, r"lacks of ovps\.datasets lacks points, labels, image.*Mend the package mistaken"),
    ("a_class", "colours", "bytes", 8, r"a_class of ovps\.datasets is a class, not an object of it"),
    ("raises_once", "colours", "bytes", 3, r"mistaken has raised KeyError: 'no such key' .*mistakes\.py:\d+, frame"),
    ("doubled", "colours", "bytes", 3, r"`points` of data set doubled gives float64 \(180, 3\).*float32 \(frame"),
    ("pairs", "colours", "bytes", 3, "`points` of data set pairs gives tuple, expected a PointCloud"),
    ("whole_labels", "colours", "bytes", 3, r"`labels` of data set whole_labels gives int64.*\(frame"),
    ("blind", "colours", "bytes", 3, r"`image` of data set blind gives NoneType.*\(frame"),
    ("nothing", "colours", "bytes", 8, "`frames` of data set nothing gives NoneType"),
    ("numbers", "colours", "bytes", 8, "`frames` of data set numbers gives int"),
    ("broken_tables", "colours", "bytes", 8, r"mistaken has raised KeyError: 'tables' \(file .*mistakes\.py:\d+"),
    ("shapes", "exhausted", "bytes", 3, r"mistaken has raised RuntimeError: no more.*frame"),
    ("shapes", "wide", "bytes", 3, r"wide gives FRONT cells of shape \(8, 12, 4\), and said .* of 5 .*frame train-"),
    ("shapes", "arrays", "bytes", 3, r"`encode` of encoder arrays gives float32.*float32 tensor.*\(frame"),
    ("shapes", "fewer", "bytes", 8, r"`embed` of encoder fewer gives \(1, 4\)"),
    ("shapes", "loader_class", "bytes", 8, r"loader_class of ovps\.encoders is a class"),
    (
        "shapes",
        "colours",
        "short",
        3,
        r"codec short: `encode` gives other arrays.*dimension C is 2, elsewhere 4.*\(frame",
    ),
    ("shapes", "colours", "other", 3, r"codec other: `encode` gives other arrays than it says.*clip/bytes.*\(frame"),
    ("shapes", "colours", "unread", 3, r"codec unread: `decode` gives .*expected a row for each of"),
    ("shapes", "colours", "no_key", 3, r"mistaken has raised KeyError: 'nowhere'.*frame"),
]


@pytest.mark.parametrize(("dataset", "encoder", "codec", "code", "message"), ONE_PART)
def test_a_mistake_is_told(ovps, dataset, encoder, codec, code, message):
    ended, out, err = ovps(COMMAND.format(dataset, encoder, codec) + " --json")
    assert ended == code, err
    assert "Traceback" not in err
    told = " ".join(err.split())

    assert re.search(message, told), told
    assert json.loads(out)["error"] in ("setup", "frame", "dataset")


def test_one_odd_frame_is_left_out(ovps, tmp_path):
    command = COMMAND.format("raises_once", "colours", "bytes")
    ended, out, err = ovps(f"{command} --on-error skip --json")
    assert ended == 0, err
    summary = json.loads(out)
    assert summary["frames"] == 2
    assert all("mistaken has raised KeyError" in skipped["reason"] for skipped in summary["quarantined"])
    assert len(Store.open(tmp_path / "z").frames) == 2


def test_frames_may_be_a_generator(ovps):
    ended, out, err = ovps(COMMAND.format("lazy", "colours", "bytes") + " --json")
    assert (ended, json.loads(out)["frames"]) == (0, 4), err


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("no_network", "`build` of system no_network gives NoneType"),
        ("no_loss", "`loss` of system no_loss gives NoneType"),
        ("bad_loss", r"mistaken has raised ZeroDivisionError: division by zero \(file .*mistakes\.py:\d+"),
    ],
)
def test_a_mistake_in_a_system_is_told(ovps, tmp_path, system, message):

    assert ovps(COMMAND.format("shapes", "colours", "bytes"))[0] == 0
    (tmp_path / "s.yaml").write_text(f"settings: {{system: {system}}}")
    (tmp_path / "split.yaml").write_text("{name: shapes, taxonomy: shapes, novel: [ball]}")
    ended, _, err = ovps("train --cache z --split split.yaml --system s.yaml --set steps=1 --set threads=1 --out run")
    assert ended == 8, err
    assert "Traceback" not in err
    assert re.search(message, " ".join(err.split())), err


def test_a_mistake_in_ovps_itself_is_a_traceback(ovps, monkeypatch):
    monkeypatch.setattr("pipelines.precompute.flow.read_frame", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ovps(COMMAND.format("shapes", "colours", "bytes"))
