"""Senseless input is refused at the first frame with its cause; what is odd but usable is told once, in numbers."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyquaternion import Quaternion
from safetensors.torch import load_file, save_file

from driveworld import build_world
from ovps import cli, datasets
from ovps.cache.info import store_info
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.clip import demo
from ovps.errors import ConfigError, DatasetError, FrameError
from ovps.frame import Frame
from ovps.geometry.projection import project
from pipelines.precompute import PrecomputeOptions, compute_frame, estimate, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.options import resolved
from pipelines.stores.missing import missing_frames
from tests.helpers.mini_nuscenes import CAMERA_YAW_DEG, VERSION, write_mini_nuscenes
from tests.helpers.recording import CAMERA_FROM_LIDAR, calibration, write_recording

FRAMES = 6


@pytest.fixture
def root(tmp_path) -> Path:
    """Without labels: a sweep that is cut off would be told by their number."""
    return write_mini_nuscenes(tmp_path / "world", scenes=1, frames=FRAMES, points=300, labelled=False)


def options_for(root: Path, **changes) -> PrecomputeOptions:
    values = {"grid": "cylinder:60x45x8", "encoder": "demo", "weights": "random", "subsets": ("train",)}
    values |= {"workers": 0, "codec": "cells", "dataroot": root, "out": root.parent / "zarr"}
    return PrecomputeOptions.model_validate(values | changes)


def calibrate(root: Path, channel: str, **columns) -> None:
    """Other values in the calibration of one camera."""
    folder = root / VERSION
    sensors = {row["token"]: row["channel"] for row in json.loads((folder / "sensor.json").read_text())}
    rows = json.loads((folder / "calibrated_sensor.json").read_text())
    rows = [row | columns if sensors[row["sensor_token"]] == channel else row for row in rows]
    (folder / "calibrated_sensor.json").write_text(json.dumps(rows))


def edit_points(root: Path, change, number: int = 0) -> str:
    """Rewrite the sweep of one frame; its path."""
    path = frames_of(resolved(options_for(root)))[number].points_path
    change(np.fromfile(path, np.float32).reshape(-1, 5)).tofile(path)
    return path


def strict(text: str):
    """Parsed as JSON is defined: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def quarantine_all(options) -> None:
    """Every frame is left out, with the reason, and that is no success."""
    with pytest.raises(DatasetError, match=f"none of {FRAMES} frames could be computed, all are quarantined"):
        precompute(options.model_copy(update={"on_error": "skip"}))
    assert len(store_info(options.out).quarantined) == FRAMES


# senseless


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory) -> Path:
    """Weights of the demo CLIP, all finite, whose image tower ends in NaN; the text tower is as it was."""
    state = {name: tensor.float() for name, tensor in load_file(demo.weights_path()).items()}
    for name, tensor in state.items():
        if name.startswith("visual") and tensor.ndim == 4:
            tensor.fill_(1e25)
    path = tmp_path_factory.mktemp("weights") / "overflowing.safetensors"
    save_file(state, path)
    return path


def test_features_that_are_no_numbers_are_never_stored(root, overflowing):
    options = options_for(root, weights=str(overflowing))
    with pytest.raises(FrameError, match=r"demo gives 144 of 144 cells of CAM_FRONT .* NaN") as caught:
        precompute(options)
    first = frames_of(resolved(options))[0]
    assert (caught.value.frame, caught.value.path) == (first.token, first.cameras[0].image_path)
    assert "--weights" in caught.value.remedy
    assert verify_store(options.out) == []
    assert Store.open(options.out).frames == ()

    quarantine_all(options)
    assert strict(store_info(options.out).model_dump_json())["frames"] == 0


def test_weights_that_are_renewed_are_read_anew(root, tmp_path, overflowing):
    """In one process, as of a notebook."""
    weights = tmp_path / "weights.safetensors"
    shutil.copy(demo.weights_path(), weights)
    options = options_for(root, weights=str(weights), limit=1, out=tmp_path / "first")
    precompute(options)
    shutil.copy(overflowing, weights)
    with pytest.raises(FrameError, match="NaN"):
        precompute(options.model_copy(update={"out": str(tmp_path / "second")}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_one_cell_that_is_no_number_is_an_error_of_its_frame_alone(root, monkeypatch, value):
    real, calls = compute_frame.encode_batches, 0

    def once(*args):
        nonlocal calls
        made = [cells.copy() for cells in real(*args)]
        for cells in made:
            calls += 1
            cells[0, 0] = value if calls == 8 else cells[0, 0]  # the second image of the second frame
        return made

    monkeypatch.setattr("pipelines.precompute.flow.encode_batches", once)
    options = options_for(root, on_error="skip")
    summary = precompute(options)
    second = frames_of(resolved(options))[1]
    (record,) = summary.quarantined
    assert record.token == second.token
    assert second.cameras[1].image_path in record.reason
    store = Store.open(options.out)
    assert second.token not in {ref.token for ref in store.frames}
    assert all(np.isfinite(store.read(ref).clip).all() for ref in store.frames)
    monkeypatch.undo()
    assert precompute(options).mended == 1, "and it is tried again without being asked"


FX0 = [[0.0, 0.0, 64.0], [0.0, 102.4, 36.0], [0.0, 0.0, 1.0]]
CALIBRATIONS = {
    "the identity": (np.eye(3).tolist(), "identity matrix"),
    "transposed": ([[102.4, 0, 0], [0, 102.4, 0], [64, 36, 1]], "transposed"),
    "0 to 1": ([[0.8, 0, 0.5], [0, 1.42, 0.5], [0, 0, 1]], "normalised"),
    "no focal length": (FX0, "focal length of 0"),
    "mirrored": ([[-102.4, 0, 64], [0, 102.4, 36], [0, 0, 1]], "negative focal length"),
    "1600 x 900": ([[1266, 0, 816], [0, 1266, 491], [0, 0, 1]], "another resolution"),
}


@pytest.mark.parametrize("what", CALIBRATIONS)
def test_calibrations_of_no_camera_are_refused_at_the_first_frame(root, what):
    intrinsics, words = CALIBRATIONS[what]
    calibrate(root, "CAM_BACK_LEFT", camera_intrinsic=intrinsics)
    options = options_for(root, codec=None)
    first = frames_of(resolved(options))[0]
    for run in (estimate, precompute):
        with pytest.raises(FrameError, match=f"{words}.*CAM_BACK_LEFT") as caught:
            run(options)
        assert (caught.value.frame, caught.value.path) == (first.token, first.cameras[4].image_path)
    quarantine_all(options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows * np.float32([1000, 1000, 1000, 1, 1]), "farther than 1000 m away"),
        (lambda rows: rows + np.float32([411, 1180, 0, 0, 0]), "farther than 1000 m away, the first at"),
        (lambda rows: rows * np.float32([0, 0, 0, 1, 1]) - np.float32([0, 0, 9, 0, 0]), "none of the 6 cameras sees a"),
    ],
    ids=["millimetres", "another frame of coordinates", "all in one spot"],
)
def test_sweeps_that_no_lidar_gives(root, change, words):
    path = edit_points(root, change)
    for run in (estimate, precompute):
        with pytest.raises(FrameError, match=words) as caught:
            run(options_for(root))
        assert caught.value.path == path


def test_a_dry_run_names_the_frame_of_a_bad_image(root):
    frame = frames_of(resolved(options_for(root)))[0]
    Path(frame.cameras[1].image_path).unlink()
    with pytest.raises(FrameError, match="CAM_FRONT_RIGHT does not exist") as caught:
        estimate(options_for(root))
    assert caught.value.frame == frame.token


# odd


UP = list(Quaternion(axis=(0, 1, 0), degrees=0))  # the camera's z is the vehicle's z


def test_a_camera_that_sees_no_point_is_told_once(root, monkeypatch, capsys):
    calibrate(root, "CAM_BACK", rotation=UP)
    options = options_for(root, partition_frames=2)
    dry = estimate(options)
    summary = precompute(options)
    assert (summary.frames, summary.quarantined) == (FRAMES, ())
    (warning,) = summary.warnings
    assert f"CAM_BACK sees no point in {FRAMES} of {FRAMES} frames" in warning
    assert dry.warnings == store_info(options.out).warnings == summary.warnings
    assert (
        summary.sweeps.seen_share["CAM_BACK"]
        == 0
        < min(share for channel, share in summary.sweeps.seen_share.items() if channel != "CAM_BACK")
    )
    store = Store.open(options.out)
    assert all(store.read(ref).valid.any() for ref in store.frames)

    for json_asked in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["ovps", "cache", "info", str(options.out), *json_asked])
        with pytest.raises(SystemExit):
            cli.main()
        shown = capsys.readouterr()
        assert shown.err.count("CAM_BACK sees no point") == 1
        if json_asked:
            assert strict(shown.out)["warnings"] == list(summary.warnings)
        else:
            assert "sees no point" not in shown.out
            assert "seen share / CAM_FRONT_LEFT" in shown.out


def cover(frame: Frame, channels) -> None:
    """Write images of one colour, as a covered camera gives them."""
    for camera in frame.cameras:
        if camera.channel in channels:
            Image.new("RGB", (camera.width, camera.height), (3, 3, 3)).save(camera.image_path, quality=95)


def test_an_image_of_one_colour_says_nothing_of_what_it_covers(root):
    channels = list(CAMERA_YAW_DEG)
    precompute(options_for(root, out=root.parent / "others", cameras=channels[1:]))
    for frame in frames_of(resolved(options_for(root))):
        cover(frame, channels[:1])
    summary = precompute(options_for(root))
    assert summary.warnings[0].startswith(f"{channels[0]} sees no point in {FRAMES} of {FRAMES} frames")
    assert "its images are of one colour" in summary.warnings[0]
    covered, others = Store.open(root.parent / "zarr"), Store.open(root.parent / "others")
    for one, other in zip(covered.frames, others.frames, strict=True):
        assert np.array_equal(covered.read(one).valid, others.read(other).valid)
        assert covered.read(one).clip.tobytes() == others.read(other).clip.tobytes()


def test_a_frame_whose_images_are_all_of_one_colour_is_refused(root):
    frame = frames_of(resolved(options_for(root)))[1]
    cover(frame, CAMERA_YAW_DEG)
    with pytest.raises(FrameError, match="all 6 cameras are of one colour each") as caught:
        precompute(options_for(root))
    assert caught.value.frame == frame.token


def test_cameras_with_one_and_the_same_pose_are_told(root):
    rows = json.loads((root / VERSION / "calibrated_sensor.json").read_text())
    sensors = {row["token"]: row["channel"] for row in json.loads((root / VERSION / "sensor.json").read_text())}
    poses = {sensors[row["sensor_token"]]: {k: row[k] for k in ("translation", "rotation")} for row in rows}
    calibrate(root, "CAM_BACK", **poses["CAM_FRONT"])
    assert estimate(options_for(root)).warnings[0].startswith("CAM_BACK, CAM_FRONT have one and the same pose in ")


def test_points_upside_down_are_told(tmp_path):
    root = tmp_path / "world"
    build_world(root, scenes=1, frames=1, seed=3, workers=1, val_fraction=0.0, image_size=(96, 54))
    options = options_for(root, out=tmp_path / "zarr")
    assert not [warning for warning in estimate(options).warnings if "ground" in warning]
    (path,) = {frame.points_path for frame in frames_of(resolved(options))}
    rows = np.fromfile(path, np.float32).reshape(-1, 5)
    (rows * np.array([1, 1, -1, 1, 1], np.float32)).tofile(path)
    assert "the ground lies above all other points" in estimate(options).warnings[0]


def test_a_frame_that_no_camera_sees_is_refused(root):
    for channel in CAMERA_YAW_DEG:
        calibrate(root, channel, rotation=UP)
    options = options_for(root)
    with pytest.raises(FrameError, match="none of the 6 cameras sees a point") as caught:
        precompute(options)
    assert caught.value.frame == frames_of(resolved(options))[0].token


def test_the_numbers_are_those_of_the_frames(root):
    edit_points(root, lambda rows: rows[:120], 4)
    options = options_for(root, occlusion=False)
    summary = precompute(options)
    frames, dataset = frames_of(resolved(options)), datasets.get("nuscenes")
    clouds = [dataset.points(frame).xyz.astype(np.float64) for frame in frames]
    total = 300 * (FRAMES - 1) + 120
    far = sum(((np.hypot(x, y) > 50) | (z < -5) | (z > 3)).sum() for x, y, z in (cloud.T for cloud in clouds))
    assert 0 < far < total / 10
    sweeps = summary.sweeps
    assert sweeps.beyond_range_share == pytest.approx(far / total)
    assert (sweeps.points_least, sweeps.points_median, sweeps.frames) == (120, 300, FRAMES)
    assert sweeps.points_least_frame == frames[4].token
    for number, channel in enumerate(c.channel for c in frames[0].cameras):
        seen = sum(
            project(cloud, frame.cameras[number]).inside.sum() for cloud, frame in zip(clouds, frames, strict=True)
        )
        assert sweeps.seen_share[channel] == pytest.approx(seen / total)
    info = store_info(options.out)
    assert (info.sweeps, info.warnings) == (sweeps, summary.warnings)
    assert precompute(options).sweeps == sweeps, "of what is asked for, whoever computed it"


def test_a_sweep_cut_to_95_percent_is_noticed(root, monkeypatch):
    monkeypatch.setattr(import_module("pipelines.precompute.estimate"), "SAMPLED", 5)
    path = edit_points(root, lambda rows: rows[: int(0.95 * len(rows))], 5)
    options = options_for(root)
    cut = next(frame for frame in frames_of(resolved(options)) if frame.points_path == path)
    dry, summary = estimate(options), precompute(options)
    for result in (dry, summary, store_info(options.out)):
        assert (result.sweeps.points_least, result.sweeps.points_median) == (285, 300)
        assert result.sweeps.points_least_frame == cut.token
        assert any("1 of 6 frames have clearly fewer points" in w and cut.token in w for w in result.warnings)


def test_a_grid_that_is_too_small_is_told(root):
    summary = precompute(options_for(root, grid="cylinder:60x45x8:rho=0..10"))
    (warning,) = summary.warnings
    assert "lie beyond the grid's range" in warning
    assert summary.sweeps.beyond_range_share > 0.25


def test_nothing_is_told_of_frames_in_order(root):
    options = options_for(root)
    assert (estimate(options).warnings, precompute(options).warnings) == ((), ())
    assert store_info(options.out).warnings == ()
    assert estimate(options).sweeps is None, "nothing is missing"


def test_a_split_asked_for_by_name_that_has_no_frame_is_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    options = options_for(root, dataset="folder", subsets=("trian", "val"))
    told = "split trian has no frames here: it goes without"
    assert told in estimate(options).warnings
    assert told in precompute(options).warnings
    usual = estimate(options.model_copy(update={"subsets": ("train", "val")}))  # as where nobody names any
    assert not [warning for warning in usual.warnings if "goes without" in warning]


def test_an_image_that_a_camera_dropped_is_no_reason_to_refuse_the_camera(tmp_path):
    """As where no camera is named; a sweep that none of the named ones saw is left out."""
    known = calibration()
    also = {"from": "lidar", "to": "left", "matrix": (CAMERA_FROM_LIDAR + np.eye(4, k=3) * 0.3).tolist()}
    cameras = {"cameras": dict.fromkeys(("front", "left"), known["cameras"]["front"])}
    root = write_recording(tmp_path / "drive", frames=3, changed=cameras | {"transforms": [*known["transforms"], also]})
    shutil.copytree(root / "images" / "front", root / "images" / "left")
    (root / "images" / "left" / "001.png").unlink()
    options = options_for(root, dataset="folder", subsets=("val",), cameras=("left", "front"))
    channels = [[camera.channel for camera in frame.cameras] for frame in frames_of(resolved(options))]
    assert channels == [["left", "front"], ["front"], ["left", "front"]]
    assert precompute(options).images == 5

    left = options.model_copy(update={"cameras": ("left",)})
    told = "1 of 3 frames have no image of left and are left out, the first is drive.001"
    assert [frame.index for frame in frames_of(resolved(left))] == [0, 2]
    assert told in estimate(left.model_copy(update={"out": str(tmp_path / "other")})).warnings
    assert told in precompute(left.model_copy(update={"out": str(tmp_path / "other")})).warnings
    assert missing_frames(tmp_path / "other", root)["val"] == {"frames": 0, "labels": 0}
    with pytest.raises(DatasetError, match="no frame asked for has an image of left"):
        frames_of(resolved(left.model_copy(update={"only": ("drive.001",)})))


def test_a_real_frame_in_numbers(real_nuscenes, tmp_path):
    options = options_for(
        real_nuscenes, grid="cylinder", version="v1.0-mini", subsets=("mini_train",), out=tmp_path / "zarr"
    )
    summary = precompute(options)
    assert summary.warnings == ()
    assert summary.sweeps.points_least == summary.sweeps.points_median == 34_688
    assert 0.03 < min(summary.sweeps.seen_share.values()) < max(summary.sweeps.seen_share.values()) < 0.2
    assert 0.05 < summary.sweeps.beyond_range_share < 0.1


def test_images_that_do_not_exist_are_told_by_a_dry_run(tmp_path):
    root = write_mini_nuscenes(tmp_path / "data", scenes=1, frames=3)
    lost = sorted((root / "samples" / "CAM_BACK").iterdir())[1:]
    for path in lost:
        path.unlink()
    (warning,) = [w for w in estimate(options_for(root)).warnings if "of cameras missing" in w]
    assert warning.startswith("2 images of cameras missing, the first is ")
    assert any(str(path) in warning for path in lost)


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ("nowhere", DatasetError, "no such folder"),
        ("file", DatasetError, "a file, not the folder of a data set"),
        ("file:///tmp/x", ConfigError, "a URL: only a store can be at one"),
        ("s3://bucket/x", ConfigError, "a URL: only a store can be at one"),
    ],
)
@pytest.mark.parametrize("dataset", ["nuscenes", "semantickitti", "folder"])
def test_where_no_data_set_is_its_option_and_variable_are_told(dataset, given, kind, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(kind, match=says) as caught:
        estimate(PrecomputeOptions(dataset=dataset, dataroot=Path(given), encoder="demo"))
    if kind is DatasetError:
        assert caught.value.remedy == f"Give the folder of data set {dataset} by --dataroot"
        monkeypatch.delenv(f"OVPS_{dataset.upper()}", raising=False)
        with pytest.raises(DatasetError, match=f"by --dataroot or the variable OVPS_{dataset.upper()}"):
            estimate(PrecomputeOptions(dataset=dataset, encoder="demo"))
