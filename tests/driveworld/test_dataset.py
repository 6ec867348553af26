"""Drive world is a nuScenes data set: the unmodified devkit reads it and agrees with every number in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.data_io import load_bin_file
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import get_scenes_of_custom_split
from PIL import Image

from driveworld import WorldSummary
from driveworld.raw_labels import CATEGORY_INDEX, CLASSES, GENERAL_CATEGORIES, THINGS
from driveworld.rig import CAMERAS

CHANNELS = {"LIDAR_TOP", *(c.channel for c in CAMERAS)}


def _labels(nusc: NuScenes, token: str, kind: str) -> np.ndarray:
    return load_bin_file(str(Path(nusc.dataroot) / nusc.get(kind, token)["filename"]), kind)


def test_devkit_finds_all_sensors_of_every_sample(nusc: NuScenes, world: WorldSummary) -> None:
    assert len(nusc.scene) == world.scenes == 3
    assert len(nusc.sample) == world.frames == 9
    for sample in nusc.sample:
        assert set(sample["data"]) == CHANNELS
        for token in sample["data"].values():
            assert Path(nusc.get_sample_data_path(token)).is_file()


def test_splits_name_every_scene_once(nusc: NuScenes) -> None:
    train, val = (get_scenes_of_custom_split(s, nusc) for s in ("train", "val"))
    assert sorted(train + val) == sorted(s["name"] for s in nusc.scene)
    assert len(val) == 1


def test_links_lead_through_every_chain(nusc: NuScenes) -> None:
    for scene in nusc.scene:
        token, steps, last = scene["first_sample_token"], 0, ""
        while token:
            token, last, steps = nusc.get("sample", token)["next"], token, steps + 1
        assert (steps, last) == (scene["nbr_samples"], scene["last_sample_token"])
    for instance in nusc.instance:
        token, last, steps = instance["first_annotation_token"], "", 0
        while token:
            annotation = nusc.get("sample_annotation", token)
            assert annotation["instance_token"] == instance["token"]
            assert annotation["prev"] == last
            token, last, steps = annotation["next"], token, steps + 1
        assert (steps, last) == (instance["nbr_annotations"], instance["last_annotation_token"])


def test_boxes_hold_as_many_points_as_they_say(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        assert boxes
        for box in boxes:
            assert points_in_box(box, points).sum() == nusc.get("sample_annotation", box.token)["num_lidar_pts"]


def test_boxes_hold_the_points_of_their_instance(nusc: NuScenes) -> None:
    """Labels and boxes were made apart: nearly all points of a thing lie in a box of its category."""
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        path, boxes, _ = nusc.get_sample_data(token)
        points, panoptic = LidarPointCloud.from_file(path).points[:3], _labels(nusc, token, "panoptic")
        covered = np.zeros(len(panoptic), bool)
        for box in boxes:
            category = GENERAL_CATEGORIES.index(box.name)
            covered |= points_in_box(box, points) & (panoptic // 1000 == category)
        assert covered[panoptic % 1000 > 0].mean() > 0.99


def test_labels_are_general_categories(nusc: NuScenes, world: WorldSummary) -> None:
    things = {CATEGORY_INDEX[c] for c in THINGS} | {GENERAL_CATEGORIES.index("human.pedestrian.child")}
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        panoptic, semantic = _labels(nusc, token, "panoptic"), _labels(nusc, token, "lidarseg")
        points = np.fromfile(nusc.get_sample_data_path(token), np.float32).reshape(-1, 5)
        assert len(points) == len(panoptic) == len(semantic)
        assert panoptic.dtype == np.uint16
        assert (panoptic // 1000 == semantic).all()
        assert set(np.unique(semantic)) <= set(CATEGORY_INDEX.values()) | things
        assert ((panoptic % 1000 > 0) == np.isin(semantic, list(things))).all()
    assert [c["name"] for c in nusc.category] == list(GENERAL_CATEGORIES)
    assert all(world.segments[name] > 0 for name in CLASSES)


def test_points_look_like_a_sweep(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        points = np.fromfile(nusc.get_sample_data_path(sample["data"]["LIDAR_TOP"]), np.float32).reshape(-1, 5)
        elevation = np.rad2deg(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        assert elevation.min() == pytest.approx(-30, abs=0.5)
        assert elevation.max() <= 10.01
        assert points[:, 3].min() >= 1
        assert points[:, 3].max() <= 255
        assert set(np.unique(points[:, 4])) == set(range(32))
        assert len(points) > 0.6 * 32 * 540


def test_the_car_drives_between_the_sensors(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        rows = [nusc.get("sample_data", t) for t in sample["data"].values()]
        poses = {r["channel"]: np.array(nusc.get("ego_pose", r["ego_pose_token"])["translation"]) for r in rows}
        times = {r["channel"]: r["timestamp"] for r in rows}
        travelled = np.linalg.norm(poses["LIDAR_TOP"] - poses["CAM_FRONT_LEFT"])
        speed = travelled / ((times["LIDAR_TOP"] - times["CAM_FRONT_LEFT"]) * 1e-6)
        assert 2.5 < speed < 9


def test_images_are_neither_dark_nor_blown_out(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        for camera in CAMERAS:
            pixels = np.asarray(Image.open(nusc.get_sample_data_path(sample["data"][camera.channel])))
            assert pixels.shape == (180, 320, 3)
            assert 30 < pixels.mean() < 215
            assert pixels.std() > 10


def test_projected_points_meet_pixels_of_their_class(nusc: NuScenes, world: WorldSummary) -> None:
    """Points through the devkit's projection, ego motion and all, against the rendered class maps."""
    to_class = np.zeros(32, np.uint8)
    for number, name in enumerate(CLASSES, start=1):
        to_class[CATEGORY_INDEX[name]] = number
    to_class[GENERAL_CATEGORIES.index("human.pedestrian.child")] = CLASSES.index("pedestrian") + 1
    agreed = total = 0
    for sample in nusc.sample[::3]:
        lidar = sample["data"]["LIDAR_TOP"]
        semantic = _labels(nusc, lidar, "lidarseg")
        points = LidarPointCloud.from_file(nusc.get_sample_data_path(lidar)).points[:3]
        for camera in CAMERAS:
            token = sample["data"][camera.channel]
            uv, depth, _ = nusc.explorer.map_pointcloud_to_image(lidar, token)
            stem = Path(nusc.get_sample_data_path(token)).stem
            classes = np.asarray(Image.open(world.dataroot / "camera_labels" / camera.channel / f"{stem}.png"))
            seen = to_class[_seen_labels(nusc, points, semantic, lidar, token)]
            assert len(seen) == len(depth)
            pixel = np.round(uv[:2]).astype(int)
            inside = (pixel[0] < 320) & (pixel[1] < 180)
            agreed += (classes[pixel[1, inside], pixel[0, inside]] == seen[inside]).sum()
            total += inside.sum()
    assert agreed / total > 0.85


def _seen_labels(nusc: NuScenes, points: np.ndarray, semantic: np.ndarray, lidar: str, camera: str) -> np.ndarray:
    """Labels of the points that `map_pointcloud_to_image` keeps, in its order: it returns lidarseg indices itself
    only as colours, so its mask is computed again here."""
    from nuscenes.utils.geometry_utils import view_points
    from pyquaternion import Quaternion

    p = points.astype(float)
    for token, out in ((lidar, True), (camera, False)):
        row = nusc.get("sample_data", token)
        steps = [
            nusc.get("calibrated_sensor", row["calibrated_sensor_token"]),
            nusc.get("ego_pose", row["ego_pose_token"]),
        ]
        for step in steps if out else steps[::-1]:
            r, t = Quaternion(step["rotation"]).rotation_matrix, np.array(step["translation"])[:, None]
            p = r @ p + t if out else r.T @ (p - t)
    k = np.array(
        nusc.get("calibrated_sensor", nusc.get("sample_data", camera)["calibrated_sensor_token"])["camera_intrinsic"]
    )
    uv = view_points(p, k, normalize=True)
    keep = (p[2] > 1) & (uv[0] > 1) & (uv[0] < 319) & (uv[1] > 1) & (uv[1] < 179)
    return semantic[keep]


def test_devkit_draws_an_overlay(nusc: NuScenes, tmp_path: Path) -> None:
    target = tmp_path / "overlay.png"
    nusc.render_pointcloud_in_image(
        nusc.sample[0]["token"], camera_channel="CAM_FRONT", show_lidarseg=True, out_path=str(target), verbose=False
    )
    assert np.asarray(Image.open(target)).std() > 10
