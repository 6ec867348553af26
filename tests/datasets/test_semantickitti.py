"""SemanticKITTI as a data set: its official facts, the geometry, and what may be missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driveworld import kitti_rig
from ovps import datasets
from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.datasets.semantickitti import OFFICIAL
from ovps.errors import DatasetError
from ovps.geometry.calibration import check_calibration
from ovps.geometry.projection import project
from ovps.geometry.visibility import Occlusion, unoccluded
from ovps.taxonomy import load_split, load_taxonomy
from tests.helpers.kitti_world import FRAMES, IMAGE_SIZE, SEQUENCES

TAXONOMY = load_taxonomy("semantickitti")


@pytest.fixture
def root(kitti_world, tmp_path) -> Path:
    return Path(shutil.copytree(kitti_world, tmp_path / "kitti"))


def frames(root, *subsets):
    return semantickitti.frames(root, "v1.0", subsets or ("train", "val"))


# official facts


def test_the_map_of_34_raw_classes_to_19_is_the_benchmarks():
    names = (
        "car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist road parking sidewalk other-ground"
    )
    names += " building fence vegetation trunk terrain pole traffic-sign"
    assert [c.name for c in TAXONOMY.classes] == names.split()
    assert [c.kind for c in TAXONOMY.classes] == ["thing"] * 8 + ["stuff"] * 11
    assert len(TAXONOMY.raw_to_id) == 34
    moving = {252: 10, 253: 31, 254: 30, 255: 32, 256: 16, 257: 13, 258: 18, 259: 20}
    for raw, standing in moving.items():
        assert TAXONOMY.raw_to_id[raw] == TAXONOMY.raw_to_id[standing]
    assert {raw for raw, class_id in TAXONOMY.raw_to_id.items() if class_id == 0} == {0, 1, 52, 99}
    assert {raw for raw, class_id in TAXONOMY.raw_to_id.items() if class_id == 5} == {13, 16, 20, 256, 257, 259}
    assert TAXONOMY.raw_to_id[60] == TAXONOMY.raw_to_id[40] == 9
    assert [TAXONOMY.id_to_raw[i] for i in range(1, 20)] == [
        *(10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
    ]
    assert TAXONOMY.min_points == 50


def test_official_splits():
    assert OFFICIAL["train"] == ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
    assert OFFICIAL["val"] == ("08",)
    assert OFFICIAL["test"] == ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21")


@pytest.mark.parametrize(("name", "base"), [("b14n5", 14), ("b12n7", 12)])
def test_splits_of_its_classes(name, base):
    split = load_split(name).of(TAXONOMY)
    assert (len(split.base_ids(TAXONOMY)), len(split.novel_ids(TAXONOMY))) == (base, 19 - base)


def test_labels_hold_class_and_instance():
    raw = np.array([10 | 3 << 16, 252 | 3 << 16, 40, 60, 99, 254 | 65_535 << 16], np.uint32)
    semantic, instance = TAXONOMY.decode(raw)
    assert semantic.tolist() == [1, 1, 9, 9, 0, 6]
    assert instance.tolist() == [raw[0], raw[1], 0, 0, 0, raw[5]]


# geometry, on the drive world in this layout


def test_it_is_found_by_name_and_lists_what_was_written(root):
    found = frames(root)
    assert datasets.get("semantickitti") is semantickitti
    assert [f.token for f in found] == [f"{s}_{n:06d}" for s in SEQUENCES for n in range(FRAMES)]
    assert [f.subset for f in found] == ["train"] * FRAMES + ["val"] * FRAMES
    assert [f.timestamp_us for f in found[:FRAMES]] == [0, 500_000]
    for frame in found:
        check_calibration(frame)
        cloud, labels = semantickitti.points(frame), semantickitti.labels(frame)
        assert len(cloud) == len(labels) > 5000
        assert 0 <= cloud.intensity.min() <= cloud.intensity.max() <= 1
        assert [c.channel for c in frame.cameras] == ["image_2", "image_3"]
        assert semantickitti.image(frame.cameras[0]).shape == (IMAGE_SIZE[1], IMAGE_SIZE[0], 3)


def test_the_projection_is_p2_times_tr(root):
    """By the numbers of calib.txt alone, as KITTI's readme has it."""
    frame = frames(root, "val")[0]
    lines = dict(line.split(":") for line in (root / "sequences/01/calib.txt").read_text().splitlines())
    matrix = {name: np.array(text.split(), float).reshape(3, 4) for name, text in lines.items()}
    xyz = semantickitti.points(frame).xyz.astype(float)
    in_camera0 = np.c_[xyz, np.ones(len(xyz))] @ np.vstack([matrix["Tr"], [0, 0, 0, 1]]).T
    for camera, name in zip(frame.cameras, ("P2", "P3"), strict=True):
        u, v, w = matrix[name] @ in_camera0.T
        projection = project(xyz, camera)
        front = w > 0
        np.testing.assert_allclose(projection.depth, w, atol=1e-9)
        np.testing.assert_allclose(projection.uv[front], np.c_[u, v][front] / w[front, None], rtol=1e-9, atol=1e-6)
        assert 0.05 < projection.inside.mean() < 0.3


def test_cameras_stand_where_the_rig_has_them(root):
    left, right = frames(root, "val")[0].cameras
    expected = np.linalg.inv(kitti_rig.ego_from_camera2()) @ kitti_rig.EGO_FROM_LIDAR
    np.testing.assert_allclose(left.camera_from_lidar, expected, atol=1e-9)
    np.testing.assert_allclose(right.camera_from_lidar[:3, 3] - left.camera_from_lidar[:3, 3], (-0.5, 0, 0), atol=1e-9)


def test_poses_bring_what_stands_still_to_one_place(root):
    first, second = frames(root, "val")
    clouds = []
    for frame in (first, second):
        xyz, labels = semantickitti.points(frame).xyz, semantickitti.labels(frame)
        pole = np.isin(labels & 0xFFFF, (50, 51, 80, 81))
        clouds.append(xyz[pole] @ frame.global_from_lidar[:3, :3].T + frame.global_from_lidar[:3, 3])
    moved = np.linalg.norm(second.global_from_lidar[:3, 3] - first.global_from_lidar[:3, 3])
    assert 1.0 < moved < 5.0
    np.testing.assert_allclose(first.global_from_lidar, np.eye(4), atol=1e-9)

    def apart(one, other):
        return np.median([np.linalg.norm(other - point, axis=1).min() for point in one[::20]])

    shift = first.global_from_lidar[:3, 3] - second.global_from_lidar[:3, 3]
    assert apart(*clouds) < 0.6 * apart(clouds[0], clouds[1] + 2 * shift)


def test_poses_may_lie_where_kittis_own_archive_puts_them(root):
    expected = [frame.global_from_lidar for frame in frames(root, "val")]
    (root / "poses").mkdir()
    own, apart = root / "sequences" / "01" / "poses.txt", root / "poses" / "01.txt"
    content = own.read_text()
    apart.write_text("no poses")
    assert np.array_equal([frame.global_from_lidar for frame in frames(root, "val")], expected), "its own come first"
    own.replace(apart)
    found = frames(root, "val")
    assert np.array_equal([frame.global_from_lidar for frame in found], expected)
    assert not [text for text in semantickitti.warnings(root, found) if "lines" in text]
    apart.write_text(content.splitlines()[0] + "\n")
    assert any(f"{apart} has 1 lines" in text for text in semantickitti.warnings(root, frames(root, "val")))


# what may be missing, and what may be otherwise


def test_without_poses_times_and_labels(root):
    for sequence in SEQUENCES:
        for name in ("poses.txt", "times.txt"):
            (root / "sequences" / sequence / name).unlink()
        shutil.rmtree(root / "sequences" / sequence / "labels")
    found = frames(root)
    assert [f.timestamp_us for f in found] == [0, 100_000] * 2
    assert all(np.array_equal(f.global_from_lidar, np.eye(4)) for f in found)
    assert all(semantickitti.labels(f) is None for f in found)


def test_lists_that_end_before_the_last_scan_are_not_used_at_all(root):
    folder = root / "sequences" / "01"
    for name in ("poses.txt", "times.txt"):
        (folder / name).write_text((folder / name).read_text().splitlines()[0] + "\n")
    found = frames(root, "val")
    assert [f.timestamp_us for f in found] == [0, 100_000]
    assert all(np.array_equal(f.global_from_lidar, np.eye(4)) for f in found)


def test_calibration_with_a_mark_and_other_line_ends(root):
    path = root / "sequences" / "01" / "calib.txt"
    before = frames(root, "val")[0].cameras[0].camera_from_lidar
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    np.testing.assert_array_equal(frames(root, "val")[0].cameras[0].camera_from_lidar, before)


def test_files_that_begin_with_a_dot_are_none(root):
    folder = root / "sequences" / "01"
    for kind, name in (("velodyne", "._000000.bin"), ("image_2", "._000000.png"), ("labels", "._000000.label")):
        (folder / kind / name).write_bytes(b"\0\5\x16\7")
    assert len(frames(root, "val")) == FRAMES


def test_scans_of_any_numbers_and_images_of_another_ending(root):
    folder = root / "sequences" / "01"
    for kind, ending in (("velodyne", "bin"), ("labels", "label"), ("image_2", "png"), ("image_3", "png")):
        (folder / kind / f"000001.{ending}").rename(folder / kind / f"000720.{ending}")
    for path in sorted((folder / "image_2").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    first, second = frames(root, "val")
    assert (first.token, second.token, second.index, second.timestamp_us) == ("01_000000", "01_000720", 720, 72_000_000)
    assert semantickitti.image(second.cameras[0]).shape == (IMAGE_SIZE[1], IMAGE_SIZE[0], 3)
    assert semantickitti.labels(second) is not None


def test_a_sequence_in_two_splits_is_refused(root):
    """Whichever of the two is asked for first, frames to train on would be scored."""
    for asked in (("train", "val"), ("val", "train"), ("train",), ("val",)):
        (root / "splits.json").write_text(json.dumps({"train": ["00", "01"], "val": ["01"], "tiny": ["00"]}))
        with pytest.raises(DatasetError, match=r"sequence 01 in two splits, train and val.*splits\.json.*Take it out"):
            semantickitti.frames(root, "v1.0", asked)
    assert {f.scene for f in semantickitti.frames(root, "v1.0", ("tiny",))} == {"00"}, "another use of the file"


def test_a_split_that_is_named_twice_is_refused(root):
    (root / "splits.json").write_text('{"train": ["00"], "val": ["01"], "train": ["01"]}')
    with pytest.raises(DatasetError, match=r"train is named twice.*splits\.json"):
        semantickitti.frames(root, "v1.0", ("train",))


def test_splits_that_contain_each_other_on_purpose_are_taken_one_at_a_time(root):
    (root / "splits.json").write_text(json.dumps({"train": ["00", "01"], "tiny": ["00"]}))
    assert {f.scene for f in semantickitti.frames(root, "v1.0", ("train",))} == {"00", "01"}
    assert {f.scene for f in semantickitti.frames(root, "v1.0", ("tiny",))} == {"00"}
    with pytest.raises(DatasetError, match=r"sequence 00 in two splits, tiny and train.*one of them alone"):
        semantickitti.frames(root, "v1.0", ("tiny", "train"))


def test_sequences_that_splits_name_and_that_are_not_there_are_told(root):
    (root / "splits.json").write_text(json.dumps({"train": ["00", "77", "78"], "val": ["01"]}))
    found = semantickitti.frames(root, "v1.0", ("train", "val"))
    (odd,) = [text for text in semantickitti.warnings(root, found) if "splits.json" in text]
    assert re.search(r"split train of .* names sequence 77, 78, which is not there", odd)
    for val, says in ((["77"], "none of the sequences of val is there: 77"), ([], "there, it names none")):
        (root / "splits.json").write_text(json.dumps({"train": ["00"], "val": val}))
        with pytest.raises(DatasetError, match=rf"{says}.*Name sequences that are in .*\(00, 01.*do not ask for"):
            semantickitti.frames(root, "v1.0", ("train", "val"))
        assert semantickitti.frames(root, "v1.0", ("train",))
    (root / "splits.json").unlink()
    assert not [text for text in semantickitti.warnings(root, frames(root, "train")) if "not there" in text]


@pytest.mark.parametrize("splits", [{"train": ["00"], "val": ["01"]}, {"train": ["00"]}, None])
def test_sequences_that_no_split_names_are_told(root, splits):
    """The official ones are those of a split, whoever lists but some of them."""
    (root / "splits.json").write_text(json.dumps(splits)) if splits else (root / "splits.json").unlink()
    found = frames(root, "train")
    assert not [text for text in semantickitti.warnings(root, found) if "no split names it" in text]
    shutil.copytree(root / "sequences" / "00", root / "sequences" / "1")
    (root / "sequences" / "notes").mkdir()
    (odd,) = [text for text in semantickitti.warnings(root, found) if "no split names it" in text]
    assert odd.startswith(f"sequence 1 is there, and no split names it: name it in {root / 'splits.json'}")


def test_splits_of_ones_own_and_the_official_ones(root):
    (root / "splits.json").write_text(json.dumps({"mine": ["01"]}))
    assert {f.scene for f in frames(root, "mine")} == {"01"}
    (root / "splits.json").unlink()
    assert {f.scene for f in frames(root, "train")} == {"00", "01"}
    (root / "sequences" / "01").rename(root / "sequences" / "13")
    test = frames(root, "test")
    assert [f.scene for f in test] == ["13"] * FRAMES


def test_a_path_with_signs_in_it(root, tmp_path):
    odd = Path(shutil.move(root, tmp_path / "größe = 1, 漢字"))
    frame = frames(odd, "val")[0]
    assert len(semantickitti.points(frame)) == len(semantickitti.labels(frame))
    assert semantickitti.image(frame.cameras[1]).shape[2] == 3


# real frames


def test_a_real_frame(real_kitti):
    (frame,) = frames(real_kitti, "val")
    check_calibration(frame)
    cloud, labels = semantickitti.points(frame), semantickitti.labels(frame)
    assert len(cloud) == len(labels) == 17_238
    (camera,) = frame.cameras
    assert (camera.channel, camera.width, camera.height) == ("image_2", 1242, 375)
    assert project(cloud.xyz, camera).inside.mean() > 0.99


def test_ten_real_frames(real_kitti_raw):
    found = frames(real_kitti_raw, "train")
    assert len(found) == 10
    for frame in found:
        check_calibration(frame)
        assert frame.labels_path is None
        cloud = semantickitti.points(frame)
        projection = project(cloud.xyz, frame.cameras[0])
        seen = unoccluded(projection, frame.cameras[0], semantickitti.occlusion)
        coarse = unoccluded(projection, frame.cameras[0], Occlusion())
        print(
            f"\n{frame.token}: {len(cloud):,} points, {projection.inside.mean():.1%} inside image_2, of them hidden"
            f" {1 - seen.sum() / projection.inside.sum():.1%} (with the settings of 32 beams"
            f" {1 - coarse.sum() / projection.inside.sum():.1%})",
            end="",
        )
        assert 0.1 < projection.inside.mean() < 0.2
        assert 0.02 < 1 - seen.sum() / projection.inside.sum() < 0.12


def test_real_labels(real_semantickitti):
    found = frames(real_semantickitti, "val")
    assert [f.token for f in found] == ["08_000000", "08_000720"]
    assert [len(semantickitti.labels(f)) for f in found] == [123_389, 126_661]
    assert found[0].cameras == ()
    labels = semantickitti.labels(found[0])
    semantic, instance = TAXONOMY.decode(labels)
    assert [(labels & 0xFFFF == raw).sum() for raw in (10, 252, 30, 254)] == [544, 990, 23, 138]
    assert (semantic == 1).sum() == 544 + 990
    assert len(np.unique(instance[semantic == 1])) == 4 + 3
    assert (semantic == 6).sum() == 23 + 138
    assert (semantic == 0).sum() == 6924
