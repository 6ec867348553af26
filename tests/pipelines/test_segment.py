"""A recording without labels to labelled points and a page, in one command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ovps.cache.reader import Store
from ovps.datasets.folder.dataset import DATASET as folder
from ovps.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    FrameError,
    ProvenanceError,
    SetupError,
    StorageError,
    VocabularyError,
    WeightsError,
)
from ovps.taxonomy import load_taxonomy
from ovps.training.run_files import load_settings
from pipelines.data_check import check
from pipelines.labels import add_labels
from pipelines.look import image_reader
from pipelines.options import PrecomputeOptions, SegmentOptions, TrainOptions
from pipelines.precompute import estimate, precompute
from pipelines.segment import segment
from pipelines.train import train
from tests.helpers.recording import calibration, image_of, rows_of, write_calibration, write_recording
from tests.pipelines.untrained import TINY


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("segment") / "a b=c é", frames=3)


def labels_of(folder, root, number):
    with np.load(folder / "labels" / "val" / f"{root.name}.{number:03d}.npz") as labels:
        return labels["entry"], labels["instance"]


def test_clip_alone_labels_what_cameras_see_and_draws_it(recording, tmp_path):
    options = SegmentOptions(encoder="demo", names="car, floor:stuff=road|street", out=tmp_path / "found")
    summary = segment(recording, options)
    assert (summary.frames, summary.points) == (3, 3 * len(rows_of(0)))
    assert 0.05 < summary.seen_share < 0.6
    assert summary.unlabelled_share == pytest.approx(1 - summary.seen_share, abs=0.05)
    entry, instance = labels_of(summary.predictions[0], recording, 1)
    assert len(entry) == len(rows_of(1))
    assert set(entry.tolist()) <= {-1, 0, 1}
    assert (instance[entry == 1] == 0).all()
    page = summary.page.read_text()
    assert "floor" in page
    assert len(list((tmp_path / "found" / "pictures").glob("*.png"))) == 3 * 2

    again = segment(recording, options.model_copy(update={"names": "floor:stuff=road"}))
    assert again.cache == summary.cache
    entry, _ = labels_of(again.predictions[0], recording, 1)
    assert set(entry.tolist()) == {-1, 0}
    other = write_recording(tmp_path / "another", frames=1)
    with pytest.raises(ConfigError, match=r"of another recording are there: of .*, and this one is another"):
        segment(other, options)
    assert again.page.is_file()


def test_one_point_file_is_one_frame(recording, tmp_path):
    point_file = recording / "points" / "001.bin"
    summary = segment(point_file, SegmentOptions(encoder="demo", out=tmp_path / "one"))
    assert summary.frames == 1
    assert json.loads((summary.predictions[0] / "about.json").read_text())["entries"][0]["name"] == "car"
    stray = tmp_path / "stray.bin"
    stray.write_bytes(b"1")
    with pytest.raises(DatasetError, match="of no recording"):
        segment(stray, SegmentOptions(encoder="demo"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, mini_nuscenes):
    """A store of other frames."""
    out = tmp_path_factory.mktemp("elsewhere") / "zarr"
    options = {"dataroot": mini_nuscenes, "encoder": "demo", "workers": 0, "grid": "cylinder:60x45x8"}
    precompute(PrecomputeOptions(out=out, **options))
    return out


def test_a_run_that_was_trained_elsewhere_keeps_its_grid(recording, tmp_path, elsewhere):
    train(TrainOptions(cache=elsewhere, out=tmp_path / "run", overrides=TINY))
    summary = segment(recording, SegmentOptions(run=tmp_path / "run", limit=2, out=tmp_path / "found"))
    assert summary.frames == 2
    assert Store.open(summary.cache).provenance.grid == load_settings(tmp_path / "run")[1].grid
    about = json.loads((summary.predictions[0] / "about.json").read_text())
    assert (about["run"], about["format"]) == ("run", "arrays")
    grid = "cylinder:60x45x8:rho=0..9,z=-5..3"  # of the features alone: the network knows its own
    other = segment(recording, SegmentOptions(run=tmp_path / "run", grid=grid, limit=2, out=tmp_path / "other"))
    assert Store.open(other.cache).provenance.grid == grid
    assert (other.grid, other.beyond_range_share) == (summary.grid, summary.beyond_range_share)


def test_a_run_that_a_recording_has_no_features_for_is_told_before_clip_runs(
    recording, tmp_path, elsewhere, monkeypatch
):
    train(TrainOptions(cache=elsewhere, out=tmp_path / "run", overrides=TINY))
    monkeypatch.setattr("pipelines.segment.stage.complete", lambda options: pytest.fail("CLIP was run"))
    settings = tmp_path / "run" / "run.json"
    known = json.loads(settings.read_text())
    theirs = known["clip"]["weights_sha256"][:12]
    with pytest.raises(WeightsError, match=rf"trained on features of {theirs}… .*--weights"):
        segment(recording, SegmentOptions(run=tmp_path / "run", weights="random"))
    settings.write_text(json.dumps(known | {"sweeps": 2}))
    with pytest.raises(ConfigError, match=r"trained with 2 earlier sweeps .* a store that joins none"):
        segment(recording, SegmentOptions(run=tmp_path / "run"))
    settings.write_text(json.dumps(known))
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no such checkpoint .*last.pt"):
        segment(recording, SegmentOptions(run=tmp_path / "run"))


def test_a_run_without_text_names_what_it_was_trained_on(recording, tmp_path, elsewhere, monkeypatch):
    """Which is not what a recording's own taxonomy has."""
    train(TrainOptions(cache=elsewhere, system="closed_set", out=tmp_path / "run", overrides=TINY))
    options = SegmentOptions(run=tmp_path / "run", limit=1, out=tmp_path / "found")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.segment.stage.complete", lambda options: pytest.fail("CLIP was run"))
        with pytest.raises(VocabularyError, match=r"cannot name zebra.*Leave out --names, or give some of: ") as caught:
            segment(recording, options.model_copy(update={"names": "car, zebra"}))
    advised = caught.value.remedy.partition("some of: ")[2]
    assert {"car", "driveable_surface:stuff"} < set(advised.split(", "))

    def kinds(names):
        summary = segment(recording, options.model_copy(update={"names": names}))
        about = json.loads((summary.predictions[0] / "about.json").read_text())
        return {entry["name"]: entry["kind"] for entry in about["entries"]}, " ".join(summary.warnings)

    known, told = kinds(None)
    assert known == {c.name: c.kind for c in load_taxonomy("nuscenes").classes}
    assert kinds(advised) == (known, told)
    assert "mixed up" not in told
    assert "mixed up, nuscenes has sidewalk:stuff: write" in kinds("car, sidewalk")[1]


@pytest.mark.parametrize(("below", "path"), [("points", ".."), ("scripts", ".."), ("", "points/../points/000.bin")])
def test_a_recording_has_a_name_whatever_path_leads_to_it(tmp_path, monkeypatch, below, path):
    root = write_recording(tmp_path / "monday", frames=1)
    (root / below).mkdir(exist_ok=True)
    monkeypatch.chdir(root / below)
    page = segment(Path(path), SegmentOptions(encoder="demo", names="car", pictures=0)).page
    assert page == tmp_path / "monday-segments" / "segments.html"
    if path == "..":
        assert check(Path(path), count=1).page.is_relative_to(tmp_path / "monday-check")


def test_a_recording_all_in_val_gets_the_smaller_codec(recording, tmp_path):
    """Splits are train and val unless one says otherwise: the first one's frames choose, if there are any."""
    options = {"dataset": "folder", "dataroot": recording, "encoder": "demo", "workers": 0}
    for name, subsets in (("both", ("train", "val")), ("val", ("val",))):
        precompute(PrecomputeOptions(out=tmp_path / name, subsets=subsets, **options))
    assert Store.open(tmp_path / "both").provenance.codec == Store.open(tmp_path / "val").provenance.codec == "cells"


def test_only_some_frames(recording, tmp_path):
    options = {"dataset": "folder", "dataroot": recording, "encoder": "demo", "workers": 0, "out": tmp_path / "zarr"}
    token = f"{recording.name}.002"
    assert precompute(PrecomputeOptions(only=(token,), **options)).frames == 1
    assert [ref.token for ref in Store.open(tmp_path / "zarr").frames] == [token]
    with pytest.raises(DatasetError, match="no such frame"):
        precompute(PrecomputeOptions(only=("nothing",), **options))


def test_what_was_asked_for_is_checked_before_clip_runs(recording, tmp_path, store, monkeypatch):
    """With real CLIP it runs for hours."""
    monkeypatch.setattr("pipelines.segment.stage.complete", lambda options: pytest.fail("CLIP was run"))
    before = sorted(store.rglob("*"))
    for wrong, kind in (
        ({"out": store, "names": "car"}, ConfigError),
        ({"out": recording, "names": "car"}, ConfigError),
        ({"out": recording / "points"}, ConfigError),
        ({"out": tmp_path / "x", "names": ""}, VocabularyError),
        ({"out": tmp_path / "x", "names": "car, car"}, VocabularyError),
        ({"out": tmp_path / "x", "names": "a\udcffb"}, VocabularyError),
        ({"out": tmp_path / "x", "run": tmp_path / "no run"}, CheckpointError),
        ({"out": Path("/proc/segments"), "names": "car"}, StorageError),
    ):
        with pytest.raises(kind):
            segment(recording, SegmentOptions(encoder="demo", **wrong))
    monkeypatch.setitem(sys.modules, "plyfile", None)  # as if it were not installed
    with pytest.raises(SetupError, match=r"plyfile is not installed.*\[viewer\]"):
        segment(recording, SegmentOptions(encoder="demo", names="car", out=tmp_path / "x", ply=True))
    assert sorted(store.rglob("*")) == before
    assert not (tmp_path / "x").exists()


def test_only_the_frames_that_were_asked_for_are_labelled(recording, tmp_path):
    """Whatever the folder holds of before; their features stay, and are not computed again."""
    options = SegmentOptions(encoder="demo", names="car", out=tmp_path / "found")
    assert segment(recording, options).frames == 3
    points = recording / "points"
    for path, limit, numbers in ((recording, 1, [0]), (recording, 2, [0, 1]), (points / "002.bin", None, [2])):
        summary = segment(path, options.model_copy(update={"limit": limit}))
        assert (summary.frames, summary.points) == (len(numbers), len(numbers) * len(rows_of(0)))
        labels = sorted(file.stem for file in (summary.predictions[0] / "labels" / "val").iterdir())
        assert labels == [f"{recording.name}.{number:03d}" for number in numbers]
        shown = summary.page.read_text()
        assert [f".{n:03d}-front.png" in shown for n in range(3)] == [n in numbers for n in range(3)]
    assert len(Store.open(summary.cache).frames) == 3


def test_what_it_advises_it_can_do(recording, tmp_path):
    """Frames that cannot be used stop it, and may be left out, by precompute too."""
    root = tmp_path / "one point"
    shutil.copytree(recording, root)
    for file in (root / "points").iterdir():
        file.write_bytes(np.array([[-5, 0, 0, 1]], "<f4").tobytes())  # behind the camera
    empty = tmp_path / "empty"
    shutil.copytree(recording, empty)
    (empty / "points" / "001.bin").write_bytes(b"")
    for bad in (root, empty):
        with pytest.raises(FrameError, match=r"; or leave such frames out with --on-error skip$"):
            segment(bad, SegmentOptions(encoder="demo", names="car"))
        options = {"dataset": "folder", "dataroot": bad, "encoder": "demo", "workers": 0, "out": tmp_path / "z"}
        for run in (precompute, estimate):
            with pytest.raises(FrameError, match=r"; or leave such frames out with --on-error skip$"):
                run(PrecomputeOptions(**options))
    assert precompute(PrecomputeOptions(on_error="skip", **options)).frames == 2


def test_settings_of_all_features_are_not_changed_unasked(recording, tmp_path):
    """What it advises works: another --out, or the folder deleted."""
    root = shutil.copytree(recording, tmp_path / "drive")
    options = SegmentOptions(encoder="demo", names="car", out=tmp_path / "found", limit=1)
    store = segment(root, options).cache
    write_calibration(root, calibration() | {"occlusion": {"vertical_deg": 2.0}})
    for changed in ({}, {"grid": "cylinder:60x45x8"}):
        with pytest.raises(ProvenanceError, match=r"occlusion .*1\.4.* there, .*2\.0.* now") as error:
            segment(root, options.model_copy(update=changed))
        assert error.value.path == str(store)
        assert "another --out, or delete that folder" in error.value.remedy
        assert "Choose another place" not in error.value.remedy
    assert segment(root, options.model_copy(update={"out": tmp_path / "other"})).frames == 1
    shutil.rmtree(store)
    assert segment(root, options).frames == 1


@pytest.mark.parametrize("file", ["points/000.bin", "points/001.bin", "images/front/002.png"])
def test_a_damaged_frame_is_left_out_and_named_and_the_others_are_labelled(file, recording, tmp_path):
    root = tmp_path / "drive"
    shutil.copytree(recording, root)
    damaged = root / file
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    bad = f"drive.{damaged.stem}"
    options = SegmentOptions(encoder="demo", names="car, floor:stuff=road", out=tmp_path / "found")
    summary = segment(root, options.model_copy(update={"on_error": "skip"}))
    assert summary.frames == 2
    (record,) = summary.left_out
    assert (record.token, str(damaged) in record.reason) == (bad, True)
    assert [w for w in summary.warnings if w.startswith(f"frame {bad} is left out: ")]
    assert summary.in_words()["left out"] == "1 frame, see the warnings"
    assert f"frame {bad} is left out" in summary.page.read_text()
    labels = sorted(f.stem for f in (summary.predictions[0] / "labels" / "val").iterdir())
    assert labels == [f"drive.{number:03d}" for number in range(3) if number != int(damaged.stem)]

    with pytest.raises(FrameError, match=r"--on-error skip"):
        segment(root, options)
    shutil.copy(recording / file, damaged)
    mended = segment(root, options)
    assert (mended.frames, mended.left_out) == (3, ())


def test_a_recording_of_damaged_frames_alone_is_an_error(recording, tmp_path):
    root = tmp_path / "drive"
    shutil.copytree(recording, root)
    for file in (root / "points").iterdir():
        file.write_bytes(rows_of(0).tobytes()[:-7])
    with pytest.raises(DatasetError, match=r"none of 3 frames can be used\. The first: the point file"):
        segment(root, SegmentOptions(encoder="demo", names="car", on_error="skip", out=tmp_path / "found"))
    assert not (tmp_path / "found" / "zarr").exists()


def test_a_sweep_whose_image_has_not_come_yet_is_left_out_and_labelled_later(recording, tmp_path):
    root, file = tmp_path / "drive", "images/front/001.png"
    shutil.copytree(recording, root)
    (root / file).unlink()
    options = SegmentOptions(encoder="demo", names="car", out=tmp_path / "found")
    summary = segment(root, options)
    assert summary.frames == 2
    assert any("1 sweep without an image, used as no frame" in warning for warning in summary.warnings)
    assert [(record.token, record.kind) for record in summary.left_out] == [("drive.001", "image")]
    assert summary.in_words()["left out"] == "1 frame, see the warnings"
    with pytest.raises(DatasetError, match="no camera has an image of this sweep"):
        segment(root / "points" / "001.bin", options)
    shutil.copy(recording / file, root / file)
    late = segment(root, options)
    assert (late.frames, late.left_out) == (3, ())
    assert not any("no image" in warning for warning in late.warnings)
    once = segment(root, options.model_copy(update={"out": tmp_path / "once"}))
    for number in range(3):
        for a, b in zip(*(labels_of(one.predictions[0], root, number) for one in (late, once)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_point_beyond_all_reason_is_told_before_a_grid_is_fitted_to_it(recording, tmp_path):
    root = tmp_path / "drive"
    shutil.copytree(recording, root)
    for number in range(3):
        rows = rows_of(number)
        rows[:, :3] *= np.float32(1e8)
        (root / "points" / f"{number:03d}.bin").write_bytes(rows.tobytes())
    options = SegmentOptions(encoder="demo", names="car", out=tmp_path / "found")
    with pytest.raises(FrameError, match=r"points lie farther than 1000 m away.*000\.bin.*Points are in metres"):
        segment(root, options)


def test_some_frames_are_drawn_all_are_labelled_and_points_are_written_for_other_programs(recording, tmp_path):
    plyfile = pytest.importorskip("plyfile")
    out = tmp_path / "found"
    options = SegmentOptions(encoder="demo", names="car, floor:stuff=road", pictures=2, ply=True, out=out)
    summary = segment(recording, options)
    assert (summary.frames, summary.frames_drawn) == (3, 2)
    assert "the other 1 are labelled and not drawn: --pictures 3" in str(summary.in_words()["page"])
    assert any("no count of objects" in warning for warning in summary.warnings)
    entry, instance = labels_of(summary.predictions[0], recording, 1)
    points = plyfile.PlyData.read(out / "ply" / f"{recording.name}.001.ply")["vertex"]
    np.testing.assert_array_equal(points["entry"], entry)
    np.testing.assert_array_equal(points["instance"], instance)
    np.testing.assert_allclose(points["x"], rows_of(1)[:, 0], atol=1e-6)
    colours = {
        (int(e), *map(int, c)) for e, *c in zip(entry, points["red"], points["green"], points["blue"], strict=True)
    }
    assert len(colours) == len(set(entry.tolist()))  # one colour a name
    shutil.copytree(out / "predictions", out / "predictions-before")
    again = options.model_copy(update={"names": "bus, wall:stuff", "limit": 1, "ply": False})
    assert segment(recording, again).frames == 1
    assert not list((out / "ply").iterdir())  # of the names before
    assert (out / "predictions-before/about.json").exists()  # a copy of the user's
    assert {file.name.split("-")[0] for file in (out / "pictures").iterdir()} == {f"{recording.name}.000"}


def test_a_recording_that_was_renamed_is_told(tmp_path):
    root = write_recording(tmp_path / "before", frames=2)
    store = tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=root, out=str(store), encoder="demo", workers=0)
    assert precompute(options).warnings == ()
    renamed = root.rename(tmp_path / "after")
    with pytest.raises(DatasetError, match=r"none of the store's 2 frames is in it: it has after.000, the"):
        add_labels(store, renamed)
    (warning,) = precompute(options.model_copy(update={"dataroot": renamed})).warnings
    assert warning.startswith("frames of scenes after and before are as many")
    other = write_recording(tmp_path / "other", frames=2)
    (other / "points/000.bin").write_bytes(rows_of(0)[1:].tobytes())
    assert len(precompute(options.model_copy(update={"dataroot": other})).warnings) == 1


def test_images_of_a_recording_are_seen_through_its_lens_by_what_a_store_keeps(tmp_path):
    """Each scene by its own calibration file."""
    lens = calibration()
    lens["cameras"]["front"] |= {"model": "opencv", "distortion": [-0.3, 0.1, 0, 0, 0]}
    root = write_recording(tmp_path / "drives", frames=1, scene="monday")
    write_recording(root, frames=1, scene="tuesday")
    write_calibration(root / "tuesday", lens)
    options = PrecomputeOptions(dataset="folder", dataroot=root, out=str(tmp_path / "zarr"), encoder="demo", workers=0)
    precompute(options)
    store = Store.open(tmp_path / "zarr")
    read = image_reader(store, root)
    seen = {frame.scene: read(frame) for frame in store.frames}
    data = folder.at(root)
    for frame in data.frames(root, "1", ("val",)):
        ((camera, image),) = seen[frame.scene]
        assert (camera.channel, image.shape) == ("front", (64, 96, 3))
        assert (image == data.image(frame.cameras[0])).all()
    assert (seen["monday"][0][1] == image_of(0)).all()
    assert (seen["tuesday"][0][1] != image_of(0)).any()
