"""Files under nearly the right name, and times that do not go on: told by every reader, and the remedy is done here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ovps import datasets
from ovps.datasets.folder import DATASET as folder
from ovps.datasets.near_names import beside
from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.datasets.semantickitti import DATASET as kitti
from ovps.errors import DatasetError, FrameError
from tests.helpers.earlier_sweeps import add_earlier_sweeps
from tests.helpers.kitti_world import FRAMES
from tests.helpers.mini_nuscenes import VERSION, write_mini_nuscenes
from tests.helpers.recording import calibration, write_calibration, write_readings, write_recording


@pytest.fixture
def kitti_root(kitti_world, tmp_path) -> Path:
    """One sequence that has a space in its path."""
    root = tmp_path / "ki tti"
    shutil.copytree(kitti_world / "sequences" / "01", root / "sequences" / "08")
    return root


@pytest.fixture
def nuscenes_root(mini_nuscenes, tmp_path) -> Path:
    return Path(shutil.copytree(mini_nuscenes, tmp_path / "nuscenes"))


def kitti_frames(root):
    return kitti.frames(root, "v1.0", ("val",))


def nuscenes_frames(root, **more):
    return nuscenes.frames(root, VERSION, ("train", "val"), **more)


def read_all(data, frames):
    for frame in frames:
        data.points(frame)
        data.labels(frame)
        for camera in frame.cameras:
            data.image(camera)
    return len(frames)


def said(data, root, frames):
    return "\n".join(datasets.warnings_of(data, root, frames))


def rename_it(error):
    """Do what the remedy says."""
    subprocess.run(re.search(r"Rename it: (mv .*?)(, and|$)", error.remedy)[1], shell=True, check=True)


def capitals(path: Path) -> Path:
    return path.rename(path.with_name(path.name.upper()))


# SemanticKITTI


@pytest.mark.parametrize(
    "name",
    [
        *("velodyne/000001.bin", "labels/000001.label", "image_2/000001.png", "velodyne", "labels", "image_2"),
        *("calib.txt", "poses.txt", "times.txt"),
    ],
)
def test_kitti_files_in_capitals_are_named_and_renaming_them_is_enough(kitti_root, name):
    before = read_all(kitti, kitti_frames(kitti_root))
    there = capitals(kitti_root / "sequences" / "08" / name)
    with pytest.raises(DatasetError) as caught:
        read_all(kitti, kitti_frames(kitti_root))
    assert there.name in caught.value.message
    rename_it(caught.value)
    assert read_all(kitti, kitti_frames(kitti_root)) == before == FRAMES
    assert said(kitti, kitti_root, kitti_frames(kitti_root)) == ""


def test_a_folder_of_images_in_capitals_is_no_folder_without(kitti_root):
    for path in sorted((kitti_root / "sequences/08/image_2").iterdir()):
        capitals(path)
    with pytest.raises(DatasetError, match=r"images end in .png.*there is 000000.PNG"):
        kitti_frames(kitti_root)


@pytest.mark.parametrize("name", ["000001.bin.gz", "000001.npy", "000001.bin.part", "000001"])
def test_a_scan_that_is_there_in_another_form_alone_is_not_left_out(kitti_root, name):
    scans = kitti_root / "sequences/08/velodyne"
    (scans / "000001.bin").rename(scans / name)
    with pytest.raises(DatasetError, match=rf"scan 000001 is there as {re.escape(name)} alone") as caught:
        kitti_frames(kitti_root)
    assert "move it elsewhere" in caught.value.remedy
    (scans / name).rename(kitti_root / name)
    assert len(kitti_frames(kitti_root)) == FRAMES - 1


def test_what_lies_beside_scans_that_are_read_is_no_matter(kitti_root):
    scans = kitti_root / "sequences/08/velodyne"
    for name in ("000000.npy", "000001.bin.gz", "readme.txt", "Thumbs.db"):
        (scans / name).write_bytes(b"1")
    (scans / "000007").mkdir()
    assert len(kitti_frames(kitti_root)) == FRAMES
    assert said(kitti, kitti_root, kitti_frames(kitti_root)) == ""


def test_two_scans_that_differ_in_case_are_one_number(kitti_root):
    scans = kitti_root / "sequences/08/velodyne"
    shutil.copy(scans / "000001.bin", scans / "000001.BIN")
    with pytest.raises(DatasetError, match="one number"):
        kitti_frames(kitti_root)


def test_missing_scans_are_a_warning_once_and_no_more(kitti_root):
    shutil.copytree(kitti_root / "sequences/08", kitti_root / "sequences/09")
    (kitti_root / "splits.json").write_text(json.dumps({"val": ["08", "09"]}))
    for sequence in ("08", "09"):
        place = kitti_root / "sequences" / sequence
        for kind, ending in (("velodyne", "bin"), ("labels", "label"), ("image_2", "png")):
            (place / kind / f"000001.{ending}").rename(place / kind / f"000005.{ending}")
        shutil.copy(place / "image_2/000005.png", place / "image_2/000009.png")
    frames = kitti_frames(kitti_root)
    assert [frame.index for frame in frames] == [0, 5] * 2
    (missing,) = [w for w in datasets.warnings_of(kitti, kitti_root, frames) if "scans are missing" in w]
    # image_3 still has its number 1, which lies between the others
    assert missing.startswith("5 scans are missing in sequence 08")
    assert str(kitti_root / "sequences/08/velodyne/000001.bin") in missing
    assert missing.endswith("(and 1 more of 2 sequences)")


def test_a_number_of_a_scan_that_no_sequence_reaches(kitti_root):
    scans = kitti_root / "sequences/08/velodyne"
    (scans / "000001.bin").rename(scans / "1317617735000000000.bin")
    with pytest.raises(DatasetError, match="not the number of a scan"):
        kitti_frames(kitti_root)
    (scans / "1317617735000000000.bin").rename(scans / "999999999.bin")
    assert kitti_frames(kitti_root)[-1].timestamp_us == 999_999_999 * 100_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5\n0.5\n", "1 of 2 times are not later than the one before, the first is line 2 of {}: 0.5 s after 1.5 s"),
        ("\n0\n\n0\n", "1 of 2 times are not later than the one before, the first is line 4 of {}: 0 s after 0 s"),
        ("0\n", "{} has 1 lines and the last scan is 000001.bin, which needs line 2: none of its lines is used"),
    ],
)
def test_times_that_stand_or_end_are_told_by_file_and_line(kitti_root, text, expected):
    path = kitti_root / "sequences/08/times.txt"
    path.write_text(text)
    assert expected.format(path) in said(kitti, kitti_root, kitti_frames(kitti_root))


@pytest.mark.parametrize(("text", "unit"), [("0\n104\n", "1.73 min apart"), ("0\n0.0001\n", "100 µs apart")])
def test_times_in_another_unit_are_told(kitti_root, text, unit):
    (kitti_root / "sequences/08/times.txt").write_text(text)
    found = datasets.warnings_of(kitti, kitti_root, kitti_frames(kitti_root))
    assert any(unit in line and "seconds in times.txt" in line for line in found)


@pytest.mark.parametrize("text", ["0\nsoon\n", "0\nnan\n", "0\n1e300\n", "0\n1e18\n"])
def test_a_line_that_is_no_time_is_named(kitti_root, text):
    (kitti_root / "sequences/08/times.txt").write_text(text)
    with pytest.raises(DatasetError, match="line 2 is"):
        kitti_frames(kitti_root)


# nuScenes


@pytest.mark.parametrize("table", ["panoptic", "sample_data", "splits"])
def test_nuscenes_tables_in_capitals_are_named(nuscenes_root, table):
    path = nuscenes_root / VERSION / f"{table}.json"
    if not path.exists():
        path.write_text("{}")
    labelled = [frame.labels_path is not None for frame in nuscenes_frames(nuscenes_root)]
    capitals(path)
    with pytest.raises(DatasetError, match=f"{table.upper()}.JSON") as caught:
        nuscenes_frames(nuscenes_root)
    rename_it(caught.value)
    assert [frame.labels_path is not None for frame in nuscenes_frames(nuscenes_root)] == labelled


def test_nuscenes_files_in_capitals_are_named(nuscenes_root):
    frame = nuscenes_frames(nuscenes_root)[0]
    for path in (frame.points_path, frame.cameras[0].image_path):
        upper = capitals(Path(path))
        with pytest.raises(FrameError, match=f"does not exist, but {re.escape(upper.name)} lies there") as caught:
            read_all(nuscenes, [frame])
        rename_it(caught.value)
    upper = capitals(Path(frame.labels_path))
    with pytest.raises(DatasetError, match=f"but {re.escape(upper.name)} lies there") as caught:
        nuscenes_frames(nuscenes_root)
    rename_it(caught.value)
    assert read_all(nuscenes, [frame]) == 1


def change_rows(root, table, change):
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def test_nuscenes_frames_that_are_not_later_are_a_warning(nuscenes_root):
    frames = nuscenes_frames(nuscenes_root)
    assert datasets.warnings_of(nuscenes, nuscenes_root, frames) == ()
    one, other = (frame for frame in frames if frame.scene == frames[0].scene)

    def stand(rows):
        next(row for row in rows if row["token"] == other.token)["timestamp"] = one.timestamp_us

    change_rows(nuscenes_root, "sample_data", stand)
    warning, apart = datasets.warnings_of(nuscenes, nuscenes_root, nuscenes_frames(nuscenes_root))
    assert warning.startswith(f"1 of {len(frames)} frames are not later")
    assert f"the first is {other.token} at" in warning
    assert f"its sweep {other.token} are" in apart


def test_nuscenes_labels_of_no_sweep_are_told(nuscenes_root):
    frames = nuscenes_frames(nuscenes_root)
    table = nuscenes_root / VERSION / "panoptic.json"

    def other_tokens(rows):
        for row in rows[1:]:
            row["sample_data_token"] += "x"

    change_rows(nuscenes_root, "panoptic", other_tokens)
    found = nuscenes_frames(nuscenes_root)
    (warning,) = datasets.warnings_of(nuscenes, nuscenes_root, found)
    assert warning.startswith(f"{len(frames) - 1} of {len(frames)} frames have no labels: {table} has no row of their")
    change_rows(nuscenes_root, "panoptic", lambda rows: rows.append(rows[0] | {"token": 32 * "f"}))
    with pytest.raises(DatasetError, match="2 rows are of the sweep"):
        nuscenes_frames(nuscenes_root)


def test_labels_of_lidarseg_alone_are_told(nuscenes_root):
    tables = nuscenes_root / VERSION
    (tables / "panoptic.json").rename(tables / "lidarseg.json")
    frames = nuscenes_frames(nuscenes_root)
    (warning,) = datasets.warnings_of(nuscenes, nuscenes_root, frames)
    assert warning.startswith(f"{len(frames)} of {len(frames)} frames have no labels: {tables} has lidarseg ones")
    assert re.search(r"unpack nuScenes-panoptic-v1\.0-\w+\.tar\.gz", warning)
    (tables / "lidarseg.json").unlink()  # as of the test split
    assert datasets.warnings_of(nuscenes, nuscenes_root, frames) == ()


@pytest.mark.parametrize("time", [2**63, -1])
def test_a_nuscenes_time_that_no_clock_says(nuscenes_root, time):
    def change(rows):
        for row in rows:
            row["timestamp"] = time

    change_rows(nuscenes_root, "sample_data", change)
    with pytest.raises(DatasetError, match="no usable timestamp, expected microseconds"):
        nuscenes_frames(nuscenes_root)


def test_an_earlier_sweep_that_is_not_earlier_is_refused_where_sweeps_are_asked_for(tmp_path):
    root = add_earlier_sweeps(write_mini_nuscenes(tmp_path, scenes=1, frames=1))

    def turn_round(rows):
        last = next(row for row in rows if row["is_key_frame"] and row["prev"])
        last["prev"] = last["token"]

    change_rows(root, "sample_data", turn_round)
    assert len(nuscenes.frames(root, VERSION, ("train",))) == 1
    with pytest.raises(DatasetError, match=r"named as the one before .* and is not earlier") as caught:
        nuscenes.frames(root, VERSION, ("train",), sweeps=3)
    assert "use no earlier sweeps" in caught.value.remedy


# a recording of one's own


def folder_frames(root):
    return folder.at(root).frames(root, "1", ("val",))


@pytest.mark.parametrize("name", ["points", "images", "readings.csv", "calibration.yaml", "taxonomy.yaml"])
def test_parts_of_a_recording_in_capitals_are_named(tmp_path, name):
    root = write_recording(tmp_path / "drive")
    if name == "readings.csv":
        lines = [f"{n:03d},{s},{f}/{n:03d}.{e},{n}" for n in (0, 1) for s, f, e in SENSORS]
        write_readings(root, ["sweep,sensor,file,time_us", *lines])
    if name == "taxonomy.yaml":
        (root / name).write_text("")
    capitals(root / name)
    with pytest.raises(DatasetError, match=name.upper()) as caught:
        [folder_frames(root), folder.at(root).taxonomy]
    rename_it(caught.value)
    assert len(folder_frames(root)) == 2


SENSORS = (("lidar", "points", "bin"), ("front", "images/front", "png"))


def test_endings_in_capitals_are_read_in_a_recording(tmp_path):
    root = write_recording(tmp_path / "drive")
    for path in (root / "points/001.bin", root / "images/front/001.png"):
        path.rename(path.with_suffix(path.suffix.upper()))
    assert read_all(folder.at(root), folder_frames(root)) == 2


def test_an_image_of_another_case_is_named(tmp_path):
    root = write_recording(tmp_path / "drive")
    (root / "points/001.bin").rename(root / "points/a.bin")
    (root / "images/front/001.png").rename(root / "images/front/A.png")
    (root / "points/000.bin").unlink()
    with pytest.raises(DatasetError, match=r"no image of front, the first is a, where A.png lies"):
        folder_frames(root)


def test_an_image_of_another_case_beside_another_camera_is_named_in_a_warning(tmp_path):
    root = write_recording(tmp_path / "drive")
    content = calibration()
    content["cameras"]["left"] = content["cameras"]["front"]
    content["transforms"].append(content["transforms"][0] | {"to": "left"})
    write_calibration(root, content)
    shutil.copytree(root / "images/front", root / "images/left")
    for file in ("points/001.bin", "images/left/001.png"):
        (root / file).rename((root / file).with_stem("a"))
    (root / "images/front/001.png").rename(root / "images/front/A.png")
    told = said(folder.at(root), root, folder_frames(root))
    assert "1 sweep without an image of front, used without it" in told
    assert "images/front/a, where A.png lies" in told


def test_what_no_sweep_of_a_recording_has_is_a_warning(tmp_path):
    root = write_recording(tmp_path / "all", frames=3, scene="monday")
    write_recording(tmp_path / "all/tuesday")
    monday, tuesday = root / "monday", root / "tuesday"
    assert said(folder.at(root), root, folder_frames(root)) == ""
    (monday / "points/002.bin").unlink()
    (tuesday / "points").rename(tuesday / "scans")
    found = said(folder.at(root), root, folder_frames(root))
    assert f"1 images have no point file of their name and are not read, the first is {monday}/images" in found
    assert (
        f"1 folders hold images, labels or readings.csv and no points, and are no scenes, the first is {tuesday}"
        in found
    )
    write_readings(monday, ["sweep,sensor,file,time_us", *(f"0,{s},{f}/000.{e},5" for s, f, e in SENSORS)])
    assert f"1 point files are named in no line of readings.csv and are not read, the first is {monday}/points/001" in (
        said(folder.at(root), root, folder_frames(root))
    )


def test_sweeps_of_one_time_are_a_warning(tmp_path):
    root = write_recording(tmp_path / "drive", frames=3)
    lines = [f"{n:03d},{s},{f}/{n:03d}.{e},{time}" for n, time in enumerate((0, 7, 7)) for s, f, e in SENSORS]
    write_readings(root, ["sweep,sensor,file,time_us", *lines])
    assert "1 of 3 frames are not later than the one before in their scene, the first is drive.002 at 7 us" in (
        said(folder.at(root), root, folder_frames(root))
    )


# all of them


def test_the_same_in_other_case_goes_before_another_ending(tmp_path):
    for name in ("a.npy", "A.BIN", "ab.bin", "a.bin.gz"):
        (tmp_path / name).touch()
    assert beside(tmp_path / "a.bin") == "A.BIN"
    (tmp_path / "A.BIN").unlink()
    os.utime(tmp_path, (1, 1))  # a folder's time is that of a tick of the clock, in which both may have happened
    assert beside(tmp_path / "a.bin") == "a.bin.gz"
    assert beside(tmp_path / "c.bin") is None
    assert beside(tmp_path / "no" / "a.bin") is None


def test_scenes_that_lie_where_none_is_looked_for_are_a_warning(tmp_path):
    root = write_recording(tmp_path / "flat")
    write_recording(tmp_path / "flat/tuesday")
    deep = write_recording(tmp_path / "all", scene="monday")
    for place in ("2024/tuesday", "2024/june/friday", "monday/part2"):
        write_recording(tmp_path / "all" / place)
    (root / "zarr/partitions/flat.000000.zarr/points").mkdir(parents=True)  # of a store
    flat, all_of_it = (said(folder.at(place), place, folder_frames(place)) for place in (root, deep))
    elsewhere = "folders hold points where no scene is looked for, and are not read, the first is"
    assert f"1 {elsewhere} {root}/tuesday" in flat
    assert f"3 {elsewhere} {deep}/2024/tuesday" in all_of_it


@pytest.mark.parametrize("name", ["readings.csv", "images", "labels"])
def test_what_lies_above_the_scenes_is_told(name, tmp_path):
    root = write_recording(tmp_path / "all", scene="monday")
    if name == "labels":
        write_recording(tmp_path / "all/images")  # a scene may be called so
    assert said(folder.at(root), root, folder_frames(root)) == ""
    (root / name).mkdir()
    found = said(folder.at(root), root, folder_frames(root))
    assert f"lie above the scenes and are not read: each scene holds its own, the first is {root / name}" in found


def test_classes_of_one_scene_alone_are_told(tmp_path):
    root = write_recording(tmp_path / "all", scene="monday")
    (root / "monday" / "taxonomy.yaml").write_text("rubbish: [1")
    assert (
        f"are not read: one beside the calibration file of the recording is, the first is {root}/monday/taxonomy"
        in (said(folder.at(root), root, folder_frames(root)))
    )
