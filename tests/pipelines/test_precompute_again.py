"""Running stage 1 again: on a data set that has changed since, on a store that knows some of it already."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovps.cache.info import store_info
from ovps.cache.manifest import read_manifests
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.errors import CacheError, DatasetError, FrameError
from pipelines.labels import add_labels
from pipelines.options import MergeOptions, PrecomputeOptions
from pipelines.precompute import estimate, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.options import resolved
from pipelines.stores.select import merge
from tests.helpers.mini_nuscenes import VERSION, with_other_tokens, write_mini_nuscenes
from tests.helpers.recording import (
    calibration,
    rows_of,
    write_calibration,
    write_labels,
    write_readings,
    write_recording,
    write_taxonomy,
)
from tests.helpers.stores import contents, read_all, same_frames
from tests.pipelines.test_precompute import one_scene, options_for, truncate


def table(root: Path, name: str, change) -> None:
    """Change the rows of a table."""
    file = root / VERSION / f"{name}.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(change(rows) or rows))


def take_labels(root: Path, away: Path) -> None:
    """As if lidarseg and panoptic had not been unpacked yet."""
    for name in ("lidarseg", "panoptic"):
        shutil.move(root / VERSION / f"{name}.json", away / f"{name}.json")


def bring_labels(root: Path, away: Path) -> None:
    for name in ("lidarseg", "panoptic"):
        shutil.move(away / f"{name}.json", root / VERSION / f"{name}.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A drive of three frames, and the store of it that was made in one go. Read only."""
    folder = tmp_path_factory.mktemp("whole")
    root = write_mini_nuscenes(folder / "world", scenes=1, frames=3, points=100)
    precompute(one_scene(root, folder / "zarr"))
    return folder


@pytest.fixture
def root(whole, tmp_path):
    """The same drive, to be changed."""
    return Path(shutil.copytree(whole / "world", tmp_path / "world"))


def test_labels_that_come_late(root, whole, tmp_path):
    take_labels(root, tmp_path)
    first = precompute(one_scene(root, tmp_path / "zarr"))
    assert (first.frames, first.unlabelled, first.relabelled) == (3, 3, 0)
    assert store_info(tmp_path / "zarr").labelled_frames == 0

    bring_labels(root, tmp_path)
    assert estimate(one_scene(root, tmp_path / "zarr")).frames == 3
    then = precompute(one_scene(root, tmp_path / "zarr"))
    assert (then.frames, then.relabelled, then.unlabelled, then.frames_before) == (3, 3, 0, 0)
    assert same_frames(tmp_path / "zarr", whole / "zarr")
    before = contents(tmp_path / "zarr")
    assert precompute(one_scene(root, tmp_path / "zarr")).frames == 0
    assert contents(tmp_path / "zarr") == before

    # labels that go again: what is committed stays
    take_labels(root, tmp_path)
    assert precompute(one_scene(root, tmp_path / "zarr")).frames == 0
    assert contents(tmp_path / "zarr") == before


def test_who_may_only_read_a_store_may_ask_for_what_it_holds(root, whole, tmp_path):
    """As of another user, on a disk that is mounted read-only, or while another run writes."""
    store = shutil.copytree(whole / "zarr", tmp_path / "zarr")
    before, options = contents(store), one_scene(root, tmp_path / "zarr")
    with storage_of(store).exclusive():
        done = precompute(options)
        assert (done.frames, done.frames_before, done.sweeps.frames) == (0, 3, 3)
        (store / "partitions" / "begun.000000-00.zarr").mkdir()  # by the other
        precompute(options)
        assert (store / "partitions" / "begun.000000-00.zarr").is_dir()
        assert contents(store) == before
        next((store / "manifest").iterdir()).unlink()
        with pytest.raises(CacheError, match="another run is writing to this store"):
            precompute(options)


def test_thumbnails_that_come_late_are_told(root, tmp_path):
    def told(**changes):
        found = precompute(one_scene(root, tmp_path / "zarr", **changes)).warnings
        return [warning for warning in found if "thumbnails" in warning]

    assert told(limit=1) == []
    frames = len(frames_of(resolved(one_scene(root, tmp_path))))
    (warning,) = told(thumbnails=40)
    assert warning.startswith(f"1 of {frames} frames were computed before without thumbnails, and stay so")
    assert told(thumbnails=40) == [warning]
    assert told() == []


def test_another_data_set_whose_scenes_have_the_same_names_is_refused(root, tmp_path):
    other = write_mini_nuscenes(tmp_path / "other", scenes=1, frames=2, points=100, labelled=False)
    with_other_tokens(other)
    precompute(one_scene(root, tmp_path / "zarr"))
    before = contents(tmp_path / "zarr")
    with pytest.raises(DatasetError, match=r"holds other frames as scene 'mini-0001', none of which") as caught:
        precompute(one_scene(other, tmp_path / "zarr"))
    assert caught.value.remedy.startswith("Choose another place for the store")
    assert contents(tmp_path / "zarr") == before
    with pytest.raises(DatasetError, match="holds other frames as scene"):
        estimate(one_scene(other, tmp_path / "zarr"))


def test_frames_of_a_scene_may_come_one_by_one(root, whole, tmp_path):
    tokens = [frame.token for frame in frames_of(resolved(one_scene(root, tmp_path)))]
    for token in tokens:
        assert precompute(one_scene(root, tmp_path / "zarr", only=(token,))).frames == 1
    assert same_frames(tmp_path / "zarr", whole / "zarr")


def test_labels_of_some_frames_come_late_and_one_cannot_be_read(root, whole, tmp_path):
    take_labels(root, tmp_path)
    precompute(one_scene(root, tmp_path / "zarr", partition_frames=3))
    unlabelled = read_all(tmp_path / "zarr")
    bring_labels(root, tmp_path)
    frames = frames_of(resolved(one_scene(root, tmp_path)))
    good = Path(frames[1].labels_path).read_bytes()
    truncate(frames[1].labels_path)

    with pytest.raises(FrameError, match="label file") as caught:
        precompute(one_scene(root, tmp_path / "zarr"))
    assert caught.value.frame == frames[1].token
    summary = precompute(one_scene(root, tmp_path / "zarr", on_error="skip"))
    assert (summary.frames, summary.relabelled, summary.unlabelled) == (2, 2, 1)
    assert [record.token for record in summary.quarantined] == [frames[1].token]
    assert verify_store(tmp_path / "zarr") == []
    found = read_all(tmp_path / "zarr")
    assert [found[frame.token].label is None for frame in frames] == [False, True, False]
    assert found[frames[1].token].clip.tobytes() == unlabelled[frames[1].token].clip.tobytes(), "it is kept as it was"

    Path(frames[1].labels_path).write_bytes(good)
    summary = precompute(one_scene(root, tmp_path / "zarr"))
    assert (summary.frames, summary.frames_before, summary.relabelled, summary.quarantined) == (1, 2, 1, ())
    assert same_frames(tmp_path / "zarr", whole / "zarr")


@pytest.mark.parametrize("bad", [0, 1])  # the frame that its partition is called after, and another one
def test_a_quarantined_frame_that_was_mended(root, whole, tmp_path, bad):
    frame = frames_of(resolved(one_scene(root, tmp_path)))[bad]
    image = Path(frame.cameras[2].image_path)
    content = image.read_bytes()
    truncate(image)
    summary = precompute(one_scene(root, tmp_path / "zarr", partition_frames=3, on_error="skip"))
    assert (summary.frames, len(summary.quarantined)) == (2, 1)

    image.write_bytes(content)
    summary = precompute(one_scene(root, tmp_path / "zarr", partition_frames=3))
    assert (summary.frames, summary.frames_before, summary.mended, summary.quarantined) == (1, 2, 1, ())
    assert store_info(tmp_path / "zarr").quarantined == ()
    assert same_frames(tmp_path / "zarr", whole / "zarr")


def test_nothing_but_quarantined_frames_is_no_success(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=100)
    frames = frames_of(resolved(options_for(root, tmp_path)))
    good = {frame.points_path: Path(frame.points_path).read_bytes() for frame in frames}
    for frame in frames:
        truncate(frame.points_path)
    for _ in range(2):  # no less the second time, when all of it is known
        with pytest.raises(DatasetError, match=r"none of 4 frames could be computed.*cut off.*run the same") as caught:
            precompute(options_for(root, tmp_path / "zarr", on_error="skip"))
        assert caught.value.exit_code == 3
        assert "other frame" not in str(caught.value)
        assert [record.token for record in store_info(tmp_path / "zarr").quarantined] == [f.token for f in frames]
        assert verify_store(tmp_path / "zarr") == []

    # with some good frames it is one, and what is known to be bad is no news then
    for frame in frames[:2]:
        Path(frame.points_path).write_bytes(good[frame.points_path])
    for computed in (2, 0):
        summary = precompute(options_for(root, tmp_path / "zarr", on_error="skip"))
        assert (summary.frames, summary.mended, len(summary.quarantined)) == (computed, computed, 2)
    for frame in frames[2:]:
        Path(frame.points_path).write_bytes(good[frame.points_path])
    assert precompute(options_for(root, tmp_path / "zarr")).quarantined == ()
    precompute(options_for(root, tmp_path / "in one go"))
    assert same_frames(tmp_path / "zarr", tmp_path / "in one go")


def test_new_frames_that_are_all_quarantined_are_no_success_beside_old_ones(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=1, points=100)
    precompute(options_for(root, tmp_path / "zarr", subsets=("train",)))
    (frame,) = frames_of(resolved(options_for(root, tmp_path, subsets=("val",))))
    truncate(frame.points_path)
    with pytest.raises(DatasetError, match=r"none of 1 frames.* 1 other frame of those asked for can be used"):
        precompute(options_for(root, tmp_path / "zarr", on_error="skip"))
    assert len(precompute(options_for(root, tmp_path / "zarr", on_error="skip")).quarantined) == 1


def rename_scene(root: Path, old: str, new: str) -> None:
    def change(rows):
        for row in rows:
            row["name"] = new if row["name"] == old else row["name"]

    table(root, "scene", change)
    splits = root / VERSION / "splits.json"
    splits.write_text(splits.read_text().replace(old, new))


def test_two_scenes_of_one_name(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=3, frames=2, points=100)
    rename_scene(root, "mini-0002", "mini-0001")
    for use in (precompute, estimate):
        with pytest.raises(DatasetError, match=r"two scenes are called 'mini-0001'.*a name of its own"):
            use(options_for(root, tmp_path / "zarr"))
    assert not (tmp_path / "zarr").exists()
    table(root, "scene", lambda rows: rows[1].update(name="mini-0002"))  # the remedy
    splits = root / VERSION / "splits.json"
    splits.write_text(json.dumps({"train": ["mini-0001", "mini-0002"], "val": ["mini-0003"]}))
    assert precompute(options_for(root, tmp_path / "zarr")).frames == 6


def test_scenes_that_differ_in_case_or_in_signs_alone(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=3, frames=1, points=100)
    for old, new in (("mini-0001", "a drive"), ("mini-0002", "a_drive"), ("mini-0003", "A_drive")):
        rename_scene(root, old, new)
    assert precompute(options_for(root, tmp_path / "zarr")).frames == 3
    assert precompute(options_for(root, tmp_path / "zarr")).frames == 0
    assert verify_store(tmp_path / "zarr") == []
    manifests = [file.name.lower() for file in (tmp_path / "zarr/manifest").iterdir()]
    assert len(set(manifests)) == 3, "on any file system"
    assert {frame.scene for frame in read_all(tmp_path / "zarr").values()} == {"a drive", "a_drive", "A_drive"}


def test_a_token_twice(tmp_path, monkeypatch):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=100)
    frames = frames_of(resolved(options_for(root, tmp_path)))
    twice = [*frames[:3], replace(frames[3], token=frames[0].token)]
    monkeypatch.setattr("ovps.datasets.nuscenes.NuScenes.frames", lambda *args: twice)
    with pytest.raises(DatasetError, match="2 frames have one and the same token") as caught:
        precompute(options_for(root, tmp_path / "zarr"))
    assert caught.value.frame == frames[0].token
    assert not (tmp_path / "zarr").exists()


def test_frames_that_are_not_counted_in_order(tmp_path, monkeypatch):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=100)
    one, other, *_ = frames_of(resolved(options_for(root, tmp_path)))
    monkeypatch.setattr("ovps.datasets.nuscenes.NuScenes.frames", lambda *args: [one, replace(other, index=one.index)])
    with pytest.raises(DatasetError, match=rf"index 0 comes after index 0, of {one.token} \(frame {other.token}\)"):
        precompute(options_for(root, tmp_path / "zarr"))


def test_a_token_that_the_store_knows_from_another_scene(tmp_path, monkeypatch):
    """As of a data set that counts its frames anew in each drive, computed drive by drive."""
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=1, points=100)
    frames = frames_of(resolved(options_for(root, tmp_path)))
    precompute(options_for(root, tmp_path / "zarr", subsets=("train",)))
    before = contents(tmp_path / "zarr")
    other = replace(frames[1], token=frames[0].token)
    monkeypatch.setattr("ovps.datasets.nuscenes.NuScenes.frames", lambda *args: [other])
    for use in (precompute, estimate):
        with pytest.raises(DatasetError, match=r"in scene 'mini-0002'.*in 'mini-0001'.*into a new folder"):
            use(options_for(root, tmp_path / "zarr", subsets=("val",)))
    assert contents(tmp_path / "zarr") == before


def test_frames_that_moved_to_another_subset(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=100)
    precompute(options_for(root, tmp_path / "zarr"))
    arrays = {name: c for name, c in contents(tmp_path / "zarr").items() if name.startswith("partitions")}
    (root / VERSION / "splits.json").write_text(json.dumps({"train": ["mini-0002"], "val": ["mini-0001"]}))
    dry = estimate(options_for(root, tmp_path / "zarr"))
    assert (dry.moved, dry.frames, dry.frames_before) == (4, 0, 4)
    assert not any("moves them" in text for text in dry.warnings)
    train = options_for(root, tmp_path / "zarr", subsets=("train",))
    for summary in (estimate(train), precompute(train)):
        assert (summary.moved, summary.frames, summary.frames_before) == (2, 0, 2)
        (told,) = (text for text in summary.warnings if "moves them" in text)
        assert "holds 2 frames of split train that the data set has in val now" in told
        assert "--split train,val" in told
    summary = precompute(options_for(root, tmp_path / "zarr", subsets=("train", "val")))
    assert (summary.moved, summary.frames, summary.frames_before) == (2, 0, 4)
    assert not any("moves them" in text for text in summary.warnings)
    assert {name: c for name, c in contents(tmp_path / "zarr").items() if name.startswith("partitions")} == arrays
    precompute(options_for(root, tmp_path / "in one go"))
    assert same_frames(tmp_path / "zarr", tmp_path / "in one go")
    assert precompute(options_for(root, tmp_path / "zarr")).moved == 0


def test_what_was_moved_alone_is_not_told_as_committed(tmp_path, monkeypatch):
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=100)
    precompute(options_for(root, tmp_path / "zarr", limit=1))
    (root / VERSION / "splits.json").write_text(json.dumps({"train": ["mini-0002"], "val": ["mini-0001"]}))

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.precompute.stage._run", stopped)
    with pytest.raises(KeyboardInterrupt) as caught:
        precompute(options_for(root, tmp_path / "zarr"))
    assert caught.value.__notes__ == [f"0 of 2 frames are committed in {tmp_path / 'zarr'} and stay"]


def test_what_the_data_set_does_not_have_any_more_stays(root, whole, tmp_path):
    take_labels(root, tmp_path)
    precompute(one_scene(root, tmp_path / "zarr", partition_frames=3))
    bring_labels(root, tmp_path)
    # a partition is written again for the labels of the first two of its frames
    summary = precompute(one_scene(root, tmp_path / "zarr", limit=2))
    assert (summary.frames, summary.relabelled) == (2, 2)
    found = list(read_all(tmp_path / "zarr").values())
    assert [frame.label is None for frame in found] == [False, False, True]
    assert precompute(one_scene(root, tmp_path / "zarr")).relabelled == 1
    assert same_frames(tmp_path / "zarr", whole / "zarr")


def test_a_frame_that_comes_late_where_another_one_was(root, whole, tmp_path, monkeypatch):
    """The first frame of a drive is missing at first; then every frame has another index."""
    frames = frames_of(resolved(one_scene(root, tmp_path)))
    first = [replace(frame, index=index) for index, frame in enumerate(frames[1:])]
    with monkeypatch.context() as patch:
        patch.setattr("ovps.datasets.nuscenes.NuScenes.frames", lambda *args: first)
        precompute(one_scene(root, tmp_path / "zarr"))
    summary = precompute(one_scene(root, tmp_path / "zarr"))
    assert (summary.frames, summary.frames_before, summary.moved) == (1, 2, 2)
    assert same_frames(tmp_path / "zarr", whole / "zarr")


def resize_images(root: Path, wanted, size: tuple[int, int]) -> None:
    """Give some images another size, and their cameras the intrinsics that go with it."""

    def images(rows):
        for row in rows:
            if row["filename"].endswith(".jpg") and wanted(row["filename"]):
                factor = size[0] / row["width"]
                scaled[row["calibrated_sensor_token"]] = factor
                Image.open(root / row["filename"]).resize(size).save(root / row["filename"])
                row.update(width=size[0], height=size[1])

    def cameras(rows):
        for row in rows:
            if row["token"] in scaled:
                x, y, one = (np.array(r) for r in row["camera_intrinsic"])
                row["camera_intrinsic"] = [
                    (x * scaled[row["token"]]).tolist(),
                    (y * scaled[row["token"]]).tolist(),
                    [*one],
                ]

    scaled: dict[str, float] = {}
    table(root, "sample_data", images)
    table(root, "calibrated_sensor", cameras)


def test_what_was_computed_with_another_calibration_is_made_anew(root, whole, tmp_path):
    """Of one camera, mended after a look; what only rounding has moved is the same."""

    def turn(rows):
        by_token = {row["token"]: row for row in json.loads((root / "v1.0-trainval/sensor.json").read_text())}
        for row in rows:
            if by_token[row["sensor_token"]]["channel"] == "CAM_FRONT":
                row["translation"][0] += shift

    wrong = Path(shutil.copytree(root, tmp_path / "wrong"))
    shift = 0.5
    table(wrong, "calibrated_sensor", turn)
    store = tmp_path / "zarr"
    assert precompute(one_scene(wrong, store)).recalibrated == 0
    right = read_all(whole / "zarr")
    assert not any(np.array_equal(frame.clip, right[token].clip) for token, frame in read_all(store).items())
    summary = precompute(one_scene(root, store))
    assert (summary.frames, summary.recalibrated, summary.relabelled) == (3, 3, 0)
    assert verify_store(store) == []
    assert same_frames(store, whole / "zarr")
    shift = 1e-9
    table(root, "calibrated_sensor", turn)
    assert precompute(one_scene(root, store)).frames == 0


def test_drives_of_other_image_sizes(tmp_path):
    """As in KITTI, whose images are of four sizes, drive by drive."""
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=1, points=300)
    resize_images(root, lambda name: "mini-0002" in name, (160, 90))
    precompute(options_for(root, tmp_path / "zarr", subsets=("train",)))
    precompute(options_for(root, tmp_path / "zarr", subsets=("val",)))
    assert store_info(tmp_path / "zarr").image_sizes == {"128x72": 6, "160x90": 6}
    precompute(options_for(root, tmp_path / "in one go"))
    assert same_frames(tmp_path / "zarr", tmp_path / "in one go")


def test_a_rig_of_two_kinds_of_cameras(tmp_path):
    root = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=1, points=300)
    resize_images(root, lambda name: "CAM_FRONT/" in name, (192, 108))
    precompute(one_scene(root, tmp_path / "zarr"))
    (frame,) = read_all(tmp_path / "zarr").values()
    sizes = {camera.channel: (camera.width, camera.height) for camera in frame.cameras}
    assert sizes.pop("CAM_FRONT") == (192, 108)
    assert len(sizes) == 5
    assert set(sizes.values()) == {(128, 72)}
    assert store_info(tmp_path / "zarr").image_sizes == {"128x72": 5, "192x108": 1}


def test_a_partition_whose_manifest_was_lost_is_told_and_made_anew(root, whole, tmp_path):
    shutil.copytree(whole / "zarr", tmp_path / "zarr")
    manifests = sorted((tmp_path / "zarr/manifest").iterdir())
    for manifest in manifests:
        manifest.unlink()
    problem, *others = verify_store(tmp_path / "zarr")
    assert len(others) == len(manifests) - 1
    assert "run the same `ovps precompute` again" in problem.remedy
    assert precompute(one_scene(root, tmp_path / "zarr")).frames == 3
    assert verify_store(tmp_path / "zarr") == []
    assert same_frames(tmp_path / "zarr", whole / "zarr")


@pytest.mark.parametrize("change", [{"columns": ["y", "x", "z", "intensity"]}, {"intensity_max": 510}])
def test_points_that_are_read_by_other_rules_are_computed_anew(tmp_path, change):
    """Of a recording, whose `calibration.yaml` says how; it stands for all frames of a partition."""
    rec, store = write_recording(tmp_path / "rec", frames=3), tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    options = options.model_copy(update={"partition_frames": 2})
    precompute(options)
    assert precompute(options).frames == 0
    rules = calibration()
    write_calibration(rec, rules | {"points": rules.get("points", {}) | change})
    content = (rec / "points/000.bin").read_bytes()
    (rec / "points/000.bin").write_bytes(content[:3])
    with pytest.raises(FrameError, match=r"000\.bin"):  # it does not hide that the others are read otherwise
        precompute(options)
    (rec / "points/000.bin").write_bytes(content)
    assert estimate(options).frames == 3
    summary = precompute(options)
    assert (summary.frames, summary.recalibrated) == (3, 3)
    fresh = tmp_path / "fresh"
    precompute(options.model_copy(update={"out": str(fresh)}))
    assert same_frames(store, fresh)
    assert precompute(options).frames == 0


def test_another_drive_whose_scene_and_files_are_called_the_same_is_refused(tmp_path):
    """As recordings/monday/drive and recordings/tuesday/drive are: its frames would take the place of the others."""
    rec, store = write_recording(tmp_path / "rec", frames=3), tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    precompute(options)
    before = contents(store)
    other = write_recording(tmp_path / "other" / "rec", frames=2)
    for number in range(2):
        (other / f"points/{number:03d}.bin").write_bytes(rows_of(7 + number).tobytes())
    of_other = options.model_copy(update={"dataroot": other})
    for run in (
        lambda: add_labels(store, other),
        lambda: estimate(of_other),
        lambda: precompute(of_other),
    ):
        with pytest.raises(DatasetError, match=r"another sweep .*another drive.*a name of its own") as caught:
            run()
    (other / "points/000.bin").write_bytes(b"cut")  # the next one is compared, and named
    with pytest.raises(DatasetError, match=r"another sweep .*points/001\.bin"):
        precompute(of_other)
    (other / "points/000.bin").write_bytes(rows_of(7).tobytes())
    sorted_rows = write_recording(tmp_path / "sorted" / "rec", frames=1)
    (sorted_rows / "points/000.bin").write_bytes(rows_of(0)[::-1].tobytes())
    with pytest.raises(DatasetError, match="in another order than in the store"):
        add_labels(store, sorted_rows)
    assert contents(store) == before
    tuesday = tmp_path / "tuesday"
    precompute(of_other.model_copy(update={"out": str(tuesday)}))
    with pytest.raises(CacheError, match=r"Give scene .* another name in one .* of two drives"):
        merge(MergeOptions(caches=(str(store), str(tuesday)), out=tmp_path / "both"))
    for manifest in re.findall(r"\S+\.parquet", caught.value.remedy or ""):
        Path(manifest).unlink()
    assert precompute(of_other).frames == 2
    assert precompute(of_other).frames == 0


def test_images_that_were_exchanged_between_folders_are_computed_anew(tmp_path):
    """Their names are the same; only where the table says that they lie has been mended."""
    rec, store = write_recording(tmp_path / "rec", frames=2), tmp_path / "zarr"
    shutil.copytree(rec / "images/front", rec / "images/back")
    for number in range(2):
        shutil.copy(rec / f"images/front/{1 - number:03d}.png", rec / f"images/back/{number:03d}.png")
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    for folder, made in (("back", 2), ("front", 2), ("front", 0)):
        lines = [f"{n:03d},lidar,points/{n:03d}.bin,{100_000 * n}" for n in range(2)]
        lines += [f"{n:03d},front,images/{folder}/{n:03d}.png,{100_000 * n}" for n in range(2)]
        write_readings(rec, ["sweep,sensor,file,time_us", *lines])
        assert precompute(options).frames == made
    fresh = tmp_path / "fresh"
    precompute(options.model_copy(update={"out": str(fresh)}))
    assert same_frames(store, fresh)


def test_what_the_store_alone_has_stays_where_frames_are_computed_anew(tmp_path):
    rec, store = write_recording(tmp_path / "rec", frames=2), tmp_path / "zarr"
    write_taxonomy(rec, {1: 1, 2: 2})
    for number in range(2):
        write_labels(rec, number, np.where(np.arange(len(rows_of(number))) < 216, 1001, 2000))
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    precompute(options.model_copy(update={"thumbnails": 40}))
    shutil.move(rec / "labels", tmp_path / "away")
    known = calibration()
    known["cameras"]["front"]["fx"] += 1
    write_calibration(rec, known)
    assert precompute(options).recalibrated == 2
    shutil.move(tmp_path / "away", rec / "labels")
    fresh = tmp_path / "fresh"
    precompute(options.model_copy(update={"thumbnails": 40, "out": str(fresh)}))
    assert same_frames(store, fresh)
    assert all(frame.labelled for frame in Store.open(store).frames)
    there, expected = (Store.open(path).pictures(Store.open(path).frames[1]) for path in (store, fresh))
    np.testing.assert_array_equal(there[0][1], expected[0][1])

    shutil.move(rec / "labels", tmp_path / "away")
    (rec / "points/000.bin").write_bytes(rows_of(0)[:-5].tobytes())  # labels of others are none of these
    write_calibration(rec, calibration())
    with pytest.raises(FrameError, match=r"511 points are read.*store alone has, are 516.*Put its label file back"):
        precompute(options)


def read_at(rec: Path, images: tuple[int, ...], metres: tuple[float, ...], late_us: int = 0) -> None:
    lines = ["sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"]
    for number, (image, x) in enumerate(zip(images, metres, strict=True)):
        for sensor, file in (("lidar", f"points/{number:03d}.bin"), ("front", f"images/front/{image:03d}.png")):
            lines.append(f"{number:03d},{sensor},{file},{100_000 * number + late_us},{x},0,0,1,0,0,0")
    write_readings(rec, lines)


@pytest.mark.parametrize(
    ("images", "metres", "late_us", "made", "moved"),
    [
        ((0, 1, 2), (0.0, 1.0, 2.0), 0, 0, 0),
        ((0, 2, 1), (0.0, 1.0, 2.0), 0, 2, 0),
        ((0, 1, 2), (0.0, 2.0, 4.0), 0, 0, 2),
        ((0, 1, 2), (0.0, 1.0, 2.0), 7, 0, 3),
    ],
)
def test_readings_that_are_mended(tmp_path, images, metres, late_us, made, moved):
    """Other images are computed; other poses and times are written to the manifests."""
    rec, store = write_recording(tmp_path / "rec", frames=3, changed={"poses_of": "lidar"}), tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    read_at(rec, (0, 1, 2), (0.0, 1.0, 2.0))
    precompute(options)
    read_at(rec, images, metres, late_us)
    summary = precompute(options)
    assert (summary.frames, summary.recalibrated, summary.moved) == (made, made, moved)
    fresh = tmp_path / "fresh"
    precompute(options.model_copy(update={"out": str(fresh)}))
    assert same_frames(store, fresh)
    assert [row.frames for row in read_manifests(storage_of(str(store)))] == [
        row.frames for row in read_manifests(storage_of(str(fresh)))
    ]
    assert precompute(options).moved == 0


def test_a_point_file_that_is_gone_or_damaged_does_not_stop_a_second_run(tmp_path):
    rec, store = write_recording(tmp_path / "rec", frames=2), tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", workers=0)
    precompute(options)
    next((rec / "points").iterdir()).write_bytes(b"")
    assert precompute(options).frames == 0
