"""The drive world in SemanticKITTI's layout: image, sweep and labels are of one moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from driveworld import build_world, kitti_rig
from driveworld.kitti_labels import raw_label
from driveworld.lidar import sweep
from driveworld.raycast import Caster
from driveworld.render import render
from driveworld.rig import make_drive
from driveworld.scene import make_scene, snapshot
from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.errors import ConfigError
from ovps.frame import Camera
from ovps.geometry.projection import project
from ovps.geometry.visibility import unoccluded
from ovps.taxonomy import load_taxonomy

TINY = {"scenes": 1, "frames": 1, "image_size": (64, 32), "azimuth_steps": 32, "workers": 1}


def test_beams_are_those_of_an_hdl_64(kitti_world):
    frame = semantickitti.frames(kitti_world, "v1.0", ("train",))[0]
    xyz = semantickitti.points(frame).xyz
    far = np.linalg.norm(xyz, axis=1) > 5  # where 2 cm of noise do not turn a beam
    elevation = np.rad2deg(np.arctan2(xyz[far, 2], np.hypot(xyz[far, 0], xyz[far, 1])))
    nearest = np.abs(elevation[:, None] - np.rad2deg(kitti_rig.BEAMS)).min(1)
    assert len(kitti_rig.BEAMS) == 64
    assert np.percentile(nearest, 99) < 0.02
    assert np.diff(np.rad2deg(kitti_rig.BEAMS)).max() < semantickitti.occlusion.vertical_deg


def test_what_a_point_is_of_is_what_its_pixel_shows():
    """By the renderer's own truth. The occlusion test takes away more than half of what is wrong."""
    rng = np.random.default_rng(4)
    scene = make_scene(rng, duration=1.0)
    ego = make_drive(rng, scene.ego_speed, scene.lane_y).scene_from_ego(0.0)
    caster = Caster(snapshot(scene, 0.0, 0.0))
    size = kitti_rig.IMAGE_SIZE
    picture = render(scene, caster, kitti_rig.intrinsics(size), ego @ kitti_rig.ego_from_camera2(), size, rng)
    cloud = sweep(caster, ego @ kitti_rig.EGO_FROM_LIDAR, 1080, rng, kitti_rig.BEAMS)
    camera = _camera(size)
    projection = project(cloud.points[:, :3], camera)
    visible = unoccluded(projection, camera, semantickitti.occlusion)
    u, v = np.rint(projection.uv[projection.inside]).astype(int).T
    wrong = scene.class_ids[cloud.objects[projection.inside]] != picture.classes[v, u]
    before, after = wrong.mean(), wrong[visible[projection.inside]].mean()
    kept = (visible[projection.inside] & ~wrong).sum() / (~wrong).sum()
    print(f"\nwrong pixels {before:.1%} before, {after:.1%} after; {kept:.1%} of the right ones kept")
    assert 0.005 < before < 0.2
    assert after < 0.6 * before
    assert kept > 0.95


def _camera(size):
    lidar = np.linalg.inv(kitti_rig.ego_from_camera2()) @ kitti_rig.EGO_FROM_LIDAR
    return Camera("image_2", "", size[0], size[1], kitti_rig.intrinsics(size), lidar, 0)


def test_every_object_has_a_label_of_its_own_that_the_benchmark_knows():
    taxonomy = load_taxonomy("semantickitti")
    scene = make_scene(np.random.default_rng(0))
    labels = np.array([raw_label(item, n) for n, item in enumerate(scene.objects, start=1)], np.uint32)
    semantic, instance = taxonomy.decode(labels)
    assert set(taxonomy.raw_class(labels).tolist()) <= set(taxonomy.raw_to_id)
    things = np.isin(semantic, taxonomy.thing_ids)
    assert len(set(instance[things].tolist())) == things.sum() > 20
    for item, class_id in zip(scene.objects, semantic.tolist(), strict=True):
        if item.class_name in ("car", "truck", "bicycle", "motorcycle", "vegetation", "sidewalk", "terrain"):
            assert taxonomy.by_id[class_id].name == item.class_name
    moving = {taxonomy.raw_class(labels)[n] for n, item in enumerate(scene.objects) if item.velocity}
    assert {40, 60} <= set(taxonomy.raw_class(labels).tolist())
    assert all(raw > 250 for raw in moving if raw not in (11, 15))


def test_the_same_settings_give_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        build_world(tmp_path / name, seed=7, format="semantickitti", **TINY)
        written = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        files.append({path.relative_to(tmp_path / name): path.read_bytes() for path in written})
    assert files[0] == files[1]
    assert Path("sequences/00/calib.txt") in files[0]


def test_one_folder_holds_one_format(kitti_world):
    with pytest.raises(ConfigError, match="format semantickitti instead of nuscenes"):
        build_world(kitti_world, seed=7, **TINY)


def test_what_the_format_does_not_have(tmp_path):
    with pytest.raises(ConfigError, match="labels of pixels"):
        build_world(tmp_path, seed=7, format="semantickitti", write_camera_labels=True, **TINY)
    with pytest.raises(ConfigError, match="no format 'waymo'"):
        build_world(tmp_path, seed=7, format="waymo", **TINY)
