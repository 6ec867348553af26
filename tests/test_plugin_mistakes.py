"""Mistakes in things of other packages: each is told by the package, and by the frame where there is one."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

from ovps import cli, datasets, plugins, progress
from ovps.cache.reader import Store
from pipelines.options import PrecomputeOptions
from pipelines.precompute import precompute
from tests.test_outside import PAGES, blocks, write_shapes

MISTAKES = '''
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from ovps.errors import FrameError
from ovps.geometry.cells import CellGrid
from ovps.losses.total import LossTerms
from ovps.frame import PointCloud
from ovps.geometry.visibility import Occlusion
from ovps.systems.openscene import VoxelSystem
from ovps.systems.queries import QuerySystem
from ovps.vocabulary import without_entries
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


def never_first(self, frame):
    if frame.token.endswith("000"):
        raise ValueError("cannot decode it")
    return Shapes.points(self, frame)


def doubles(self, frame):
    cloud = Shapes.points(self, frame)
    return PointCloud(cloud.xyz.astype(float), cloud.intensity)


def one_by_one(self, *asked):
    yield from Shapes.frames(self, *asked)


def unreadable(self, *given):
    raise FrameError("no such frame", frame="a-000")


def raises(error):
    def method(self, *given):
        raise error

    return method


class Lacks:
    name, taxonomy, occlusion, default_version = "lacks", Shapes.taxonomy, Shapes.occlusion, "v1"

    def frames(self, root, version, subsets):
        return []


lacks = Lacks()
a_class = Shapes
raises_once = of(Shapes, "raises_once", points=odd)
raises_first = of(Shapes, "raises_first", points=never_first, at=lambda self, root: self)
doubled = of(Shapes, "doubled", points=doubles)
pairs = of(Shapes, "pairs", points=lambda self, frame: (1, 2))
whole_labels = of(Shapes, "whole_labels", labels=lambda self, frame: Shapes.labels(self, frame).astype(np.int64))
float_labels = of(Shapes, "float_labels", labels=lambda self, frame: Shapes.labels(self, frame).astype(float))
withheld = of(Shapes, "withheld", labels=lambda self, frame: None)
blind = of(Shapes, "blind", image=lambda self, camera: None)
nothing = of(Shapes, "nothing", frames=lambda self, *asked: None)
numbers = of(Shapes, "numbers", frames=lambda self, *asked: [1, 2])
broken_tables = of(Shapes, "broken_tables", frames=lambda self, *asked: {}["tables"])
rewound = of(Shapes, "rewound", _frame=lambda self, *a: replace(Shapes._frame(self, *a), timestamp_us=100_000 - a[-1]))
damaged = of(Shapes, "damaged", _frame=unreadable)
quits = of(Shapes, "quits", image=lambda self, camera: sys.exit(0))
quits_early = of(Shapes, "quits_early", frames=lambda self, *asked: sys.exit())
not_mounted = of(Shapes, "not_mounted", frames=raises(OSError("not mounted")))
cancelled = of(Shapes, "cancelled", points=raises(type("Cancelled", (BaseException,), {})("no time")))
slow = of(Shapes, "slow", frames=lambda self, *asked: time.sleep(0.2) or Shapes.frames(self, *asked))
stopped = of(Shapes, "stopped", points=raises(KeyboardInterrupt))
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
scalar = LoaderOf("scalar", encode=lambda self, images: torch.tensor(1.0))
sparse = LoaderOf("sparse", encode=lambda self, images: Colours.encode(self, images).to_sparse())
taught = LoaderOf("taught", encode=lambda self, images: Colours.encode(self, images).requires_grad_())
class SlowLoader(LoaderOf):
    def load(self, weights, **more):
        time.sleep(0.2)
        return super().load(weights, **more)


slow_load = SlowLoader("slow_load")
quitter = LoaderOf("quitter", encode=lambda self, images: sys.exit("enough"))
fewer = LoaderOf("fewer", embed=fewer_texts)
loader_class = Loader

embeds = LoaderOf("embeds", embed=lambda self, texts: torch.from_numpy(Colours.embed(self, texts)))
embeds_nan = LoaderOf("embeds_nan", embed=lambda self, texts: Colours.embed(self, texts) * np.float32(np.nan))
unread_texts = LoaderOf("unread_texts", read=lambda self, texts: texts)
wide_cells = LoaderOf("wide_cells", cells=lambda self, size: CellGrid(size[1] // 8, size[0] // 8, 16))
narrow_cells = LoaderOf("narrow_cells", cells=lambda self, size: CellGrid(size[1] // 8, size[0] // 8, 4))
half_cells = LoaderOf("half_cells", cells=lambda self, size: CellGrid(size[1] // 16, size[0] // 8, 8))
no_stride = LoaderOf("no_stride", cells=lambda self, size: CellGrid(size[1] // 8, size[0] // 8, float("nan")))
cold = LoaderOf("cold", temperature=0)
colder = LoaderOf("colder", temperature=-0.01)
endless = LoaderOf("endless", temperature=float("inf"))
worded = LoaderOf("worded", temperature="0.01")
hot = LoaderOf("hot", temperature=100.0)
one_text = LoaderOf("one_text", embed=lambda self, texts: np.full((len(texts), 4), 0.5, np.float32))
one_cell = LoaderOf("one_cell", encode=lambda self, images: Colours.encode(self, images * 0 + 77))
no_place = LoaderOf("no_place", cells=lambda self: None)
no_grid = LoaderOf("no_grid", cells=lambda self, size: (12, 8))

seconds = of(Shapes, "seconds", _frame=lambda self, *a: replace(Shapes._frame(self, *a), timestamp_us=0.1))
no_pose = of(Shapes, "no_pose", _frame=lambda self, *a: replace(Shapes._frame(self, *a), global_from_lidar=None))
no_tuple = of(Shapes, "no_tuple", _frame=lambda self, *a: replace(Shapes._frame(self, *a), cameras="FRONT"))
path_labels = of(Shapes, "path_labels", _frame=lambda self, *a: replace(Shapes._frame(self, *a), labels_path=1))
by_itself = of(Shapes, "by_itself", points=lambda self: None)
bare_occlusion = of(Shapes, "bare_occlusion", occlusion=None)
wide_gaps = of(Shapes, "wide_gaps", occlusion=Occlusion(vertical_deg=3000))
radians = of(Shapes, "in_radians", occlusion=Occlusion(vertical_deg=0.01))
in_radians = of(Shapes, "in_radians", at=lambda self, root: radians)
one_warning = of(Shapes, "one_warning", warnings=lambda self, root, frames: "no list")


def in_seconds(self, *given):
    frame = Shapes._frame(self, *given)
    return replace(frame, cameras=(replace(frame.cameras[0], timestamp_us=0.1),))


def called(own_name, **names):
    return of(Shapes, own_name, _frame=lambda self, *a: renamed(Shapes._frame(self, *a), names))


def renamed(frame, names):
    return replace(frame, **{field: name.format(frame.token) for field, name in names.items()})


slashed = called("slashed", token="a/b,{}")
climbs = called("climbs", token="../../../{}")
windows = called("windows", token="08\\\\{}")
nul = called("nul", token="{}\\0")
newline = called("newline", token="{}\\n")
lengthy = called("lengthy", token="é" * 100 + "{}")
blank = called("blank", token=" ")
surrogate = called("surrogate", token="{}\\udc80")
bell = called("bell", scene="\\a")
other_split = called("other_split", subset="training")
camera_seconds = of(Shapes, "camera_seconds", _frame=in_seconds)
buffer = np.empty((1000, 3), np.float32)


def refilled(self, frame):
    cloud = Shapes.points(self, frame)
    buffer[: len(cloud)] = cloud.xyz
    return PointCloud(buffer[: len(cloud)], cloud.intensity)


def rescaled(self, features, state):
    state["scale"] *= 2
    return Bytes.encode(self, features, state)


refills = of(Shapes, "refills", points=refilled)
twins = of(Shapes, "twins", _frame=lambda self, *a: doubled_cameras(Shapes._frame(self, *a)))


def doubled_cameras(frame):
    return replace(frame, cameras=frame.cameras * 2)


rescales = of(Bytes, "rescales", encode=rescaled)
slow_fit = of(Bytes, "slow_fit", fit=lambda self, sample: time.sleep(0.2) or Bytes.fit(self, sample))
never = of(Bytes, "never", decode=lambda self, arrays, valid, s: Bytes.decode(self, arrays, valid, s) * np.nan)
narrow = of(Bytes, "narrow", decode=lambda self, arrays, valid, s: Bytes.decode(self, arrays, valid, s)[:, :2])
fits_nan = of(Bytes, "fits_nan", fit=lambda self, sample: {"scale": Bytes.fit(self, sample)["scale"] * np.nan})
fits_none = of(Bytes, "fits_none", fit=lambda self, sample: None)
exact = of(Bytes, "exact", lossless=True)
unscaled = of(Bytes, "unscaled", decode=lambda self, a, valid, s: Bytes.decode(self, a, valid, {"scale": np.ones(4)}))
keeper = of(Bytes, "keeper", keeps_cells=True)
no_factors = of(Bytes, "no_factors", keeps_cells=True, factors=lambda self, arrays, valid, s: (1, 2))
short = of(Bytes, "short", encode=lambda self, f, s: {"clip/bytes": Bytes.encode(self, f, s)["clip/bytes"][:, :2]})
other = of(Bytes, "other", encode=lambda self, f, s: {"clip/other": Bytes.encode(self, f, s)["clip/bytes"]})
unread = of(Bytes, "unread", decode=lambda self, arrays, valid, s: Bytes.decode(self, arrays, valid, s)[1:])
no_key = of(Bytes, "no_key", encode=lambda self, features, state: state["nowhere"])

no_network = of(QuerySystem, "no_network", build=lambda self, config, shape: None)
no_loss = of(QuerySystem, "no_loss", loss=lambda self, *given: None)
bad_loss = of(QuerySystem, "bad_loss", loss=lambda self, *given: 1 / 0)


def changed_loss(change):
    def loss(self, *given):
        terms = QuerySystem.loss(self, *given)
        return LossTerms(**(vars(terms) | change(terms)))

    return loss


class Signed(torch.nn.Linear):
    def forward(self, batch, extra):
        return batch


floats = of(QuerySystem, "floats", loss=changed_loss(lambda terms: {"parts": {"distance": 0.5}}))
detached = of(
    QuerySystem,
    "detached",
    loss=changed_loss(lambda t: {"supervised": t.supervised.detach(), "voxel": t.voxel.detach()}),
)
unlearnt = of(QuerySystem, "unlearnt", build=lambda self, config, shape: torch.nn.ReLU())
signed = of(QuerySystem, "signed", build=lambda self, config, shape: Signed(2, 2))
def nan_answer(self, *given):
    answer = QuerySystem.answer(self, *given)
    return replace(answer, probability=answer.probability * torch.nan)


def first_voxels(self, *given):
    answer = VoxelSystem.answer(self, *given)
    return replace(answer, features=answer.features[:10])


fewer_voxels = of(VoxelSystem, "fewer_voxels", answer=first_voxels)
vague = of(QuerySystem, "vague", answer=nan_answer)
def labels_changed(change):
    def answer(self, *given):
        return Changed(QuerySystem.answer(self, *given), change)

    return answer


class Changed:
    def __init__(self, answer, change):
        self._answer, self._change = answer, change

    def __getattr__(self, name):
        return getattr(self._answer, name)

    def segment(self, merge):
        return self._change(self._answer.segment(merge))

    variant = masks = unknown = None


def fewer_entries(self, vocabulary, trained):
    return QuerySystem.classes(self, without_entries(vocabulary, [vocabulary.names[0]]), trained)


below = of(QuerySystem, "below", answer=labels_changed(lambda p: replace(p, voxel_class=p.voxel_class * 0 - 3)))
above = of(QuerySystem, "above", answer=labels_changed(lambda p: replace(p, voxel_class=p.voxel_class * 0 + 3)))
longer = of(QuerySystem, "longer", answer=labels_changed(lambda p: replace(p, voxel_class=p.voxel_class.repeat(2))))
fewer_entries = of(QuerySystem, "fewer_entries", classes=fewer_entries)
mute = of(QuerySystem, "mute", answer=lambda self, *given: None)
def turned(self, vocabulary, base):
    found = QuerySystem.training_classes(self, vocabulary, base)
    return replace(found, text=found.text.flip(0))


novel_text = of(QuerySystem, "novel_text", training_classes=lambda self, v, base: QuerySystem.classes(self, v, ()))
turned_text = of(QuerySystem, "turned_text", training_classes=turned)
no_text = of(QuerySystem, "no_text", training_classes=lambda self, vocabulary, base: ["box"])
'''
NAMES = {
    "ovps.datasets": "lacks a_class raises_once doubled pairs whole_labels float_labels withheld blind nothing numbers "
    "refills twins broken_tables lazy rewound damaged raises_first "
    "quits quits_early not_mounted cancelled stopped slow "
    "seconds no_pose no_tuple path_labels by_itself bare_occlusion wide_gaps in_radians one_warning camera_seconds"
    " slashed climbs windows nul newline lengthy blank surrogate bell other_split",
    "ovps.encoders": "exhausted wide arrays fewer scalar sparse taught quitter slow_load"
    " loader_class embeds embeds_nan unread_texts no_place no_grid"
    " wide_cells narrow_cells half_cells no_stride cold colder endless worded"
    " hot one_text one_cell",
    "ovps.codecs": "short other unread no_key never narrow fits_nan fits_none keeper no_factors exact unscaled"
    " rescales slow_fit",
    "ovps.systems": "no_network no_loss bad_loss floats detached unlearnt signed no_text mute vague"
    " novel_text turned_text fewer_voxels below above longer fewer_entries",
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


@contextmanager
def installed(package):
    """With that package, and the things of the pages under their own names."""
    points = [EntryPoint(name, f"mistaken.mistakes:{name}", g) for g, names in NAMES.items() for name in names.split()]
    for name, group, where in (
        ("shapes", "ovps.datasets", "mistaken.shapes:DATASET"),
        ("colours", "ovps.encoders", "mistaken.colours:LOADER"),
        ("bytes", "ovps.codecs", "mistaken.bytes:CODEC"),
    ):
        points.append(EntryPoint(name, where, group))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "entry_points", lambda **asked: EntryPoints(points).select(**asked))
        patch.syspath_prepend(str(package))
        yield


@pytest.fixture(scope="module")
def shapes(package, tmp_path_factory):
    """A store of the data set of the page, by its encoder and codec."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "data")
    made = {"dataset": "shapes", "dataroot": folder / "data", "encoder": "colours", "codec": "bytes"}
    with installed(package):
        precompute(PrecomputeOptions(**made, workers=0, grid="cylinder:60x45x8", out=str(folder / "zarr")))
    return folder / "zarr"


@pytest.fixture
def ovps(package, tmp_path, monkeypatch, capsys):
    """Run a command line with that package installed; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "data")

    def run(line):
        monkeypatch.setattr(sys, "argv", ["ovps", *(line.split() if isinstance(line, str) else line)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    with installed(package):
        yield run


COMMAND = "precompute --dataset {} --dataroot data --encoder {} --codec {} --workers 0 --grid cylinder:60x45x8 --out z"
ONE_PART = [
    ("lacks", "colours", "bytes", 8, r"lacks of ovps\.datasets lacks points, labels, image.*Mend the package mistaken"),
    ("a_class", "colours", "bytes", 8, r"a_class of ovps\.datasets is a class, not an object of it"),
    ("raises_once", "colours", "bytes", 3, r"mistaken has raised KeyError: 'no such key' .*mistakes\.py:\d+, frame"),
    (
        "doubled",
        "colours",
        "bytes",
        3,
        r"`points` of data set doubled gives float64 \(180, 3\).*\(file .*s\.py:\d+, frame",
    ),
    ("pairs", "colours", "bytes", 3, "`points` of data set pairs gives tuple, expected a PointCloud"),
    (
        "whole_labels",
        "colours",
        "bytes",
        3,
        r"`labels` of data set whole_labels gives int64.*\(file .*s\.py:\d+, frame",
    ),
    ("float_labels", "colours", "bytes", 3, r"`labels` of data set float_labels gives float64.*s\.py:\d+, frame"),
    ("blind", "colours", "bytes", 3, r"`image` of data set blind gives None.*\(file .*s\.py:\d+, frame"),
    (
        "withheld",
        "colours",
        "bytes",
        3,
        r"withheld gives None, .*labels_path is \S+000\.npz.*frame",
    ),
    ("twins", "colours", "bytes", 8, r"2 cameras called FRONT, expected a name for each .*mistaken"),
    ("shapes", "colours", "rescales", 3, r"mistaken has raised ValueError: .*read-only.*frame"),
    ("shapes", "scalar", "bytes", 3, r"`encode` of encoder scalar gives .*, expected a dense float32 tensor \(B, rows"),
    ("shapes", "sparse", "bytes", 3, r"`encode` of encoder sparse gives .*, expected a dense float32 tensor \(B, rows"),
    ("nothing", "colours", "bytes", 8, "`frames` of data set nothing gives None"),
    ("numbers", "colours", "bytes", 8, "`frames` of data set numbers gives 1, expected frames"),
    ("broken_tables", "colours", "bytes", 8, r"mistaken has raised KeyError: 'tables' \(file .*mistakes\.py:\d+"),
    ("quits", "colours", "bytes", 3, r"mistaken has raised SystemExit: 0 \(file .*mistakes\.py:\d+, frame"),
    ("quits_early", "colours", "bytes", 8, r"mistaken has raised SystemExit: *\(file .*mistakes\.py:\d+\)"),
    ("not_mounted", "colours", "bytes", 8, r"mistaken has raised OSError: not mounted \(file .*mistakes\.py:\d+\)"),
    ("cancelled", "colours", "bytes", 3, r"mistaken has raised Cancelled: no time.*frame"),
    ("shapes", "quitter", "bytes", 3, r"mistaken has raised SystemExit: enough.*frame"),
    ("shapes", "exhausted", "bytes", 3, r"mistaken has raised RuntimeError: no more.*frame"),
    ("shapes", "wide", "bytes", 3, r"wide gives FRONT cells of shape \(8, 12, 4\), and said .* of 5 .*frame train-"),
    (
        "shapes",
        "arrays",
        "bytes",
        3,
        r"`encode` of encoder arrays gives float32.*tensor.*\(file .*s\.py:\d+, frame",
    ),
    ("shapes", "fewer", "bytes", 8, r"`embed` of encoder fewer gives float32 \(1, 4\)"),
    ("shapes", "loader_class", "bytes", 8, r"loader_class of ovps\.encoders is a class"),
    (
        "shapes",
        "colours",
        "short",
        3,
        r"`encode` of codec short gives other arrays.*dimension C is 2, elsewhere 4.*\(file .*s\.py:\d+, frame",
    ),
    (
        "shapes",
        "colours",
        "other",
        3,
        r"`encode` of codec other gives other arrays.*clip/bytes.*\(file .*s\.py:\d+, frame",
    ),
    ("shapes", "colours", "unread", 3, r"`decode` of codec unread gives .*a row for each of.*s\.py:\d+, frame"),
    ("shapes", "colours", "no_key", 3, r"mistaken has raised KeyError: 'nowhere'.*frame"),
    (
        "seconds",
        "colours",
        "bytes",
        8,
        r"timestamp_us 0\.1, expected a whole number \(file .*s\.py:\d+, frame .*mistaken",
    ),
    ("camera_seconds", "colours", "bytes", 8, r"Camera whose timestamp_us 0\.1, expected a whole number"),
    ("no_pose", "colours", "bytes", 8, r"global_from_lidar None, expected a matrix \(4, 4\).*frame train-.*mistaken"),
    ("no_tuple", "colours", "bytes", 8, r"cameras that are str, expected a tuple of Camera"),
    ("path_labels", "colours", "bytes", 8, r"labels_path 1, expected a text or None"),
    ("by_itself", "colours", "bytes", 8, r"`points` that cannot be called with \(frame\) \(file .*mistakes\.py:\d+"),
    ("bare_occlusion", "colours", "bytes", 8, r"has a occlusion that is None, expected Occlusion.*package mistaken"),
    (
        "wide_gaps",
        "colours",
        "bytes",
        8,
        r"vertical_deg is 3000, expected 0\.05 to 10 degrees.*set wide_gaps, of the pack",
    ),
    ("in_radians", "colours", "bytes", 8, r"`occlusion` of data set in_radians .*They would be 0\.573 degrees"),
    ("one_warning", "colours", "bytes", 8, r"`warnings` of data set one_warning gives str, expected a list"),
    (
        "slashed",
        "colours",
        "bytes",
        8,
        r"the token 'a/b,train-.*has '/' in it: .*s\.py:\d+\).*package mistaken",
    ),
    ("climbs", "colours", "bytes", 8, r"the token '\.\./\.\./.*has '/' in it"),
    ("windows", "colours", "bytes", 8, r"the token '08.*has '\\\\' in it"),
    ("nul", "colours", "bytes", 8, r"a character that is no text, '\\x00'"),
    ("newline", "colours", "bytes", 8, r"a character that is no text, '\\n'"),
    ("lengthy", "colours", "bytes", 8, r"which has 2\d\d bytes: .*of at most 200 bytes"),
    ("blank", "colours", "bytes", 8, r"the token ' ', which is empty"),
    ("surrogate", "colours", "bytes", 8, r"a character that is no text, '\\udc80'"),
    ("bell", "colours", "bytes", 8, r"the scene '\\x07', which has a character"),
    ("other_split", "colours", "bytes", 8, r"subset 'training', expected one of those asked for: train, val"),
    ("shapes", "embeds", "bytes", 8, r"`embed` of encoder embeds gives a torch Tensor, expected .*mistakes\.py:\d+"),
    ("shapes", "embeds_nan", "bytes", 8, r"`embed` of encoder embeds_nan gives \d+ of \d+ rows that are no unit"),
    ("shapes", "unread_texts", "bytes", 8, r"`read` of encoder unread_texts gives list of 1, expected 1 of Reading"),
    ("shapes", "no_place", "bytes", 8, r"`cells` that cannot be called with \(size\) \(file .*mistakes\.py:\d+"),
    ("shapes", "no_grid", "bytes", 8, r"`cells` of encoder no_grid gives tuple, expected a CellGrid"),
    (
        "shapes",
        "wide_cells",
        "bytes",
        8,
        r"`cells` of encoder wide_cells gives \d+ x \d+ cells of 16 pixels for",
    ),
    ("shapes", "narrow_cells", "bytes", 8, r"cells of 4 pixels for images of .*: they cover .*mistakes\.py:\d+"),
    ("shapes", "half_cells", "bytes", 8, r"cells of 8 pixels for images of .*: they cover "),
    ("shapes", "no_stride", "bytes", 8, r"cells of nan pixels for images of"),
    ("shapes", "cold", "bytes", 8, r"encoder cold has the temperature 0: cosines are divided by it"),
    ("shapes", "colder", "bytes", 8, r"encoder colder has the temperature -0\.01"),
    ("shapes", "endless", "bytes", 8, r"encoder endless has the temperature inf"),
    ("shapes", "worded", "bytes", 8, r"encoder worded has a temperature that is str, expected float"),
    ("shapes", "colours", "exact", 3, r"off by 0\.00\d+, and `lossless` is True.*s\.py:\d+, frame train-"),
    ("shapes", "colours", "never", 3, r"`decode` of codec never gives features with NaN .*s\.py:\d+, frame train-"),
    ("shapes", "colours", "narrow", 3, r"`decode` of codec narrow gives 2 channels, expected 4"),
    ("shapes", "colours", "fits_nan", 8, r"`fit` of codec fits_nan gives NaN in scale \(file .*mistakes\.py:\d+"),
    ("shapes", "colours", "fits_none", 8, r"`fit` of codec fits_none gives None, expected arrays"),
    ("shapes", "colours", "keeper", 8, r"keeper of ovps\.codecs lacks factors"),
    ("shapes", "colours", "no_factors", 3, r"`factors` of codec no_factors gives tuple, expected VoxelFeatures"),
]


@pytest.mark.parametrize(("dataset", "encoder", "codec", "code", "message"), ONE_PART)
def test_a_mistake_is_told(ovps, dataset, encoder, codec, code, message):
    ended, out, err = ovps(COMMAND.format(dataset, encoder, codec) + " --json")
    assert ended == code, err
    assert "Traceback" not in err
    told = " ".join(err.split())

    assert re.search(message, told), told
    assert json.loads(out)["error"] in ("setup", "frame", "dataset")


def test_a_codec_that_gives_other_features_back_is_warned_of(ovps):
    ended, out, err = ovps(COMMAND.format("shapes", "colours", "unscaled") + " --json")
    assert ended == 0, err
    (warning,) = json.loads(out)["warnings"]
    assert re.match(r"codec unscaled gives features back that are off by \d\d\.\d in each of 4 channels", warning)
    assert warning in json.loads(ovps("cache info z --json")[1])["warnings"]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("hot", r"encoder hot has the temperature 100: .*inverse"),
        ("one_text", r"encoder one_text gives one and the same vector for the names of all 3 classes"),
        (
            "one_cell",
            r"encoder one_cell gives one and the same feature for all \d+ voxels that cameras see in frame train-",
        ),
    ],
)
def test_an_encoder_that_tells_nothing_apart_is_warned_of(ovps, encoder, message):
    command = COMMAND.format("shapes", encoder, "bytes") + " --json"
    ended, out, err = ovps(command)
    assert ended == 0, err
    (warning,) = json.loads(out)["warnings"]
    assert re.match(message, warning)
    assert json.loads(ovps(command)[1])["warnings"] == [], "said of what is made"
    if encoder == "hot":
        assert warning in json.loads(ovps(["query", "red box", "--cache", "z", "--json"])[1])["warnings"]


@pytest.mark.parametrize(
    ("codec", "code", "message"),
    [
        ("exact", 3, "and `lossless` is True"),
        ("never", 3, "`decode` of codec never gives features with NaN"),
        ("fits_nan", 8, "`fit` of codec fits_nan gives NaN in scale"),
    ],
)
def test_a_mistake_in_a_codec_is_told_by_convert(ovps, codec, code, message):
    assert ovps(COMMAND.format("shapes", "colours", "dense"))[0] == 0
    ended, _, err = ovps(f"cache convert --cache z --out y --codec {codec}")
    assert ended == code, err
    assert message in " ".join(err.split())


def test_a_data_set_may_read_into_an_array_of_its_own(ovps, tmp_path):
    for dataset in ("shapes", "refills"):
        ended, _, err = ovps(COMMAND.format(dataset, "colours", "bytes")[:-1] + dataset)
        assert ended == 0, err
    one, other = Store.open(tmp_path / "shapes"), Store.open(tmp_path / "refills")
    for ref in one.frames:
        np.testing.assert_array_equal(one.read(ref).xyz, other.read(ref).xyz)


def test_gradients_that_an_encoder_leaves_on_are_no_matter(ovps):
    ended, _, err = ovps(COMMAND.format("shapes", "taught", "bytes"))
    assert ended == 0, err


def test_a_codec_that_loses_little_is_no_warning(ovps, shapes):
    assert json.loads(ovps(f"cache info {shapes} --json")[1])["warnings"] == []


def test_one_odd_frame_is_left_out(ovps, tmp_path):
    command = COMMAND.format("raises_once", "colours", "bytes")
    ended, out, err = ovps(f"{command} --on-error skip --json")
    assert ended == 0, err
    summary = json.loads(out)
    assert summary["frames"] == 2
    assert all("mistaken has raised KeyError" in skipped["reason"] for skipped in summary["quarantined"])
    assert len(Store.open(tmp_path / "z").frames) == 2


def test_so_is_one_that_is_looked_at_before_the_others(ovps):
    """Its points are read to see how a data set is, a codec is chosen by it, and a dry run samples it."""
    command = COMMAND.format("raises_first", "colours", "bytes").replace("--codec bytes ", "")
    for more in ("--dry-run", "", ""):
        ended, out, err = ovps(f"{command} --on-error skip --json {more}")
        assert ended == 0, err
    assert (json.loads(out)["frames_before"], len(json.loads(out)["quarantined"])) == (2, 2)
    ended, out, _ = ovps(f"{command} --json")
    assert (ended, json.loads(out)["error"]) == (3, "frame")


@pytest.mark.parametrize(
    "command", ["query --cache {} red+box --html x.html", "view --cache {} --html x.html --query red+box --query blue"]
)
def test_words_against_that_are_not_read(ovps, shapes, command):
    def words(*more):
        return [word.replace("+", " ") for word in command.format(shapes).split()] + list(more)

    ended, out, err = ovps(words("--json"))
    assert ended == 0, err
    (warning,) = [text for text in json.loads(out)["warnings"] if "--against" in text]
    assert warning.startswith("the query is not held against object, things, stuff, texture (--against)")

    ended, _, err = ovps(words("--against", "blue,thing"))
    assert ended == 7, err
    assert "(--against): the tokenizer of colours reads nothing in the name 'thing'" in err
    assert ovps(words("--against", "blue"))[0] == 0  # as the remedy says


def test_clocks_that_go_back_are_told(ovps):
    ended, _, err = ovps(COMMAND.format("rewound", "colours", "bytes"))
    assert ended == 0, err
    assert "2 of 4 frames are not later than the one before in their scene" in " ".join(err.split())


def test_nothing_is_left_out_of_a_list_that_cannot_be_read(ovps):
    for more in ("", " --on-error skip"):
        ended, _, err = ovps(COMMAND.format("damaged", "colours", "bytes") + more)
        assert (ended, "skip" in err) == (3, False)
        assert "dataset error: no such frame" in err


def test_frames_may_be_a_generator(ovps):
    ended, out, err = ovps(COMMAND.format("lazy", "colours", "bytes") + " --json")
    assert (ended, json.loads(out)["frames"]) == (0, 4), err


def training(store, folder, system):
    """The command that trains a system for a step, its files in a folder."""
    (folder / "split.yaml").write_text("{name: shapes, taxonomy: shapes, novel: [ball]}")
    (folder / "s.yaml").write_text(f"settings: {{system: {system}}}")
    small = "model.width=16 model.heads=2 model.ffn=16 model.layers=1 model.queries=8 model.encoder.channels=[8,16]"
    settings = " ".join(f"--set {setting}" for setting in f"steps=1 threads=1 data.batch_size=1 {small}".split())
    return f"train --cache {store} --split split.yaml --system s.yaml {settings} --out run"


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("no_network", "`build` of system no_network gives None"),
        ("no_loss", "`loss` of system no_loss gives None"),
        ("floats", r"`loss` of system floats gives distance: 0\.5, expected a scalar tensor .*mistakes\.py:\d+"),
        ("detached", r"`loss` of system detached gives a loss without gradients"),
        ("unlearnt", r"`build` of system unlearnt gives ReLU without parameters"),
        ("signed", r"gives Signed whose `forward` cannot be called with \(batch\), .*mistakes\.py:\d+"),
        ("no_text", r"`training_classes` of system no_text gives list, expected ClassText"),
        ("novel_text", r"gives 3 classes that are not the 2 base classes in their order"),
        ("turned_text", r"of system turned_text gives the text of floor as that of box"),
        ("bad_loss", r"mistaken has raised ZeroDivisionError: division by zero \(file .*mistakes\.py:\d+"),
    ],
)
def test_a_mistake_in_a_system_is_told(ovps, shapes, tmp_path, system, message):
    ended, _, err = ovps(training(shapes, tmp_path, system))
    assert ended == 8, err
    assert "Traceback" not in err
    assert re.search(message, " ".join(err.split())), err


@pytest.mark.parametrize("dataset", ["slashed", "climbs", "nul"])
def test_an_old_store_with_such_tokens_is_written_nowhere_else(ovps, tmp_path, monkeypatch, dataset):
    monkeypatch.setattr(datasets, "names_fault", lambda frame: None)  # as it was
    assert ovps(COMMAND.format(dataset, "colours", "bytes"))[0] == 0
    before, folder = set(tmp_path.rglob("*")), tmp_path / "d1/d2/d3"
    for command in ("export --cache z --npz --out d1/d2/d3/e", "predict --cache z --out d1/d2/d3/p"):
        ended, _, err = ovps(command)
        assert ended == 4, err
        assert "no file can be called" in err
        assert "Precompute the data set into a new store" in err
    ended, _, err = ovps("cache export --cache z --out d1/d2/d3/a")
    assert ended == 0, err
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert sum(path.suffix == ".npz" for path in new) == 4
    assert all(folder in path.parents for path in new), new


@pytest.mark.parametrize(
    ("system", "code", "message"),
    [
        ("mute", 8, r"`answer` of system mute gives None, which lacks .*mistakes\.py:\d+"),
        ("vague", 6, "the network answers with NaN"),
        ("fewer_voxels", 8, r"`answer` of system fewer_voxels gives features of 10 voxels, expected \d+"),
        ("below", 8, r"`answer` of system below gives one with voxel_class -3 to -3, expected -1 to 2"),
        ("above", 8, r"`answer` of system above gives one with voxel_class 3 to 3, expected -1 to 2"),
        ("longer", 8, r"gives one with voxel_class .*, expected \(\d+,\) int64"),
        ("fewer_entries", 8, r"`classes` of system fewer_entries gives 2 classes that are not the 3 entries"),
    ],
)
def test_an_answer_that_is_none_is_told(ovps, shapes, tmp_path, system, code, message):
    ended, _, err = ovps(training(shapes, tmp_path, system))
    assert ended == 0, err
    ended, _, err = ovps(f"predict --run run --cache {shapes} --out p")
    assert ended == code, err
    assert re.search(message, " ".join(err.split())), err


def test_what_takes_long_in_another_package_is_told(ovps, monkeypatch):
    monkeypatch.setattr(progress, "TELL_EVERY", 0.2)
    ended, _, err = ovps(COMMAND.format("slow", "slow_load", "slow_fit"))
    assert ended == 0, err
    told = dict(re.findall(r"^waiting for (.*) for \d+ s: (.*)$", err, re.MULTILINE))
    assert told["the frames of slow"].endswith("data")
    assert told["encoder slow_load"] == "its usual weights"
    assert re.fullmatch(r"its fit to \d+ features", told["codec slow_fit"])


def test_ctrl_c_in_another_package_is_its_own_error(ovps):
    assert ovps(COMMAND.format("stopped", "colours", "bytes"))[0] == 130


def test_a_mistake_in_ovps_itself_is_a_traceback(ovps, monkeypatch):
    monkeypatch.setattr("pipelines.precompute.flow.read_frame", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ovps(COMMAND.format("shapes", "colours", "bytes"))
