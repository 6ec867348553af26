"""Exported points, read back by the libraries of their formats."""

from __future__ import annotations

import json
import shutil
import sys

import laspy
import numpy as np
import pytest
from plyfile import PlyData

from ovps.cache.reader import Store
from ovps.errors import ConfigError, SetupError
from ovps.vocabulary import load_vocabulary, save_vocabulary, without_entries
from pipelines.export import export
from pipelines.options import ExportOptions, PrecomputeOptions
from pipelines.precompute import precompute
from pipelines.predict import predict
from tests.helpers.recording import write_recording
from tests.helpers.stores import contents
from tests.helpers.synthetic_store import vocabulary, write_synthetic_store
from tests.pipelines.untrained import LOOSE, untrained

SETTINGS = tuple(f"merge.{k}={getattr(LOOSE, k)}" for k in ("score", "overlap", "mask"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = ExportOptions(
        cache=made[1], run=made[0], settings=SETTINGS, frames=("1",), out=out, ply=True, las=True, npz=True
    )
    summary = export(options)
    store = Store.open(made[1])
    return summary, store.read(store.frames[1]), out


@pytest.mark.parametrize(("kind", "package"), [("ply", "plyfile"), ("las", "laspy")])
def test_a_package_that_is_missing_is_told_before_anything_is_written(made, tmp_path, monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(SetupError, match=rf"{package} is not installed.*\[viewer\]"):
        export(ExportOptions(cache=made[1], out=tmp_path / "out", npz=True, **{kind: True}))
    assert not (tmp_path / "out").exists()


def test_arrays_are_those_of_the_frame(written, made):
    summary, frame, out = written
    assert (summary.frames, summary.points, summary.kinds) == (1, 600, ["ply", "las", "npz"])
    found = np.load(out / f"{frame.token}.npz")
    np.testing.assert_array_equal(np.column_stack([found[a] for a in "xyz"]), frame.xyz.astype(np.float64))
    taxonomy = Store.open(made[1]).taxonomy
    assert (found["true_class"] == taxonomy.decode(frame.label)[0]).all()
    assert (found["cameras"] == frame.views).all()
    things = np.isin(found["true_class"], taxonomy.thing_ids)
    assert ((found["true_instance"] > 0) == things).all()
    assert ((found["score"] >= 0) == (found["segment"] >= 0)).all()
    names = json.loads((out / "names.json").read_text())
    assert names["classes"]["3"] == "bus"
    rows = found["entry"] >= 0
    of_entries = [
        next(int(i) for i, n in names["classes"].items() if n == names["entries"][e]) for e in found["entry"][rows]
    ]
    assert found["class"][rows].tolist() == of_entries


def test_entries_of_labels_are_named_where_there_is_no_run(made, tmp_path):
    export(ExportOptions(cache=made[1], frames=("1",), out=tmp_path, npz=True))
    names, (arrays,) = json.loads((tmp_path / "names.json").read_text()), tmp_path.glob("*.npz")
    found = np.load(arrays)
    rows = found["entry"] >= 0
    assert rows.any()
    assert [names["entries"][e] for e in found["entry"][rows]] == [
        names["classes"][str(c)] for c in found["class"][rows]
    ]
    (tmp_path / "names.json").write_text(json.dumps(names | {"entries": []}))  # as an earlier version wrote it
    export(ExportOptions(cache=made[1], frames=("0",), out=tmp_path, npz=True))


def test_a_vocabulary_without_a_run_names_points_as_predict_does(made, tmp_path):
    """A recording that CLIP alone has labelled, for another program."""
    words = tmp_path / "words.safetensors"
    save_vocabulary(without_entries(vocabulary(), ["car", "bus"]), words)
    predict(None, made[1], tmp_path / "predicted", vocabulary=words)
    token = Store.open(made[1]).frames_of(["val"])[0].token
    summary = export(ExportOptions(cache=made[1], vocabulary=words, frames=(token,), out=tmp_path / "out", npz=True))
    found = np.load(tmp_path / f"out/{token}.npz")
    expected = np.load(tmp_path / f"predicted/labels/val/{token}.npz")
    assert np.array_equal(found["entry"], expected["entry"])
    assert np.array_equal(found["instance"] > 0, expected["instance"] > 0)
    assert (found["entry"] >= 0).any()
    names = json.loads((tmp_path / "out/names.json").read_text())
    assert names["entries"] == list(load_vocabulary(words).names)
    assert summary.warnings == ()
    with pytest.raises(ConfigError, match="other entries of a vocabulary and other labels"):
        export(ExportOptions(cache=made[1], frames=(token,), out=tmp_path / "out", npz=True))


def test_ply_says_the_same(written):
    _, frame, out = written
    arrays, vertices = np.load(out / f"{frame.token}.npz"), PlyData.read(out / f"{frame.token}.ply")["vertex"]
    assert set(vertices.data.dtype.names) == set(arrays.files)
    for name in arrays.files:
        np.testing.assert_array_equal(vertices[name], arrays[name], err_msg=name)


def test_las_says_the_same_to_a_millimetre(written):
    _, frame, out = written
    arrays, las = np.load(out / f"{frame.token}.npz"), laspy.read(out / f"{frame.token}.las")
    place = np.column_stack([las.x, las.y, las.z])
    np.testing.assert_allclose(place, np.column_stack([arrays[a] for a in "xyz"]), atol=5.1e-4)
    assert (np.asarray(las.classification) == arrays["class"]).all()
    assert (np.asarray(las.red) // 257 == arrays["red"]).all()
    np.testing.assert_allclose(np.asarray(las.intensity) / 65535, arrays["intensity"], atol=1e-5)
    for name in ("entry", "instance", "segment", "score", "cameras", "true_class", "true_instance"):
        np.testing.assert_array_equal(las[name], arrays[name], err_msg=name)


def test_in_the_global_frame_points_lie_where_the_pose_puts_them(made, tmp_path):
    export(ExportOptions(cache=made[1], frames=("1",), out=tmp_path, npz=True, to_global=True))
    store = Store.open(made[1])
    frame = store.read(store.frames[1])
    found = np.load(tmp_path / f"{frame.token}.npz")
    assert frame.global_from_lidar[1, 3] == 2.5
    np.testing.assert_allclose(found["y"], frame.xyz[:, 1] + 2.5, atol=1e-6)
    assert (found["class"] == found["true_class"]).all()  # of the labels, without a run


def test_frames_without_poses_are_told_of_where_they_are_laid_over_one_another(made, tmp_path):
    root = write_recording(tmp_path / "drive", frames=2)
    store = str(tmp_path / "zarr")
    precompute(PrecomputeOptions(dataset="folder", dataroot=root, out=store, encoder="demo", workers=0))

    def warnings(store, **asked):
        return export(ExportOptions(cache=store, out=tmp_path / "out" / str(len(asked)), npz=True, **asked)).warnings

    (told,) = warnings(store, to_global=True)
    assert told.startswith("all frames of drive have the same pose")
    assert warnings(store) == ()
    assert warnings(store, to_global=True, frames=("1",)) == ()
    assert warnings(made[1], to_global=True, frames=("0", "1"), subset="train") == (), "these have poses"


def test_a_store_without_labels_and_without_a_run_gives_clusters(tmp_path):
    plain = write_synthetic_store(tmp_path / "zarr", frames=1, labelled=False)
    export(ExportOptions(cache=plain, out=tmp_path / "out", npz=True, ply=True, las=True))
    found = np.load(next((tmp_path / "out").glob("*.npz")))
    assert "true_class" not in found.files
    assert found["segment"].max() >= 1
    assert (found["class"] == 0).all()
    assert (found["score"] == -1).all()


def test_no_kind_of_file_is_an_error(made, tmp_path):
    with pytest.raises(ConfigError, match="--ply"):
        export(ExportOptions.asked(cache=made[1], out=tmp_path))


def test_what_numbers_mean_is_not_changed_under_files_that_are_there(made, tmp_path):
    def exported(**changes):
        return export(ExportOptions(cache=made[1], out=tmp_path, npz=True, **changes))

    exported(frames=("0",))
    before = (tmp_path / "names.json").read_bytes()
    with pytest.raises(ConfigError, match="with other labels, of another run") as error:
        exported(frames=("1",), run=made[0], settings=SETTINGS)
    assert error.value.exit_code == 2
    with pytest.raises(ConfigError, match="with other coordinates"):
        exported(frames=("1",), to_global=True)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    exported(frames=("1",))  # further frames of the same meaning
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert (tmp_path / "names.json").read_bytes() == before
    asked = {"cache": made[1], "npz": True, "out": tmp_path / "run", "run": made[0]}
    export(ExportOptions(frames=("0",), settings=SETTINGS, **asked))
    with pytest.raises(ConfigError, match="of another run, other thresholds"):
        export(ExportOptions(frames=("1",), **asked))
    other = shutil.copytree(made[0], tmp_path / "other")
    with pytest.raises(ConfigError, match="of another run"):
        export(ExportOptions(frames=("1",), settings=SETTINGS, **asked | {"run": other}))
    export(ExportOptions(frames=("1",), settings=SETTINGS, **asked))
    (tmp_path / "names.json").write_text("[1]")
    with pytest.raises(ConfigError, match="not what `ovps export` writes"):
        exported()


def test_another_drive_of_the_same_names_does_not_take_the_place_of_the_first(made, tmp_path):
    def exported(cache, **changes):
        return export(ExportOptions(cache=cache, out=tmp_path / "out", npz=True, **changes))

    other = write_synthetic_store(tmp_path / "other", frames=2, seed=7)
    tokens = [ref.token for ref in Store.open(made[1]).frames]
    assert tokens == [ref.token for ref in Store.open(other).frames]
    exported(made[1])
    before = contents(tmp_path / "out")
    for asked in ((), ("1",)):
        with pytest.raises(ConfigError, match=f"frame {tokens[0]} with other points, .*another drive.*another --out"):
            exported(other, frames=asked)
    assert contents(tmp_path / "out") == before
    names = tmp_path / "out/names.json"
    old = json.loads(names.read_text())
    del old["drives"]
    names.write_text(json.dumps(old))  # as an earlier version wrote it
    exported(made[1])
    assert contents(tmp_path / "out") == before
