"""`ovps data check`: what it counts, what it draws, and what it says of mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ovps import cli
from ovps.datasets.clocks import odd_unit
from ovps.datasets.folder import DATASET
from ovps.datasets.folder.frames import VERSION
from ovps.errors import DatasetError
from ovps.geometry import mistakes
from ovps.geometry.grid import Grid, fitting_grid
from pipelines.data_check import check
from pipelines.options import PrecomputeOptions
from pipelines.precompute import estimate
from tests.helpers.recording import (
    CAMERA_FROM_LIDAR,
    FOCAL,
    HEIGHT,
    WIDTH,
    calibration,
    rows_of,
    write_calibration,
    write_labels,
    write_readings,
    write_recording,
    write_taxonomy,
    xyz_of,
)
from tests.helpers.spinning import spinning_sweep


def inside_by_hand(number: int, most: int | None = None) -> float:
    """Share of points in the image of the camera, one after the other; of the first `most`."""
    count, points = 0, xyz_of(number)[:most]
    for point in points:
        x, y, z = CAMERA_FROM_LIDAR[:3, :3] @ point + CAMERA_FROM_LIDAR[:3, 3]
        if z > 1:
            u, v = FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2
            count += 1 < u < WIDTH - 1 and 1 < v < HEIGHT - 1
    return count / len(points)


def test_a_sound_recording_is_counted_and_drawn(tmp_path):
    changed = {"occlusion": {"tolerance_m": 1000}}  # hides nothing
    root = write_recording(tmp_path / "a b=c é", frames=4, changed=changed)
    found = check(root, count=2)
    assert (found.frames, found.frames_read, found.scenes, found.labelled) == (4, 2, (root.name,), 0)
    assert (found.problems, found.warnings) == ((), ())
    expected = (inside_by_hand(0) + inside_by_hand(3)) / 2
    assert found.seen_share["front"] == pytest.approx(expected, abs=0.02)
    assert found.unseen_share == pytest.approx(1 - found.seen_share["front"])
    assert found.page.parent == root.with_name("a b=c é-check")
    page = found.page.read_text()
    for number in (0, 3):
        file = found.page.parent / "pictures" / f"{root.name}.{number:03d}-front.png"
        with Image.open(file) as picture:
            assert picture.size == (WIDTH, HEIGHT)
        assert "a%20b%3Dc%20%C3%A9.003-front.png" in page


def test_an_empty_picture_has_its_likely_mistake_and_the_page_says_so(tmp_path):
    swapped = [{"from": "front", "to": "lidar", "matrix": CAMERA_FROM_LIDAR.tolist()}]
    found = check(write_recording(tmp_path / "drive", changed={"transforms": swapped}))
    assert any(mistakes.INVERSE in problem for problem in found.problems)
    assert sum("front:" in problem for problem in found.problems) == 1  # of two frames
    assert "exchange" in found.page.read_text()


def test_an_image_of_another_resolution_says_what_to_multiply_by(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    Image.new("RGB", (2 * WIDTH, 2 * HEIGHT)).save(root / "images" / "front" / "000.png")
    (problem,) = check(root).problems
    assert f"width: {2 * WIDTH}, height: {2 * HEIGHT}" in problem
    # pixel (0, 0) is a centre: the left rim, at -0.5, stays where it is
    assert f"fx: {2 * FOCAL:g}, fy: {2 * FOCAL:g}, cx: {WIDTH + 0.5:g}, cy: {HEIGHT + 0.5:g}" in problem
    assert len(list((root.with_name("drive-check") / "pictures").glob("*.png"))) == 1  # drawn all the same


def readings(root, step, late=0):
    lines = ["sweep,sensor,file,time_us"]
    for number in range(3):
        lines.append(f"{number:03d},lidar,points/{number:03d}.bin,{int(1000 * step + number * step)}")
        lines.append(f"{number:03d},front,images/front/{number:03d}.png,{int(1000 * step + number * step + late)}")
    write_readings(root, lines)


@pytest.mark.parametrize(
    ("step", "late", "says"),
    [
        (0.1, 0, "whole seconds"),
        (100, 0, "100 µs apart: these seem to be written in a larger unit"),
        (10**8, 0, "1.67 min apart: these seem to be written in a smaller unit"),
        (10**5, 10**6, "another sweep"),
    ],
)
def test_clocks_in_another_unit_are_told(step, late, says, tmp_path):
    root = write_recording(tmp_path / "drive", frames=3)
    readings(root, step, late)
    assert any(says in problem for problem in check(root).problems)
    readings(root, 100_000, 20_000)
    sound = check(root)
    assert (sound.warnings, sound.problems) == ((), ())
    assert sound.apart_ms == {"front": 20.0}


def test_frames_that_are_picked_say_nothing_of_the_unit(tmp_path):
    """A vehicle that stood for a minute, and the frames before and behind it."""
    root = write_recording(tmp_path / "drive", frames=4)
    times = [0, 100_000, 60_200_000, 60_300_000]
    lines = [f"{n:03d},lidar,points/{n:03d}.bin,{t}" for n, t in enumerate(times)]
    lines += [f"{n:03d},front,images/front/{n:03d}.png,{t}" for n, t in enumerate(times)]
    write_readings(root, ["sweep,sensor,file,time_us", *lines])
    frames = DATASET.frames(root, VERSION, ("val",))
    assert odd_unit(frames) == odd_unit([frames[0], frames[3]]) == []


def test_a_vehicle_too_fast_no_returns_and_points_on_the_ground_are_told(tmp_path):
    lifted = {"from": "lidar", "to": "vehicle", "translation": [0, 0, 1.8], "rotation_wxyz": [1, 0, 0, 0]}
    changed = {"transforms": [*calibration()["transforms"], lifted], "poses_of": "lidar"}
    root = write_recording(tmp_path / "drive", frames=2, changed=changed)
    lines = ["sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"]
    for number in range(2):
        for sensor, file in (("lidar", f"points/{number:03d}.bin"), ("front", f"images/front/{number:03d}.png")):
            lines.append(f"{number:03d},{sensor},{file},{100_000 * number},{1000 * number},0,0,1,0,0,0")
        rows = rows_of(number)
        rows[:, 2] += 1.8
        rows[:20, :3] = 0
        (root / "points" / f"{number:03d}.bin").write_bytes(rows.tobytes())
    write_readings(root, lines)
    found = check(root)
    text = " ".join((*found.warnings, *found.problems))
    for says in ("10,000 m/s", "(0, 0, 0)", "invalid: drop", "in a frame on the ground"):
        assert says in text


def test_points_beyond_the_default_grid_get_one_that_fits(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    rows = rows_of(0)
    rows[::4, 0] += 110
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    found = check(root)
    assert found.beyond_default_share > 0.2
    assert any(f"--grid {found.grid}" in warning for warning in found.warnings)
    assert Grid.parse(found.grid).beyond(rows[:, :3]).mean() < 0.01


def test_the_grid_that_fits_has_cells_of_the_default_and_is_never_smaller():
    default = Grid.parse("cylinder")
    rng = np.random.default_rng(0)
    assert fitting_grid(rng.uniform(-1, 1, (500, 3))) == default
    wide = fitting_grid(rng.uniform(-1, 1, (5000, 3)) * (150, 90, 14))
    assert wide.cell == pytest.approx(default.cell)
    assert wide.high[0] >= 150
    assert wide.low[2] <= -13


def test_an_image_of_one_colour_is_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=2)
    assert not any("one colour" in warning for warning in check(root).warnings)
    path = root / "images" / "front" / "001.png"
    Image.new("RGB", Image.open(path).size).save(path)
    found = check(root)
    (warning,) = [warning for warning in found.warnings if "one colour" in warning]
    assert warning.startswith(f"{path} is of one colour and shows nothing: front sees no point")
    (problem,) = found.problems
    assert "none of 1 camera sees a point of it" in problem, "segment refuses the frame"


def test_missing_files_of_frames_that_are_not_read_are_told_with_exit_code_3(tmp_path, monkeypatch, capsys):
    root = write_recording(tmp_path / "drive", frames=3)
    readings(root, 100_000)
    (root / "images" / "front" / "001.png").unlink()
    monkeypatch.setattr(sys, "argv", ["ovps", "data", "check", str(root), "--frames", "1", "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "1 file missing" in problem
    assert "001.png" in problem


def test_empty_files_of_frames_that_are_not_read_are_told(tmp_path):
    """As recorders leave them that could not write: the run itself would stop there in the night."""
    root = write_recording(tmp_path / "drive", frames=3)
    readings(root, 100_000)
    for number in range(3):
        write_labels(root, number, np.resize([10001, 20000, 0], len(rows_of(number))))
    write_taxonomy(root, {10: 1, 20: 2})
    assert check(root, count=1).problems == ()
    for name in ("images/front/001.png", "points/001.bin", "points/002.bin", "labels/002.npy"):
        (file,) = root.glob(f"{name.rpartition('.')[0]}.*")
        file.write_bytes(b"")
    (root / "images/front/002.png").write_bytes(b"no picture")
    files, images = check(root, count=1).problems
    assert re.match(r"3 files empty, the first is \S+points/001\.bin \(drive\.001\)", files)
    assert re.match(
        r"2 of 2 images of front are no images, the first is \S+001\.png, empty \(drive\.001\): copy", images
    )
    (root / "images/front/001.png").unlink()
    missing, files, images = check(root, count=1).problems
    assert "1 file missing" in missing
    assert re.match(r"1 of 2 images of front are no images, .*no picture in its 10 bytes", images)


def test_a_recording_of_which_nothing_can_be_read_is_an_error(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    content = calibration()
    content["points"]["columns"] = ["x", "y", "z", "intensity", "ring"]
    write_calibration(root, content)
    with pytest.raises(DatasetError, match="none of 1 frame"):
        check(root)


def test_sweeps_of_next_to_no_points_are_told(tmp_path):
    """And a frame of which no camera sees anything is a problem: precompute refuses it."""
    root = write_recording(tmp_path / "drive")
    for file in (root / "points").iterdir():
        file.write_bytes(np.array([[5, 0, 0, 1]], "<f4").tobytes())
    found = check(root)
    assert "sweep drive.000 has 1 point: is its file cut off?" in found.warnings
    for file in (root / "points").iterdir():
        file.write_bytes(np.array([[-5, 0, 0, 1]], "<f4").tobytes())
    found = check(root)
    for number in range(2):
        assert f"drive.{number:03d}: none of 1 camera sees a point of it" in found.problems


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
@pytest.mark.parametrize("invalid", ["refuse", "drop"])
def test_a_sweep_that_is_cut_is_told_as_precompute_tells_it(suffix, invalid, tmp_path):
    """Of .bin also where its frame is not among those that are read, by their size; of others where it is."""
    changed = {"points": calibration()["points"] | {"invalid": invalid}}
    root = write_recording(tmp_path / "drive", frames=8, changed=changed)
    for number, file in enumerate(sorted((root / "points").iterdir())):
        rows = rows_of(number)
        rows[:20, :3] = 0
        file.unlink()
        rows = rows[: len(rows) // 2] if number == 3 else rows
        file = file.with_suffix(suffix)
        np.save(file, rows) if suffix == ".npy" else file.write_bytes(rows.tobytes())
    count = len(rows_of(0))
    for read in (2, 8):
        told = [warning for warning in check(root, count=read).warnings if "cut off" in warning]
        lost = 20 if suffix == ".npy" and invalid == "drop" else 0
        said = (
            f"1 of 8 frames have clearly fewer points than the median of {count - lost:,}, the least has"
            f" {count // 2 - lost:,} (frame drive.003): is its point file cut off?"
        )
        assert told == ([] if (suffix, read) == (".npy", 2) else [said])


def test_point_files_of_other_columns_are_a_problem(tmp_path):
    root = write_recording(tmp_path / "drive", changed={"points": {"columns": ["x", "y", "z"]}})
    for file in (root / "points").iterdir():
        file.write_bytes(spinning_sweep(150).tobytes())
    found = check(root)
    (problem,) = [text for text in found.problems if "columns" in text]
    assert "seems to have 4 columns, not 3 (x, y, z)" in problem
    assert not any("columns" in warning for warning in found.warnings)
    write_calibration(root, calibration() | {"points": {"columns": ["x", "y", "z", "intensity"]}})
    found = check(root)
    assert not any("columns" in text for text in (*found.problems, *found.warnings))


def test_what_reading_has_said_of_columns_is_said_once(tmp_path):
    changed = {"points": {"columns": ["x", "y", "z", "time", "intensity"]}}
    root = write_recording(tmp_path / "drive", changed=changed)
    for number, file in enumerate(sorted((root / "points").iterdir())):
        sweep = spinning_sweep(150)
        file.write_bytes(sweep.tobytes() if number == 0 else np.insert(sweep, 3, 0, axis=1).tobytes())
    assert sum("seems to have 4 columns" in problem for problem in check(root).problems) == 1


def test_a_folder_whose_name_is_no_text(tmp_path):
    """Linux lets names be any bytes; tokens, stores and pages are text."""
    root = write_recording(tmp_path / "drive").rename(tmp_path / "r\udcff")
    with pytest.raises(DatasetError, match="no text in UTF-8") as caught:
        check(root)
    assert "Rename" in caught.value.remedy
    command = [sys.executable, "-m", "ovps", "data", "check", str(root), "--json"]
    told = subprocess.run(command, capture_output=True, check=False)
    assert told.returncode == 3
    assert json.loads(told.stdout)["error"] == "dataset"
    drives = write_recording(tmp_path / "drives", scene="monday").rename(tmp_path / "d\udcff")
    assert check(drives).frames == 2  # its scenes have names
    sweep = drives / "monday" / "points" / "000.bin"
    sweep.rename(sweep.with_name("s\udcff.bin"))
    image = drives / "monday" / "images" / "front" / "000.png"
    image.rename(image.with_name("s\udcff.png"))
    with pytest.raises(DatasetError, match="no text in UTF-8"):
        check(drives)


def test_what_is_no_recording_is_told_as_what_it_is(tmp_path):
    root = write_recording(tmp_path / "drive")
    with pytest.raises(DatasetError, match="a file, not a recording"):
        check(root / "points" / "000.bin")
    with pytest.raises(DatasetError, match="no such folder") as caught:
        check(tmp_path / "nowhere")
    assert "--" not in caught.value.remedy


def test_the_transform_of_the_file_is_inverted_not_all_that_leads_to_the_points(tmp_path):
    """The remedy is tried: what the hint promises is what is then seen."""
    camera_in_vehicle = np.linalg.inv(CAMERA_FROM_LIDAR)
    camera_in_vehicle[:3, 3] += (1.0, 0.3, 1.8)
    lidar = {"from": "lidar", "to": "vehicle", "translation": [1, 0.3, 1.8], "rotation_wxyz": [1, 0, 0, 0]}
    right = {"from": "front", "to": "vehicle", "matrix": camera_in_vehicle.tolist()}
    mistaken = right | {"from": "vehicle", "to": "front"}
    found = check(write_recording(tmp_path / "wrong", changed={"transforms": [mistaken, lidar]}))
    (said,) = [problem for problem in found.problems if mistakes.INVERSE in problem]
    inside = inside_by_hand(0)
    assert f"exchange `from` and `to` ({inside:.0%} of the points would then lie inside its image)" in said
    assert check(write_recording(tmp_path / "right", changed={"transforms": [right, lidar]})).problems == ()


def test_points_and_translations_in_millimetres_are_said_to_be(tmp_path):
    root = write_recording(tmp_path / "points")
    for number in range(2):
        rows = rows_of(number)
        rows[:, :3] *= 1000
        (root / "points" / f"{number:03d}.bin").write_bytes(rows.tobytes())
    with pytest.raises(DatasetError, match="as if they were in millimetres"):
        check(root)
    camera_in_lidar = np.linalg.inv(CAMERA_FROM_LIDAR)
    camera_in_lidar[:3, 3] *= 1000
    changed = {"transforms": [{"from": "front", "to": "lidar", "matrix": camera_in_lidar.tolist()}]}
    with pytest.raises(DatasetError, match="the translation is in millimetres") as refused:
        check(write_recording(tmp_path / "camera", changed=changed))
    assert str(tmp_path / "camera-check" / "check.html") in str(refused.value)
    assert (tmp_path / "camera-check" / "pictures" / "camera.000-front.png").is_file()


def at_a_place(root, place):
    """A recording whose points are in the frame of a map."""
    for number in range(2):
        rows = rows_of(number).astype(np.float64)
        rows[:, :3] += place
        np.save(root / "points" / f"{number:03d}.npy", rows)
        (root / "points" / f"{number:03d}.bin").unlink()
    return root


def test_points_in_the_frame_of_a_map_are_a_problem_and_no_wider_grid_is_advised(tmp_path):
    near = check(at_a_place(write_recording(tmp_path / "near"), (300, -20, 4)))
    assert any("the frame of a map" in problem for problem in near.problems)
    assert near.ground_m is None
    assert not any("--grid" in warning for warning in near.warnings)
    with pytest.raises(DatasetError, match=r"5411\d\d\d.*the frame of a map") as refused:
        check(at_a_place(write_recording(tmp_path / "far"), (448_000, 5_411_000, 110)))
    assert "divide" not in str(refused.value)


def test_z_that_points_down_is_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    rows = rows_of(0)
    rows[:, 2] *= -1
    above = len(rows) - 300  # what stands on the ground, by many heights
    rows[:above, 2] = np.linspace(-4, 1, above)
    (root / "points" / "000.bin").write_bytes(rows.tobytes())
    assert any("lies above all other points" in problem for problem in check(root).problems)


def posed(root, poses_of, camera_pose):
    write_calibration(root, calibration() | {"poses_of": poses_of})
    lines = ["sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"]
    for number in range(2):
        lines.append(f"{number:03d},lidar,points/{number:03d}.bin,{100_000 * number},{number},0,0,1,0,0,0")
        lines.append(f"{number:03d},front,images/front/{number:03d}.png,{100_000 * number},{number},{camera_pose}")
    write_readings(root, lines)


@pytest.mark.parametrize(
    ("poses_of", "camera_pose", "says"),
    [
        ("lidar", "0,0,1,0,0,0", None),
        ("sensor", "0,0,0.5,-0.5,0.5,-0.5", None),
        ("lidar", "0,0,0.5,-0.5,0.5,-0.5", "write `poses_of: sensor`"),
        ("sensor", "0,0,1,0,0,0", "instead of `sensor`"),
    ],
)
def test_poses_of_each_sensor_and_poses_of_one_frame_are_told_apart(poses_of, camera_pose, says, tmp_path):
    root = write_recording(tmp_path / "drive")
    posed(root, poses_of, camera_pose)
    problems = check(root).problems
    if says is None:
        assert problems == ()
    else:
        assert says in problems[0]
        assert not any("Likely" in problem for problem in problems)  # the transforms are not blamed


def test_what_it_costs_that_nobody_knows_the_motion_is_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=3)
    readings(root, 500_000, 212_000)
    assert any("at 10 m/s points lie 2.1 m" in warning for warning in check(root).warnings)


def test_where_no_times_are_known_none_is_made_up(tmp_path):
    root = write_recording(tmp_path / "drive", frames=3)
    assert check(root).apart_ms == {}
    readings(root, 100_000)
    assert check(root).apart_ms == {"front": 0.0}
    table = root / "readings.csv"
    table.write_text(re.sub(r"\d+$", "", table.read_text(), flags=re.M))  # poses and names of files alone
    found = check(root)
    assert found.apart_ms == {}
    assert found.in_words()["image and sweep apart, at most"] == "unknown"


def test_shares_are_of_points_where_sweeps_differ_in_number(tmp_path):
    root = write_recording(tmp_path / "drive", changed={"occlusion": {"tolerance_m": 1000}})
    (root / "points" / "000.bin").write_bytes(rows_of(0)[:100].tobytes())  # balls, of which the camera sees most
    found = check(root)
    few, many = inside_by_hand(0, 100), inside_by_hand(1)
    share = (100 * few + len(xyz_of(1)) * many) / (100 + len(xyz_of(1)))
    assert found.seen_share["front"] == pytest.approx(share, abs=0.02)
    assert found.seen_share["front"] < (few + many) / 2 - 0.1
    assert found.unseen_share == pytest.approx(1 - found.seen_share["front"])


def test_a_table_of_readings_above_the_scenes_times_nothing(tmp_path):
    root = write_recording(tmp_path / "all", scene="monday")
    write_readings(root, ["sweep,sensor,file,time_us", "0,front,000,5"])
    found = check(root)
    assert found.apart_ms == {}
    assert any(str(root / "readings.csv") in warning for warning in found.warnings)


def test_faults_of_different_kinds_are_told_apart(tmp_path):
    root = write_recording(tmp_path / "drive", frames=6)
    for number in (0, 2, 4):
        rows = rows_of(number)
        rows[number : 2 * number + 1, 0] = np.nan
        (root / "points" / f"{number:03d}.bin").write_bytes(rows.tobytes())
    (root / "points" / "001.bin").write_bytes(b"")
    problems = check(root, count=6).problems
    assert sum("NaN" in problem and "in 2 other frames" in problem for problem in problems) == 1, problems
    assert sum("is empty" in problem and "other frame" not in problem for problem in problems) == 1, problems


def labelled_recording(root, raw_to_id, divisor=1000):
    """Two frames: a third of the points 10001, a third 20000, a third 0."""
    write_recording(root, frames=2)
    write_taxonomy(root, raw_to_id, divisor)
    for number in range(2):
        write_labels(root, number, np.resize([10001, 20000, 0], len(rows_of(number))))
    return root


def test_labels_are_counted(tmp_path):
    found = check(labelled_recording(tmp_path / "drive", {10: 1, 20: 2}))
    assert (found.labelled_share, found.warnings, found.problems) == (pytest.approx(2 / 3, abs=0.01), (), ())
    assert found.in_words()["labelled"] == "66.7% of the points of frames with labels"
    assert "66.7% of the points of frames with labels" in found.page.read_text()
    assert check(write_recording(tmp_path / "bare")).labelled_share is None


def test_raw_classes_that_the_taxonomy_does_not_name_are_told(tmp_path):
    root = labelled_recording(tmp_path / "drive", {10: 1})
    found = check(root)
    (warning,) = found.warnings
    third = 2 * (len(rows_of(0)) // 3)
    assert f"raw classes: 20 ({third:,} points)" in warning
    assert "33.3% of the points" in warning
    assert (found.problems, found.labelled_share) == ((), pytest.approx(1 / 3, abs=0.01))
    assert "write `20: 0` there" in warning
    write_taxonomy(root, {10: 1, 20: 0})
    assert check(root).warnings == (), "as it advises"


@pytest.mark.parametrize(
    ("raw_to_id", "divisor", "says"),
    [
        ({1: 1, 2: 2}, 1000, r"by `instance_divisor: 1000` their raw classes are 10 \(344 points\), 20 \(344 points\)"),
        ({10: 1, 20: 2}, 1, r"by `instance_divisor: 1` their raw classes are 10001 .*, 20000 .*does not name"),
        ({10: 1, 20: 2}, 10**6, r"raw classes are 0, which is unlabelled, with labels up to 20000"),
    ],
)
def test_labels_of_which_none_gets_a_class_are_a_problem(raw_to_id, divisor, says, tmp_path):
    found = check(labelled_recording(tmp_path / "drive", raw_to_id, divisor))
    (problem,) = found.problems
    assert problem.startswith("not one point of 2 frames with labels that were read has a class: ")
    assert re.search(says, problem)
    assert (found.labelled_share, found.warnings) == (0, ())


@pytest.mark.parametrize("other", [[10, 20], [0]])
def test_a_label_file_written_otherwise_than_others_is_told(other, tmp_path):
    """Class numbers alone, of which `instance_divisor` makes instances of nothing; or a file that nobody filled in."""
    root = labelled_recording(tmp_path / "drive", {10: 1, 20: 2})
    write_labels(root, 1, np.resize(other, len(rows_of(1))))
    found = check(root)
    (warning,) = found.warnings
    assert "1 of 2 frames with labels that were read have not one point with a class, the first is drive.001" in warning
    assert "`instance_divisor: 1000`" in warning
    assert (found.problems, found.labelled_share) == ((), pytest.approx(1 / 3, abs=0.01))


def test_things_without_numbers_are_told(tmp_path):
    """Class numbers alone, as of semantic labels: all cars of a frame are one."""
    root = labelled_recording(tmp_path / "drive", {10: 1, 20: 2})
    for number in range(2):
        write_labels(root, number, np.resize([10000, 20000, 0], len(rows_of(number))))
    told = "no object has a number in the labels that were read: of car all points of a frame count as one object"
    (warning,) = check(root).warnings
    assert warning.startswith(told)
    values = {"dataset": "folder", "dataroot": root, "encoder": "demo", "workers": 0, "out": tmp_path / "zarr"}
    assert sum(text.startswith(told) for text in estimate(PrecomputeOptions.model_validate(values)).warnings) == 1
    write_labels(root, 0, np.resize([10001, 20000, 0], len(rows_of(0))))
    assert check(root).warnings == ()
    assert not any(told in text for text in estimate(PrecomputeOptions.model_validate(values)).warnings)


@pytest.mark.parametrize("names", [("a", "b"), ()])
def test_a_label_file_holds_one_array(tmp_path, names):
    root = labelled_recording(tmp_path / "drive", {10: 1, 20: 2})
    file = root / "labels" / "000.npy"
    labels = np.load(file)
    file.unlink()
    np.savez(file.with_suffix(".npz"), **dict.fromkeys(names, labels))
    (problem,) = check(root).problems
    assert f"it holds {'2 arrays' if names else '0 arrays'}, not one" in problem


def test_labels_that_are_all_zero_are_no_mistake_but_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=2)
    write_taxonomy(root, {10: 1})
    write_labels(root, 0, np.zeros(len(rows_of(0))))
    found = check(root)
    assert found.warnings == ("not one point of 1 frame with labels that were read is labelled",)
    assert (found.problems, found.labelled_share) == ((), 0)
