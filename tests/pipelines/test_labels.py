"""Labels that come late, or are mended, get into a store without CLIP, bit for bit as if they had been there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ovps
from cache_schemas import PartitionRow
from ovps.cache.info import store_info
from ovps.cache.layout import partition_key
from ovps.cache.manifest import partitions, read_manifest, read_manifests, write_manifest
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.errors import CacheError, ConfigError, DatasetError, FrameError, ProvenanceError
from pipelines.evaluate import evaluate
from pipelines.labels import add_labels
from pipelines.options import ConvertOptions, PrecomputeOptions, RepairOptions, TrainOptions
from pipelines.precompute import estimate, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.options import resolved
from pipelines.stores.convert import convert
from pipelines.stores.repair import repair
from pipelines.train import train
from pipelines.tune import tune
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.recording import rows_of, write_labels, write_recording, write_taxonomy
from tests.helpers.stores import contents, read_all, same_frames
from tests.pipelines.test_precompute import one_scene
from tests.pipelines.test_precompute_again import bring_labels, take_labels
from tests.pipelines.untrained import TINY


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set of three frames; its store, and the store of it without labels. Read only."""
    folder = tmp_path_factory.mktemp("labels")
    root = write_mini_nuscenes(folder / "world", scenes=1, frames=3, points=300)
    precompute(one_scene(root, folder / "whole"))
    take_labels(root, folder)
    precompute(one_scene(root, folder / "bare"))
    precompute(one_scene(root, folder / "dense", codec="dense"))
    bring_labels(root, folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def features(store: Path) -> dict[str, bytes]:
    """Every file of every folder of features, by its name on the disk."""
    folders = [store / partition_key(row.features.folder) for row in read_manifests(storage_of(store))]
    return {f"{f.name}/{name}": content for f in folders for name, content in contents(f).items()}


def mend(root: Path, number: int) -> None:
    """Give a frame's labels another look: every third point is a car."""
    file = Path(frames_of(resolved(one_scene(root, root)))[number].labels_path)
    labels = np.load(file)["data"]
    labels[::3] = 17_042
    np.savez_compressed(file, data=labels)


def test_frames_without_labels_are_told_before_anything_is_written(folder, tmp_path):
    for store in ("none", "bare", "whole"):
        assert estimate(one_scene(folder / "world", folder / store)).unlabelled == 0, store
    take_labels(folder / "world", tmp_path)
    for store, bare in (("none", 3), ("bare", 3), ("whole", 0)):
        assert estimate(one_scene(folder / "world", folder / store)).unlabelled == bare, store


def test_labels_that_lost_the_numbers_of_objects_are_told_by_whoever_takes_them(folder, tmp_path, capsys):
    """A tool that writes classes alone: all cars of a frame are one, which is learned and scored as such."""
    told, root, store = "no object has a number in the labels that were read: of ", folder / "world", folder / "bare"
    files = sorted(root.rglob("*_panoptic.npz"))
    good = {file: file.read_bytes() for file in files}
    assert not any(told in text for text in add_labels(store, root).warnings)
    for file in files:
        np.savez_compressed(file, data=np.load(file)["data"] // 1000 * 1000)
    assert sum(told in text for text in add_labels(store, root).warnings) == 1
    subset = Store.open(store).frames[0].subset
    train(TrainOptions(cache=store, out=tmp_path / "run", overrides=(*TINY, f"data.subsets=[{subset}]")))
    assert told in capsys.readouterr().err
    for found in (evaluate, tune):
        assert sum(text.startswith(told) for text in found(tmp_path / "run", store, subset=subset).warnings) == 1
    ovps.score(ovps.load_run(tmp_path / "run"), ovps.open_store(store), subset=subset)
    assert told in capsys.readouterr().err
    files[0].write_bytes(good[files[0]])  # one is enough: others may show nothing twice
    assert not any(told in text for text in add_labels(store, root).warnings)


def test_labels_that_come_late_need_no_clip_and_touch_no_feature(folder):
    before = features(folder / "bare")
    program = """
import sys
sys.modules["open_clip"] = None
from ovps.cli import main
main()
"""
    command = ["cache", "labels", str(folder / "bare"), "--dataroot", str(folder / "world"), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"added": 3' in done.stdout
    assert features(folder / "bare") == before
    assert same_frames(folder / "bare", folder / "whole")
    unchanged = contents(folder / "bare")
    summary = add_labels(folder / "bare", folder / "world")
    assert (summary.frames, summary.added, summary.renewed, summary.unlabelled) == (3, 0, 0, 0)
    assert contents(folder / "bare") == unchanged


def test_a_store_without_frames_has_nothing_to_label(folder):
    store = folder / "bare"
    for part in ("manifest", "partitions"):
        shutil.rmtree(store / part)
        (store / part).mkdir()
    summary = add_labels(store, folder / "world")
    assert (summary.frames, summary.added, summary.renewed, summary.unlabelled) == (0, 0, 0, 0)


def test_labels_of_another_taxonomy_than_the_stores_are_refused(tmp_path):
    rec, store = write_recording(tmp_path / "rec"), tmp_path / "zarr"
    for number in range(2):
        write_labels(rec, number, np.full(len(rows_of(number)), 20_000, np.int64))
    write_taxonomy(rec, {10: 1, 20: 2})
    precompute(
        PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", codec="cells", workers=0)
    )
    assert add_labels(store, rec).renewed == 0
    write_taxonomy(rec, {10: 1, 20: 1})
    with pytest.raises(ProvenanceError, match=r"reads labels otherwise.*zarr.*precompute into a new folder"):
        add_labels(store, rec)
    (row,) = [row for row in read_manifests(storage_of(store)) if row.labels]
    chunk = next(f for f in (store / partition_key(row.labels.folder)).rglob("c/*") if f.is_file())
    chunk.write_bytes(b"damaged")
    with pytest.raises(ProvenanceError, match="reads labels otherwise"):
        repair(RepairOptions(path=store, dataroot=rec))
    write_taxonomy(rec, {10: 1, 20: 2})
    assert repair(RepairOptions(path=store, dataroot=rec)).left == ()


@pytest.mark.parametrize("part", ["labels", "features"])
def test_a_repair_says_that_labels_are_others_than_before(tmp_path, part):
    rec, store = write_recording(tmp_path / "rec"), tmp_path / "zarr"
    write_taxonomy(rec, {10: 1, 20: 2})
    write_labels(rec, 0, np.full(len(rows_of(0)), 20_000, np.int64))
    precompute(
        PrecomputeOptions(dataset="folder", dataroot=rec, out=str(store), encoder="demo", codec="cells", workers=0)
    )

    def repaired():
        (row,) = [row for row in read_manifests(storage_of(store)) if row.labels]
        next(f for f in (store / partition_key(row.parts[part].folder)).rglob("c/*") if f.is_file()).write_bytes(b"no")
        return repair(RepairOptions(path=store, dataroot=rec))

    same = repaired()
    assert (same.labels + same.features, same.renewed, same.left, same.warnings) == (1, 0, (), ())
    write_labels(rec, 0, np.full(len(rows_of(0)), 10_000, np.int64))
    other = repaired()
    assert (other.labels + other.features, other.renewed, other.left) == (1, 1, ())
    assert len(other.warnings) == 1
    assert re.search(r"other labels now.* 1 of the partitions.*`ovps cache labels .*zarr`", other.warnings[0])
    assert add_labels(store, rec).renewed == 0


def test_precompute_again_touches_no_feature_either(folder):
    before = features(folder / "bare")
    assert precompute(one_scene(folder / "world", folder / "bare")).relabelled == 3
    assert features(folder / "bare") == before


def test_a_frame_of_which_an_image_shows_nothing_gets_labels_too(tmp_path):
    """Points see no cell of it, then as when they were lifted."""
    root = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=2, points=300)
    image = Path(frames_of(resolved(one_scene(root, root)))[0].cameras[0].image_path)
    with Image.open(image) as picture:
        size = picture.size
    Image.new("RGB", size, (90, 90, 90)).save(image)
    precompute(one_scene(root, tmp_path / "whole"))
    take_labels(root, tmp_path)
    precompute(one_scene(root, tmp_path / "bare"))
    bring_labels(root, tmp_path)
    assert add_labels(tmp_path / "bare", root).added == 2
    assert same_frames(tmp_path / "bare", tmp_path / "whole")


def test_labels_that_were_mended(folder):
    mend(folder / "world", 1)
    summary = add_labels(folder / "whole", folder / "world")
    assert (summary.added, summary.renewed) == (0, 1)
    precompute(one_scene(folder / "world", folder / "anew"))
    assert same_frames(folder / "whole", folder / "anew")
    assert any((frame.object_instance == 17_042).any() for frame in read_all(folder / "whole").values())


@pytest.mark.parametrize("codec", ["whole", "dense"])
def test_labels_that_cannot_be_read_keep_no_others_from_being_renewed(folder, capsys, codec):
    root, store = folder / "world", folder / codec
    if codec == "dense":
        for file in (store / "manifest").iterdir():
            file.unlink()
        precompute(one_scene(root, store, codec="dense"))  # with labels this time
    before = read_all(store)
    first, *others = frames_of(resolved(one_scene(root, store)))
    file = Path(first.labels_path)
    file.write_bytes(file.read_bytes()[:100])
    if codec == "whole":
        mend(root, 1)
    with pytest.raises(FrameError, match=r"or leave such frames out with --on-error skip$") as stopped:
        add_labels(store, root)
    capsys.readouterr()
    summary = add_labels(store, root, on_error="skip")
    assert (summary.added, summary.renewed, summary.unlabelled) == (0, codec == "whole", 0)
    assert [(r.token, r.kind) for r in summary.quarantined] == [(first.token, stopped.value.kind)]
    assert summary.warnings[0].startswith("labels of 1 frame cannot be read, and these keep what they had")
    assert np.array_equal(read_all(store)[first.token].label, before[first.token].label)
    lines = capsys.readouterr().err.splitlines()
    told = ["labels: 0 of 3 frames", "labels: 3 of 3 frames"]
    assert lines == [line.replace("labels", "compare") for line in told] * (codec == "dense") + told
    for frame in others:
        Path(frame.labels_path).write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"the labels of none of 3 frames can be read. The first one: .*run the same"
    ):
        add_labels(store, root, on_error="skip")


def test_a_codec_without_cells_refuses_and_its_remedy_works(folder):
    before = contents(folder / "dense")
    message = r"codec dense keeps features of voxels.*Delete .*\.parquet and run the same"
    with pytest.raises(CacheError, match=message) as told:
        add_labels(folder / "dense", folder / "world")
    lock = {".lock": b""}
    assert contents(folder / "dense") | lock == before | lock
    assert "repair" not in told.value.remedy, "it finds no damage"
    for manifest in re.findall(r"\S+\.parquet", told.value.remedy):
        Path(manifest).unlink()
    precompute(one_scene(folder / "world", folder / "dense", codec="dense"))
    assert all(frame.label is not None for frame in read_all(folder / "dense").values())


def test_what_was_converted_gets_the_labels_of_its_source(folder, tmp_path):
    root, pca, dense = Path(shutil.copytree(folder / "world", tmp_path / "world")), tmp_path / "pca", tmp_path / "dense"
    precompute(one_scene(root, pca, codec="cells-pca"))
    again = ConvertOptions(cache=pca, out=dense, codec="dense")
    convert(again)
    for frame in frames_of(resolved(one_scene(root, pca))):
        labels = np.load(frame.labels_path)["data"]
        np.savez_compressed(frame.labels_path, data=labels[::-1])
    with pytest.raises(CacheError, match=r"run `ovps cache labels` on that one first\. Then delete") as told:
        add_labels(dense, root)
    add_labels(pca, root)
    for manifest in re.findall(r"\S+\.parquet", told.value.remedy):
        Path(manifest).unlink()
    convert(again)
    assert add_labels(dense, root).renewed == 0


def test_points_that_fall_on_other_cells_are_refused(folder):
    """As on a machine that rounds otherwise: objects would be made of cells that the store does not mean."""
    storage = storage_of(folder / "bare")
    before = read_manifest(storage, partitions(storage)[0])
    row = before.model_dump()
    for camera in row["frames"][0]["cameras"]:
        camera["cell_stride"] *= 1.5
    write_manifest(storage, PartitionRow.model_validate(row), before)
    with pytest.raises(CacheError, match="points fall on other cells here"):
        add_labels(folder / "bare", folder / "world")
    assert verify_store(folder / "bare") == []


def test_labels_of_no_class_are_told_wherever_they_are_read_and_nothing_is_trained_on_them(tmp_path):
    root = write_recording(tmp_path / "drive", frames=2)
    write_taxonomy(root, {1: 1, 2: 2})
    for number in range(2):
        write_labels(root, number, np.resize([10001, 20000, 0], len(rows_of(number))))
    store = tmp_path / "zarr"
    options = PrecomputeOptions(dataset="folder", dataroot=root, out=str(store), encoder="demo", workers=0)
    (foretold,) = estimate(options).warnings
    (warning,) = precompute(options).warnings
    assert warning == foretold
    assert warning.startswith("not one point of 2 frames with labels is labelled")
    assert store_info(store).warnings == add_labels(store, root).warnings == (warning,)
    settings = (*TINY, "data.subsets=[val]")
    with pytest.raises(ConfigError, match="none of 2 frames to train on has a labelled point of a base class"):
        train(TrainOptions(cache=store, out=tmp_path / "run", split="all", overrides=settings))

    write_labels(root, 1, np.resize([1001, 2000], len(rows_of(1))))
    (warning,) = add_labels(store, root).warnings
    assert warning.startswith("1 of 2 frames with labels have not one labelled point, the first is drive.000:")
    train(TrainOptions(cache=store, out=tmp_path / "run", split="all", overrides=settings))
