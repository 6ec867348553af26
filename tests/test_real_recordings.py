"""Real frames of three rigs as recordings of one's own: from raw files to predictions. `make real-check` runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from docs.examples import ddad, kitti_raw
from ovps import datasets
from ovps.cache.verify import verify_store
from ovps.geometry.mistakes import stands_upright
from ovps.geometry.transforms import inverse
from pipelines.data_check import check
from pipelines.options import SegmentOptions
from pipelines.segment import segment

NAMES = "car, pedestrian, road:stuff=road|street, vegetation:stuff=tree|bush, building:stuff"


@pytest.fixture
def real(real_nuscenes) -> Path:
    return real_nuscenes.parent


def from_raw_files_to_predictions(root: Path, out: Path, capsys) -> None:
    """Random weights: the labels mean nothing, the way is what is tested; the demo CLIP stands in for the real one."""
    summary = segment(root, SegmentOptions(encoder="demo", names=NAMES, limit=1, out=out))
    assert verify_store(summary.cache) == []
    (folder,) = summary.predictions
    (file,) = (folder / "labels").rglob("*.npz")
    with np.load(file) as labels:
        assert len(labels["entry"]) == summary.points
        assert (labels["entry"] >= 0).mean() == pytest.approx(1 - summary.unlabelled_share)
    assert json.loads((folder / "about.json").read_text())["run"] == "clip-alone"
    with capsys.disabled():
        print(f"\n{root.name}: {summary.points:,} points, {summary.seen_share:.1%} seen, grid {summary.grid}")


@pytest.mark.parametrize("scene", ["scene_01", "scene_02"])
def test_every_camera_of_ddad_fits(scene, real, tmp_path, capsys):
    ddad.convert(real / "ddad" / "test_scene" / scene, tmp_path / scene)
    found = check(tmp_path / scene)
    assert found.problems == ()
    assert all(share > 0.08 for share in found.seen_share.values()), found.seen_share
    assert len(found.seen_share) == {"scene_01": 3, "scene_02": 6}[scene]
    assert not [w for w in found.warnings if "beyond" not in w], found.warnings
    assert found.farthest_m > 150
    assert -2.2 < found.ground_m < -1.5
    from_raw_files_to_predictions(tmp_path / scene, tmp_path / "found", capsys)


def test_poses_of_each_sensor_matter_in_ddad(real, tmp_path):
    """Without them points move by many pixels: the vehicle drives, and images come 91 ms before the sweep."""
    ddad.convert(real / "ddad" / "test_scene" / "scene_02", tmp_path / "with")
    data = datasets.at("folder", tmp_path / "with")
    frames = data.frames(tmp_path / "with", "1", ("val",))
    content = yaml.safe_load((tmp_path / "with" / "calibration.yaml").read_text())
    mounts = {t["from"]: t for t in content["transforms"]}
    assert set(mounts) == {"lidar", *content["cameras"]}
    moved = []
    for frame in frames:
        for camera in frame.cameras:
            assert stands_upright(camera)
            lidar_from_camera = inverse(camera.camera_from_lidar)
            still = np.array(mounts[camera.channel]["translation"]) - (0, 0, ddad.LIDAR_HEIGHT_M)
            moved.append(np.linalg.norm(lidar_from_camera[:3, 3] - still))
    assert 0.03 < np.median(moved) < 5


def test_kitti_raw_goes_the_whole_way(real, tmp_path, capsys):
    kitti_raw.convert(real / "kitti_raw" / "sequences" / "00", tmp_path / "kitti")
    found = check(tmp_path / "kitti")
    assert (found.frames, found.problems) == (10, ())
    assert 0.1 < found.seen_share["image_2"] < 0.2
    from_raw_files_to_predictions(tmp_path / "kitti", tmp_path / "found", capsys)


def test_a_nuscenes_frame_as_a_recording_is_the_frame_that_the_devkit_reads(real_nuscenes, tmp_path, capsys):
    """The same points and transforms through another layout: float32 of .bin, quaternions, poses of sensors."""
    original = datasets.get("nuscenes")
    (frame,) = original.frames(real_nuscenes, "v1.0-mini", ("mini_train",))
    root = tmp_path / "scene"
    write_as_recording(frame, root)
    data = datasets.at("folder", root)
    (again,) = data.frames(root, "1", ("val",))
    np.testing.assert_array_equal(data.points(again).xyz, original.points(frame).xyz)
    np.testing.assert_allclose(data.points(again).intensity, original.points(frame).intensity, atol=1e-6)
    for one, other in zip(frame.cameras, again.cameras, strict=True):
        assert one.channel == other.channel
        np.testing.assert_allclose(one.camera_from_lidar, other.camera_from_lidar, atol=1e-6)
        np.testing.assert_array_equal(original.image(one), data.image(other))
    assert check(root).problems == ()
    from_raw_files_to_predictions(root, tmp_path / "found", capsys)


def write_as_recording(frame, root: Path) -> None:
    from scipy.spatial.transform import Rotation

    (root / "points").mkdir(parents=True)
    os.symlink(frame.points_path, root / "points" / "0.bin")
    lines = ["sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"]
    cameras, transforms = {}, []
    poses = [("lidar", "points/0.bin", frame.timestamp_us, frame.global_from_lidar)]
    for camera in frame.cameras:
        folder = root / "images" / camera.channel
        folder.mkdir(parents=True)
        os.symlink(camera.image_path, folder / "0.jpg")
        world = frame.global_from_lidar @ inverse(camera.camera_from_lidar)
        poses.append((camera.channel, f"images/{camera.channel}/0.jpg", camera.timestamp_us, world))
        k = camera.intrinsics
        lens = {"fx": k[0, 0], "fy": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
        size = {"width": camera.width, "height": camera.height}
        cameras[camera.channel] = size | {name: float(value) for name, value in lens.items()}
        transforms.append({"from": "lidar", "to": camera.channel, "matrix": camera.camera_from_lidar.tolist()})
    for sensor, file, time, pose in poses:
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        lines.append(",".join(map(str, ("0", sensor, file, time, *pose[:3, 3], w, x, y, z))))
    (root / "readings.csv").write_text("\n".join(lines))
    content = {
        "points": {"columns": ["x", "y", "z", "intensity", "ring"], "intensity_max": 255},
        "cameras": cameras,
        "transforms": transforms,
        "poses_of": "sensor",
    }
    (root / "calibration.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
