"""What a message advises is done here, word by word, and then the data set reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from driveworld import build_world
from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.errors import DatasetError, OvpsError
from tests.helpers.mini_nuscenes import VERSION, write_mini_nuscenes


@pytest.fixture
def root(mini_nuscenes, tmp_path) -> Path:
    return Path(shutil.copytree(mini_nuscenes, tmp_path / "nuscenes"))


def read_all(root, subsets=("train", "val")):
    for frame in nuscenes.frames(root, VERSION, subsets):
        nuscenes.points(frame)
        nuscenes.labels(frame)
        for camera in frame.cameras:
            nuscenes.image(camera)


def follow(error: OvpsError, root: Path, archive: Path) -> None:
    """Do what the remedy says. `archive` is the data set as it was shipped, where every archive unpacks from."""
    assert error.remedy is not None
    assert error.path is not None
    if found := re.match(r"Take (\w+\.json) again from (nuScenes-panoptic-v1|v1.0-trainval_meta)", error.remedy):
        shutil.copy(archive / VERSION / found[1], root / VERSION / found[1])
    elif error.remedy.startswith("Take the file again from"):
        path = Path(error.path)
        path.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(archive / path.relative_to(root.absolute()), path)
    elif error.remedy.startswith("One of the two is cut off"):
        for path in (error.path, re.search(r"points of (\S+)$", error.message)[1]):
            shutil.copy(archive / Path(path).relative_to(root.absolute()), path)
    elif found := re.match(r"Unpack (\S+) again from nuScenes-", error.remedy):
        shutil.copytree(archive / found[1], root / found[1], dirs_exist_ok=True)
    elif error.remedy.startswith("Move them elsewhere"):
        shutil.move(Path(error.path) / error.message.rpartition(" ")[2], root.parent)
    elif found := re.match(r"Delete them: (.*)$", error.remedy):
        subprocess.run(found[1], shell=True, check=True)
    elif found := re.search(r"remove (\S+)$", error.remedy):
        Path(found[1]).unlink()
    else:
        raise AssertionError(f"nobody knows how to follow: {error.remedy}")


def edit(table, change):
    def break_it(root):
        path = root / VERSION / f"{table}.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return break_it


def remove(pattern):
    def break_it(root):
        path = sorted(root.glob(pattern))[0]
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_it


def cut(pattern, share=0.6, rows=1):
    def break_it(root):
        path = sorted(root.glob(pattern))[0]
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share) // rows * rows])

    return break_it


def without(column):
    return lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows]


def write(name, content=b"\x00\x05\x16\x07"):
    return lambda root: (root / name).write_bytes(content)


FAULTS = {
    "a table is missing": remove(f"{VERSION}/ego_pose.json"),
    "a table is cut off": cut(f"{VERSION}/sample_data.json"),
    "the metadata's category.json over that of the labels": edit("category", without("index")),
    "a category that nuScenes does not have": edit("category", lambda r: [*r[:-1], r[-1] | {"name": "vehicle.ufo"}]),
    "a table of labels is cut off": cut(f"{VERSION}/panoptic.json"),
    "a row is missing": edit("calibrated_sensor", lambda rows: rows[1:]),
    "a pose is missing": edit("ego_pose", lambda rows: rows[:-1]),
    "a token twice": edit("sample", lambda rows: [*rows, rows[0]]),
    "no rotation": edit("ego_pose", lambda rows: [rows[0] | {"rotation": [0, 0, 0, 0]}, *rows[1:]]),
    "a rotation of another length": edit("ego_pose", lambda rows: [rows[0] | {"rotation": [0.6, 0, 0, 0]}, *rows[1:]]),
    "a file outside": edit("sample_data", lambda rows: [rows[0] | {"filename": "../x"}, *rows[1:]]),
    "no image size": edit("sample_data", without("width")),
    "a camera is missing": edit("sample_data", lambda rows: [r for r in rows if "CAM_BACK/" not in r["filename"]]),
    "a label file is missing": remove("panoptic/*/*.npz"),
    "a stray `._` file of macOS": write(f"panoptic/{VERSION}/._0_panoptic.npz"),
    "a label file too many": write(f"panoptic/{VERSION}/0_panoptic.npz"),
    "the sweep is missing": remove("samples/LIDAR_TOP/*.bin"),
    "the sweep is cut within a row": cut("samples/LIDAR_TOP/*.bin", 0.9501),
    "the sweep is cut between rows": cut("samples/LIDAR_TOP/*.bin", 0.95, rows=20),
    "the sweep is empty": cut("samples/LIDAR_TOP/*.bin", 0),
    "labels are cut off": cut("panoptic/*/*.npz"),
    "an image is missing": remove("samples/CAM_BACK/*.jpg"),
    "a folder of images is missing": remove("samples/CAM_BACK"),
    "an image is cut off": cut("samples/CAM_FRONT/*.jpg"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_following_the_remedy_mends_it(root, mini_nuscenes, fault):
    FAULTS[fault](root)
    files = 4 if fault == "a folder of images is missing" else 1  # which is told of file by file
    for _ in range(files):
        with pytest.raises(DatasetError) as caught:
            read_all(root)
        follow(caught.value, root, mini_nuscenes)
    read_all(root)


def test_labels_whose_folder_was_never_unpacked(root, mini_nuscenes):
    shutil.rmtree(root / "panoptic")
    with pytest.raises(DatasetError, match="a table panoptic but no folder of its files") as caught:
        read_all(root)
    follow(caught.value, root, mini_nuscenes)
    read_all(root)

    shutil.rmtree(root / "panoptic")  # the other way out
    unpack, _, leave = caught.value.remedy.partition(", or, ")
    follow(DatasetError("", path=caught.value.path, remedy=leave), root, mini_nuscenes)
    assert f"panoptic/{VERSION}" in unpack
    assert nuscenes.frames(root, VERSION, ("train",))[0].labels_path is None


def test_a_table_is_taken_alone_because_the_archive_has_another_category_json(root, mini_nuscenes, tmp_path):
    """Unpacking all of the metadata archive is what breaks category.json."""
    metadata = Path(shutil.copytree(mini_nuscenes / VERSION, tmp_path / "metadata"))
    path = metadata / "category.json"
    path.write_text(json.dumps(without("index")(json.loads(path.read_text()))))
    (root / VERSION / "scene.json").unlink()
    with pytest.raises(DatasetError, match="and no other table with it"):
        read_all(root)
    for table in metadata.glob("*.json"):  # what was advised before
        shutil.copy(table, root / VERSION)
    with pytest.raises(DatasetError, match=r"categories have no index.*nuScenes-panoptic-v1\.0-all") as caught:
        read_all(root)
    assert caught.value.path == str(root / VERSION / "category.json")
    follow(caught.value, root, mini_nuscenes)
    read_all(root)


def test_without_labels_any_category_json_will_do(tmp_path):
    root = write_mini_nuscenes(tmp_path, scenes=1, frames=1, labelled=False)
    edit("category", without("index"))(root)
    assert len(nuscenes.frames(root, VERSION, ("train",))) == 1
    (root / VERSION / "sensor.json").unlink()
    with pytest.raises(DatasetError, match=r"again from v1\.0-trainval_meta\.tgz"):
        nuscenes.frames(root, VERSION, ("train",))


def test_a_missing_version_names_its_archive(tmp_path):
    with pytest.raises(DatasetError, match=r"Unpack v1\.0-mini\.tgz into the dataroot"):
        nuscenes.frames(tmp_path, "v1.0-mini", ("mini_train",))


def test_a_drive_world_is_built_again(tmp_path):
    """Nothing of it comes from an archive of nuScenes."""
    root = tmp_path / "world"
    settings = {"scenes": 1, "frames": 1, "seed": 0, "image_size": (64, 36), "azimuth_steps": 64, "workers": 1}
    build_world(root, **settings)
    (root / VERSION / "scene.json").unlink()
    with pytest.raises(DatasetError) as caught:
        read_all(root, ("train",))
    assert caught.value.remedy == "Delete this drive world and build it again: ovps world build"
    shutil.rmtree(root)
    build_world(root, **settings)
    read_all(root, ("train",))
