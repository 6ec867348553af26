"""The nuScenes adapter on dataroots that are in order."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import transform_matrix
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion

from ovps.datasets.nuscenes import CAMERAS
from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.datasets.nuscenes_tables import official_splits
from ovps.errors import DatasetError
from ovps.taxonomy import load_taxonomy
from tests.helpers.mini_nuscenes import VERSION, write_mini_nuscenes


def test_frames_of_the_mini_dataroot(mini_nuscenes):
    frames = nuscenes.frames(mini_nuscenes, VERSION, ("train", "val"))
    assert [(f.scene, f.index, f.subset) for f in frames] == [
        ("mini-0001", 0, "train"),
        ("mini-0001", 1, "train"),
        ("mini-0002", 0, "val"),
        ("mini-0002", 1, "val"),
    ]
    assert len({f.token for f in frames}) == 4
    for frame in frames:
        assert (frame.dataset, frame.version) == ("nuscenes", VERSION)
        assert tuple(c.channel for c in frame.cameras) == CAMERAS
        assert frame.points_path.startswith(str(mini_nuscenes.absolute()))
        cloud, labels = nuscenes.points(frame), nuscenes.labels(frame)
        assert cloud.xyz.shape == (400, 3)
        assert cloud.xyz.dtype == cloud.intensity.dtype == np.float32
        assert 0 <= cloud.intensity.min() < 0.1 < 0.9 < cloud.intensity.max() <= 1
        assert labels.dtype == np.uint32
        assert labels.shape == (400,)
        semantic, _ = load_taxonomy("nuscenes").decode(labels)
        assert len(np.unique(semantic)) > 10
        for camera in frame.cameras:
            assert nuscenes.image(camera).shape == (camera.height, camera.width, 3) == (72, 128, 3)


def test_frames_survive_pickling(mini_nuscenes):
    frame = nuscenes.frames(mini_nuscenes, VERSION, ("val",))[0]
    again = pickle.loads(pickle.dumps(frame))
    assert again.token == frame.token
    np.testing.assert_array_equal(again.cameras[3].camera_from_lidar, frame.cameras[3].camera_from_lidar)


def test_calibration_goes_through_each_sensors_own_ego_pose(mini_nuscenes):
    """Point by point with the tables alone, in the devkit's order of steps."""
    tables = {n: _rows(mini_nuscenes, n) for n in ("sample_data", "ego_pose", "calibrated_sensor")}
    frame = nuscenes.frames(mini_nuscenes, VERSION, ("train",))[1]
    lidar = tables["sample_data"][frame.token]
    point = np.array([3.0, 12.0, -1.0])
    in_global = _up(tables, lidar, point)
    np.testing.assert_allclose((frame.global_from_lidar @ [*point, 1])[:3], in_global, atol=1e-9)
    for camera in frame.cameras:
        record = next(r for r in tables["sample_data"].values() if camera.image_path.endswith(r["filename"]))
        expected = _down(tables, record, in_global)
        np.testing.assert_allclose((camera.camera_from_lidar @ [*point, 1])[:3], expected, atol=1e-9)
        assert camera.timestamp_us == record["timestamp"] < frame.timestamp_us
        # the car moves between the two: leaving that out would be seen
        pose, lidar_pose = (tables["ego_pose"][r["ego_pose_token"]] for r in (record, lidar))
        assert np.linalg.norm(np.subtract(pose["translation"], lidar_pose["translation"])) > 0.005


def _rows(root, table):
    return {row["token"]: row for row in json.loads((root / VERSION / f"{table}.json").read_text())}


def _chain(tables, record):
    return [
        tables["calibrated_sensor"][record["calibrated_sensor_token"]],
        tables["ego_pose"][record["ego_pose_token"]],
    ]


def _up(tables, record, point):
    for step in _chain(tables, record):
        point = Quaternion(step["rotation"]).rotation_matrix @ point + step["translation"]
    return point


def _down(tables, record, point):
    for step in reversed(_chain(tables, record)):
        point = Quaternion(step["rotation"]).rotation_matrix.T @ (point - step["translation"])
    return point


def test_order_of_time_whatever_the_order_of_the_table(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=1, frames=4)
    path = root / VERSION / "sample.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    frames = nuscenes.frames(root, VERSION, ("train",))
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert (np.diff([f.timestamp_us for f in frames]) > 0).all()


def test_only_key_frames(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=1, frames=1)
    path = root / VERSION / "sample_data.json"
    rows = json.loads(path.read_text())
    sweeps = [row | {"token": f"sweep{i}", "is_key_frame": False} for i, row in enumerate(rows)]
    path.write_text(json.dumps(sweeps + rows))
    (frame,) = nuscenes.frames(root, VERSION, ("train",))
    assert not frame.token.startswith("sweep")


def test_without_labels(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=1, frames=1, labelled=False)
    (frame,) = nuscenes.frames(root, VERSION, ("train",))
    assert frame.labels_path is None
    assert nuscenes.labels(frame) is None


def test_official_splits_where_splits_json_is_silent(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=1)
    _rename(root, {"mini-0001": "scene-0061", "mini-0002": "scene-0003"})  # official: train and val
    (root / VERSION / "splits.json").unlink()
    assert _scenes(root, "train") == ["scene-0061"]
    assert _scenes(root, "val") == ["scene-0003"]
    # a file that names another split leaves train and val as they are; one that names train wins
    (root / VERSION / "splits.json").write_text('{"mine": ["scene-0003"]}')
    assert _scenes(root, "train") == ["scene-0061"]
    assert _scenes(root, "mine") == ["scene-0003"]
    (root / VERSION / "splits.json").write_text('{"train": ["scene-0003", "scene-9999"]}')
    assert _scenes(root, "train") == ["scene-0003"]


def test_a_split_that_splits_json_names_twice_is_refused(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=1)
    (root / VERSION / "splits.json").write_text('{"train": ["mini-0001"], "val": [], "train": ["mini-0002"]}')
    with pytest.raises(DatasetError, match=r"train is named twice.*splits\.json"):
        _scenes(root, "train")


def _rename(root, names):
    path = root / VERSION / "scene.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([row | {"name": names[row["name"]]} for row in rows]))


def _scenes(root, subset):
    return [f.scene for f in nuscenes.frames(root, VERSION, (subset,))]


def test_a_scene_in_two_splits_of_ones_own_is_refused_where_both_are_asked_for(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=1)
    (root / VERSION / "splits.json").write_text('{"a": ["mini-0001"], "b": ["mini-0002", "mini-0001"]}')
    for asked in (("a", "b"), ("b", "a")):
        both = " and ".join(asked)
        with pytest.raises(DatasetError, match=rf"scene mini-0001 in two splits, {both} .*splits\.json.*of them alone"):
            nuscenes.frames(root, VERSION, asked)
    assert {subset: _scenes(root, subset) for subset in "ab"} == {"a": ["mini-0001"], "b": ["mini-0001", "mini-0002"]}


def test_official_splits_contain_each_other_on_purpose(tmp_path):
    """A scene of two of them is loaded once, of the first."""
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=1)
    _rename(root, {"mini-0001": "scene-0061", "mini-0002": "scene-0001"})
    (root / VERSION / "splits.json").unlink()
    frames = nuscenes.frames(root, VERSION, ("mini_train", "train"))
    assert [(f.scene, f.subset) for f in frames] == [("scene-0061", "mini_train"), ("scene-0001", "train")]
    assert nuscenes.warnings(root, frames) == []


def test_what_splits_of_ones_own_name_twice_or_in_vain_is_told(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=1)
    _rename(root, {"mini-0001": "scene-0061", "mini-0002": "scene-0001"})
    (root / VERSION / "splits.json").write_text('{"mine": ["scene-0061", "scene-9999"]}')
    frames = nuscenes.frames(root, VERSION, ("mine", "train"))
    assert [(f.scene, f.subset) for f in frames] == [("scene-0061", "mine"), ("scene-0001", "train")]
    missing, twice = nuscenes.warnings(root, frames)
    assert re.search(r"split mine of .*splits\.json names scene scene-9999, which is not there", missing)
    assert re.search(r"scene scene-0061 in split mine of .* and in the official train", twice)
    assert len(nuscenes.warnings(root, nuscenes.frames(root, VERSION, ("mine",)))) == 1
    assert nuscenes.warnings(root, nuscenes.frames(root, VERSION, ("train",))) == []


def test_scenes_that_no_split_names_are_told(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=3, frames=1)
    splits = root / VERSION / "splits.json"
    splits.write_text('{"train": ["mini-0001"], "val": ["mini-0003"]}')
    (odd,) = nuscenes.warnings(root, nuscenes.frames(root, VERSION, ("train",)))
    assert odd == f"scene mini-0002 is there, and no split names it: name it in {splits}, or it is never used"
    _rename(root, {"mini-0001": "mini-0001", "mini-0002": "scene-0061", "mini-0003": "mini-0003"})
    assert nuscenes.warnings(root, nuscenes.frames(root, VERSION, ("train",))) == [], "an official one is known"


def test_frames_are_those_of_the_devkit(tmp_path):
    """Files, times, sizes and poses, bit by bit."""
    root = write_mini_nuscenes(tmp_path, scenes=2, frames=3)
    devkit = NuScenes(VERSION, str(root), verbose=False)
    samples = {sample["data"]["LIDAR_TOP"]: sample for sample in devkit.sample}
    frames = nuscenes.frames(root, VERSION, ("train", "val"))
    assert {frame.token for frame in frames} == samples.keys()
    for frame in frames:
        sample = samples[frame.token]
        assert frame.points_path == devkit.get_sample_data_path(frame.token)
        assert frame.labels_path == str(root / devkit.get("panoptic", frame.token)["filename"])
        assert frame.timestamp_us == sample["timestamp"]
        assert frame.scene == devkit.get("scene", sample["scene_token"])["name"]
        np.testing.assert_array_equal(frame.global_from_lidar, _placed(devkit, frame.token))
        for camera in frame.cameras:
            path, _, intrinsics = devkit.get_sample_data(sample["data"][camera.channel])
            assert camera.image_path == path
            np.testing.assert_array_equal(camera.intrinsics, intrinsics)
            row = devkit.get("sample_data", sample["data"][camera.channel])
            assert (camera.width, camera.height, camera.timestamp_us) == (row["width"], row["height"], row["timestamp"])
            expected = np.linalg.inv(_placed(devkit, row["token"])) @ frame.global_from_lidar
            np.testing.assert_allclose(camera.camera_from_lidar, expected, atol=1e-9)


def _placed(devkit, token):
    row = devkit.get("sample_data", token)
    pose, sensor = (devkit.get(name, row[f"{name}_token"]) for name in ("ego_pose", "calibrated_sensor"))
    return np.matmul(
        *(transform_matrix(r["translation"], Quaternion(r["rotation"]), inverse=False) for r in (pose, sensor))
    )


def test_official_splits_are_those_of_the_devkit():
    assert official_splits() == create_splits_scenes()


def test_tables_that_no_frame_needs_are_not_read(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=1, frames=1)
    for table in ("sample_annotation", "instance", "attribute", "visibility", "log", "map", "lidarseg"):
        (root / VERSION / f"{table}.json").write_text("not JSON")
    shutil.rmtree(root / "maps")
    shutil.rmtree(root / "lidarseg")
    assert len(nuscenes.frames(root, VERSION, ("train",))) == 1


@pytest.mark.parametrize(("version", "subset"), [("v1.0-trainval", "train"), ("v1.0-mini", "mini_train")])
def test_real_frame(real_nuscenes, version, subset):
    (frame,) = nuscenes.frames(real_nuscenes, version, (subset,))
    assert frame.scene == "scene-0061"
    assert frame.token == "9d9bf11fb0e144c8b446d54a8a00184f"
    cloud, labels = nuscenes.points(frame), nuscenes.labels(frame)
    assert len(cloud) == len(labels) == 34_688
    assert cloud.intensity.max() == 1.0
    for camera in frame.cameras:
        assert nuscenes.image(camera).shape == (900, 1600, 3)
        assert 0 < frame.timestamp_us - camera.timestamp_us <= 44_000


def test_real_frame_is_not_in_mini_val(real_nuscenes):
    with pytest.raises(DatasetError, match="none of the 2 scenes of split 'mini_val'"):
        nuscenes.frames(real_nuscenes, "v1.0-mini", ("mini_val",))
