"""Stage 1 as a whole, on a mini nuScenes and a small CLIP with random weights."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from cache_schemas import FrameRow
from ovps import datasets
from ovps.cache import codecs
from ovps.cache.info import store_info
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.errors import ConfigError, DatasetError, FrameError, ProvenanceError, StorageError, WeightsError
from ovps.frame import Frame
from ovps.taxonomy import load_split, load_taxonomy
from pipelines.precompute import PrecomputeOptions, estimate, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import StageTimes, compute_frame, lift_frame
from pipelines.precompute.held import Held
from pipelines.precompute.options import resolved
from pipelines.precompute.plan import limited, plan
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import tools_of
from pipelines.report import cameras_of
from tests.helpers import toy_codec
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.stores import contents, written

SCENES, FRAMES = 2, 3


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    return write_mini_nuscenes(tmp_path_factory.mktemp("world"), scenes=SCENES, frames=FRAMES, points=300)


def options_for(dataroot: Path, out: Path, /, **changes) -> PrecomputeOptions:
    values = {"grid": "cylinder:60x45x8", "encoder": "demo", "weights": "random"}
    values |= {"workers": 0, "partition_frames": 2, "codec": "cells"}
    return PrecomputeOptions.model_validate(values | {"dataroot": dataroot, "out": out} | changes)


def one_scene(root: Path, out: Path, **changes) -> PrecomputeOptions:
    """Options for a mini dataroot of one scene, which is all `train`."""
    return options_for(root, out, **({"subsets": ("train",)} | changes))


@pytest.fixture(scope="module")
def whole(dataroot, tmp_path_factory):
    """What an undisturbed run makes. Read only."""
    out = tmp_path_factory.mktemp("whole") / "zarr"
    precompute(options_for(dataroot, out))
    return out


def test_a_store_is_self_contained(dataroot, whole):
    assert verify_store(whole) == []
    store = Store.open(whole)
    frames = frames_of(resolved(options_for(dataroot, whole)))
    assert [ref.token for ref in store.frames] == [frame.token for frame in frames]
    assert {(ref.scene, ref.subset) for ref in store.frames} == {("mini-0001", "train"), ("mini-0002", "val")}
    dataset = datasets.get("nuscenes")
    for ref, frame in zip(store.frames, frames, strict=True):
        read = store.read(ref)
        cloud = dataset.points(frame)
        np.testing.assert_array_equal(read.xyz, cloud.xyz)
        np.testing.assert_array_equal(read.intensity, cloud.intensity)
        np.testing.assert_array_equal(read.label, dataset.labels(frame))
        np.testing.assert_array_equal(read.global_from_lidar, frame.global_from_lidar)
        assert set(np.unique(read.point_voxel[read.views > 0])) == set(np.flatnonzero(read.valid))
        norms = np.linalg.norm(read.clip[read.valid], axis=1)
        assert norms.min() > 0.1
        assert norms.max() < 1.01  # means of unit vectors
    assert store.vocabulary.names == tuple(c.name for c in load_taxonomy("nuscenes").classes)
    assert store.provenance.weights_random
    assert store_info(whole).codec_max_error < 2**-11


def test_cameras_are_in_the_store(dataroot, whole):
    store = Store.open(whole)
    for ref, frame in zip(store.frames, frames_of(resolved(options_for(dataroot, whole))), strict=True):
        for camera, stored, there in zip(frame.cameras, store.cameras(ref), store.cameras(ref, dataroot), strict=True):
            assert (stored.channel, stored.width, stored.height) == (camera.channel, camera.width, camera.height)
            assert stored.timestamp_us == camera.timestamp_us
            np.testing.assert_array_equal(stored.intrinsics, camera.intrinsics)
            np.testing.assert_array_equal(stored.camera_from_lidar, camera.camera_from_lidar)
            assert stored.image_path == f"samples/{camera.channel}/{Path(camera.image_path).name}"
            assert Path(there.image_path).samefile(camera.image_path)
        assert store.pictures(ref) == []


def test_thumbnails_are_enough_for_the_pictures_of_a_report(dataroot, whole, tmp_path):
    precompute(options_for(dataroot, tmp_path / "zarr", thumbnails=40))
    store, plain = Store.open(tmp_path / "zarr"), Store.open(whole)
    assert store.provenance == plain.provenance
    cameras, reason = cameras_of(store, list(store.frames), [], None)
    assert reason is None
    image_of = datasets.get("nuscenes").image
    for ref, frame in zip(store.frames, frames_of(resolved(options_for(dataroot, whole))), strict=True):
        assert np.array_equal(store.read(ref).clip, plain.read(ref).clip)
        assert [camera.channel for camera, _ in cameras[ref.token]] == [camera.channel for camera in frame.cameras]
        for (small, image), camera in zip(cameras[ref.token], frame.cameras, strict=True):
            assert image.shape == (small.height, small.width, 3) == (round(40 * camera.height / camera.width), 40, 3)
            assert np.abs(image.mean(axis=(0, 1)) - image_of(camera).mean(axis=(0, 1))).max() < 6
    _, reason = cameras_of(plain, list(plain.frames), [], None)
    assert reason is not None
    assert "--thumbnails" in reason


def test_a_lossy_codec_of_another_package_is_fitted_to_training_frames(dataroot, tmp_path, monkeypatch):
    point = EntryPoint("projected", "tests.helpers.toy_codec:CODEC", codecs.GROUP)
    monkeypatch.setattr("ovps.plugins.entry_points", lambda group: [point] if group == codecs.GROUP else [])
    fitted = []
    real = toy_codec.Projected.fit
    monkeypatch.setattr(toy_codec.Projected, "fit", lambda self, rows: fitted.append(len(rows)) or real(self, rows))
    out = tmp_path / "zarr"
    precompute(options_for(dataroot, out, codec="projected", limit=1))
    summary = precompute(options_for(dataroot, out, codec="projected"))
    assert summary.frames == SCENES * FRAMES - 2
    assert verify_store(out) == []
    store = Store.open(out)
    train = sum(store.read(ref).valid.sum() for ref in store.frames if ref.subset == "train" and ref.index == 0)
    assert fitted == [train], "once, and to frames that are trained on"
    assert store_info(out).codec_max_error > 2**-11
    with pytest.raises(ProvenanceError, match="codec 'projected' there, 'cells' now"):
        precompute(options_for(dataroot, out))


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_none(dataroot, whole, tmp_path):
    summary = precompute(options_for(dataroot, tmp_path / "zarr", workers=2))
    assert written(tmp_path / "zarr") == written(whole)
    assert (summary.frames, summary.images, summary.partitions) == (SCENES * FRAMES, SCENES * FRAMES * 6, 4)
    assert summary.bytes_written == store_info(whole).bytes
    assert set(summary.stage_seconds) == {"read", "encode", "lift", "write"}
    assert summary.weights_random
    assert summary.peak_worker_bytes > 0


def test_a_bad_frame_stops_a_dask_run_with_its_own_error(tmp_path):
    dataroot = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=5, points=100)
    frames = frames_of(resolved(one_scene(dataroot, tmp_path)))
    truncate(frames[-1].points_path)
    with pytest.raises(FrameError, match="cut off") as caught:
        precompute(one_scene(dataroot, tmp_path / "zarr", workers=1, partition_frames=1))
    assert (caught.value.frame, caught.value.path) == (frames[-1].token, frames[-1].points_path)
    assert verify_store(tmp_path / "zarr") == []
    assert len(Store.open(tmp_path / "zarr").frames) == 4, "what was committed is kept"


def truncate(path: str) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2 + 1])


def test_a_second_run_does_only_what_is_missing(dataroot, whole, tmp_path):
    store = tmp_path / "zarr"
    shutil.copytree(whole, store)
    gone = sorted((store / "manifest").iterdir())[1]
    gone.unlink()
    times = {p: p.stat().st_mtime_ns for p in (store / "partitions").rglob("*") if gone.stem not in str(p)}
    summary = precompute(options_for(dataroot, store))
    assert (summary.partitions, summary.frames, summary.frames_before) == (1, 1, SCENES * FRAMES - 1)
    assert written(store) == written(whole)
    times.pop(store / "partitions", None)
    assert all(p.stat().st_mtime_ns == time for p, time in times.items() if p.is_file())
    assert precompute(options_for(dataroot, store)).partitions == 0


def test_a_store_grows_frame_by_frame(dataroot, whole, tmp_path):
    first = precompute(options_for(dataroot, tmp_path / "zarr", limit=1))
    assert first.frames == SCENES
    then = precompute(options_for(dataroot, tmp_path / "zarr"))
    assert (then.frames, then.frames_before) == (SCENES * (FRAMES - 1), SCENES)
    grown, store = Store.open(tmp_path / "zarr"), Store.open(whole)
    assert [f.token for f in grown.frames] == [f.token for f in store.frames]
    for a, b in zip(grown.frames, store.frames, strict=True):
        assert grown.read(a).clip.tobytes() == store.read(b).clip.tobytes()
    assert verify_store(tmp_path / "zarr") == []


KILLED_AT = {
    "while arrays are written": ("zarr_files", "WrittenFiles.write_shard", 30),
    "before the commit": ("writer", "write_manifest", 2),
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_in_the_middle_then_resumed(dataroot, whole, tmp_path, moment):
    module, function, call = KILLED_AT[moment]
    code = f"""
import os, signal, sys
from pathlib import Path
import ovps.cache.{module} as module
from tests.pipelines.test_precompute import options_for
from pipelines.precompute import precompute
real, calls = module.{function}, 0
def dying(*args):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
module.{function} = dying
precompute(options_for(Path(sys.argv[1]), Path(sys.argv[2])))
"""
    out = tmp_path / "zarr"
    command = [sys.executable, "-c", code, str(dataroot), str(out)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    lost = verify_store(out)  # a folder that is complete is told of: its manifest may have been lost
    assert [problem.kind for problem in lost] == (["missing"] if moment == "before the commit" else [])
    assert len(Store.open(out).frames) == 2
    assert len(list((out / "partitions").iterdir())) > 2, "the half-made partition lies there"
    precompute(options_for(dataroot, out))
    assert verify_store(out) == []
    assert written(out) == written(whole)


def test_a_full_disk(dataroot, tmp_path):
    code = """
import resource, sys
from pathlib import Path
from tests.pipelines.test_precompute import options_for
from ovps.errors import OvpsError
from pipelines.precompute import precompute
options = options_for(Path(sys.argv[1]), Path(sys.argv[2]))
precompute(options.model_copy(update={"limit": 1}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    precompute(options)
except OvpsError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    command = [sys.executable, "-c", code, str(dataroot), str(tmp_path / "zarr")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == StorageError.exit_code, done.stderr
    assert "File too large" in done.stdout
    assert str(tmp_path / "zarr") in done.stdout
    assert verify_store(tmp_path / "zarr") == []
    assert len(Store.open(tmp_path / "zarr").frames) == SCENES


@pytest.mark.parametrize(
    "change",
    [
        *({"grid": "cartesian:2"}, {"codec": "dense"}, {"occlusion": False}, {"encoder": "RN50"}, {"upscale": 2.0}),
        {"cameras": ("CAM_FRONT",)},
    ],
)
def test_other_settings_do_not_mix_into_a_store(dataroot, whole, tmp_path, change):
    store = tmp_path / "zarr"
    shutil.copytree(whole, store)
    with pytest.raises(ProvenanceError) as foretold:
        estimate(options_for(dataroot, store, **change))
    with pytest.raises(ProvenanceError) as caught:
        precompute(options_for(dataroot, store, **change))
    (name,) = change
    assert name in str(foretold.value)
    if name != "encoder":  # of which also the weights differ
        assert str(foretold.value) == str(caught.value)
    assert name in str(caught.value)
    if name == "encoder":
        assert "'demo' there, 'RN50' now" in str(caught.value)
    assert contents(store) == contents(whole)


def test_codecs_agree(dataroot, whole, tmp_path):
    precompute(options_for(dataroot, tmp_path / "zarr", codec="dense"))
    cells, dense = Store.open(whole), Store.open(tmp_path / "zarr")
    for a, b in zip(cells.frames, dense.frames, strict=True):
        a, b = cells.read(a), dense.read(b)
        np.testing.assert_allclose(a.clip, b.clip, atol=2**-11)
        # with `cells` objects are made of the cells as they are stored, so that late labels give the same bits
        np.testing.assert_allclose(a.object_embedding, b.object_embedding, atol=2**-11)


BAD_FILES = [(what, fault) for what in ("points", "labels", "image") for fault in ("missing", "truncated")]
BAD_FILES.remove(("labels", "missing"))  # the devkit counts the label files itself when it loads the tables


@pytest.mark.parametrize(("what", "fault"), BAD_FILES)
def test_bad_files_stop_or_are_quarantined(tmp_path, what, fault):
    dataroot = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=3, points=100)
    bad = frames_of(resolved(one_scene(dataroot, tmp_path)))[1]
    path = {"points": bad.points_path, "labels": bad.labels_path, "image": bad.cameras[2].image_path}[what]
    Path(path).unlink() if fault == "missing" else truncate(path)
    store = tmp_path / "zarr"

    with pytest.raises(FrameError) as caught:
        precompute(one_scene(dataroot, store, partition_frames=1))
    assert (caught.value.path, caught.value.frame) == (path, bad.token)
    assert "--on-error skip" in caught.value.remedy
    assert verify_store(store) == []
    assert len(Store.open(store).frames) == 1, "what was committed is kept"

    # the partition of the bad frame alone is committed too, or it would be tried again for ever
    summary = precompute(one_scene(dataroot, store, partition_frames=1, on_error="skip"))
    assert (summary.frames, summary.frames_before) == (1, 1)
    assert [(s.token, s.kind) for s in summary.quarantined] == [(bad.token, "frame")]
    assert path in summary.quarantined[0].reason
    assert verify_store(store) == []
    assert [s.token for s in store_info(store).quarantined] == [bad.token]

    before = contents(store)
    again = precompute(one_scene(dataroot, store, partition_frames=1, on_error="skip"))
    assert (again.partitions, again.frames_before, len(again.quarantined)) == (0, 2, 1), "still told of"
    dry = estimate(one_scene(dataroot, store, partition_frames=1, on_error="skip"))
    assert (dry.frames, dry.frames_before, dry.bytes) == (1, 2, 0)
    assert contents(store) == before
    with pytest.raises(FrameError) as caught:
        precompute(one_scene(dataroot, store, partition_frames=1))
    assert caught.value.path == path


def test_labels_decide_nothing_but_labels_and_objects(tmp_path):
    """Novel labels permuted or deleted: every other byte of the store is the same, base objects included."""
    roots = [write_mini_nuscenes(tmp_path / name, scenes=1, frames=2) for name in ("as is", "permuted", "deleted")]
    taxonomy, split = load_taxonomy("nuscenes"), load_split("b12n4")
    novel = split.novel_ids(taxonomy)
    for root, change in zip(roots[1:], (np.random.default_rng(0).permutation, np.zeros_like), strict=True):
        for file in sorted((root / "panoptic").rglob("*.npz")):
            raw = np.load(file)["data"]
            is_novel = np.isin(taxonomy.decode(raw.astype(np.uint32))[0], novel)
            assert is_novel.any()
            raw[is_novel] = change(raw[is_novel])
            np.savez_compressed(file, data=raw)
    stores = []
    for root in roots:
        precompute(one_scene(root, root / "zarr"))
        stores.append(Store.open(root / "zarr"))
    for refs in zip(*(store.frames for store in stores), strict=True):
        first, *others = (store.read(ref) for store, ref in zip(stores, refs, strict=True))
        for other in others:
            assert (first.label != other.label).any()
            for name in ("xyz", "intensity", "point_voxel", "views", "coords", "valid", "clip"):
                assert getattr(first, name).tobytes() == getattr(other, name).tobytes(), name
            a, b = (~np.isin(frame.object_class, novel) for frame in (first, other))
            for name in ("class", "instance", "points", "seen_points", "embedding"):
                one, two = getattr(first, f"object_{name}")[a], getattr(other, f"object_{name}")[b]
                assert one.tobytes() == two.tobytes(), name


def test_frames_without_labels(tmp_path):
    dataroot = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=1, points=100, labelled=False)
    precompute(one_scene(dataroot, tmp_path / "zarr"))
    store = Store.open(tmp_path / "zarr")
    frame = store.read(store.frames[0])
    assert frame.label is None
    assert len(frame.object_class) == 0
    assert frame.valid.any()
    assert verify_store(tmp_path / "zarr") == []


def test_dry_run_counts_and_writes_nothing(dataroot, whole, tmp_path):
    result = estimate(options_for(dataroot, tmp_path / "new" / "zarr", workers=3))
    assert (result.frames, result.images, result.partitions) == (SCENES * FRAMES, SCENES * FRAMES * 6, 4)
    assert result.hours > 0
    assert not (tmp_path / "new").exists()
    stored = store_info(whole).bytes_by_array
    small = sum(size for name, size in stored.items() if not name.startswith(("offsets", "metadata")))
    assert 0.3 * small < result.bytes < 3 * small

    before = contents(whole)
    assert estimate(options_for(dataroot, whole)).frames == 0
    assert contents(whole) == before


def test_dry_run_needs_no_weights(dataroot, tmp_path):
    dry = estimate(options_for(dataroot, tmp_path / "zarr", weights="no such file.safetensors"))
    assert dry.frames > 0
    assert dry.warnings[0].startswith("without --dry-run this is refused: no such file of weights (file no such file.")
    with pytest.raises(WeightsError, match="--encoder ViT-B-16-quickgelu"):  # but says what their tag tells
        estimate(options_for(dataroot, tmp_path / "zarr", encoder="ViT-B-16", weights="openai"))


def test_defaults_are_a_whole_command(monkeypatch, dataroot):
    monkeypatch.setenv("OVPS_NUSCENES", str(dataroot))
    options = resolved(PrecomputeOptions())
    assert (options.dataroot, options.version) == (dataroot, "v1.0-trainval")
    assert options.out == str(Path("zarr").absolute())
    assert options.workers >= 1
    assert options.grid == "cylinder:480x360x32:rho=0..50,z=-5..3"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"version": "v9"}, DatasetError, "v9"),
        ({"dataset": "waymo"}, ConfigError, "waymo"),
        ({"dataroot": Path("nowhere")}, DatasetError, "nowhere"),
        ({"encoder": "RN5000"}, ConfigError, "RN5000"),
        ({"weights": "no/such.safetensors"}, WeightsError, r"no/such\.safetensors"),
        ({"grid": "hexagons"}, ConfigError, "hexagons"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_written(dataroot, tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        precompute(options_for(dataroot, tmp_path / "zarr", **change))
    assert not (tmp_path / "zarr").exists()


def test_other_weights_at_a_worker_are_refused(dataroot, tmp_path):
    options = resolved(options_for(dataroot, tmp_path / "zarr"))
    job, _ = prepare(options, frames_of(options))
    with pytest.raises(WeightsError, match="Give all workers the same file"):
        tools_of(replace(job, weights_sha256="0" * 64))


def test_a_scheduler_of_ones_own(dataroot, whole, tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        precompute(options_for(dataroot, tmp_path / "zarr", scheduler=cluster.scheduler_address))
    assert written(tmp_path / "zarr") == written(whole)


def test_no_scheduler(dataroot, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.precompute.executor.CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match="no dask scheduler at tcp"):
        precompute(options_for(dataroot, tmp_path / "zarr", scheduler="tcp://127.0.0.1:9"))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(1, 7),
)
def test_plan_covers_exactly_what_is_missing(drives, partition_frames):
    base = _a_frame()
    frames = [
        replace(base, scene=f"scene {scene}", index=i, token=str(i), subset="train")
        for i, (scene, _) in enumerate(sorted(drives))
    ]
    done = {frame.token for frame, (_, done) in zip(frames, sorted(drives), strict=True) if done}
    tasks = plan(frames, {token: Held("p", "s", A_ROW) for token in done}, partition_frames)
    assert [f.token for t in tasks for f in t.frames] == [f.token for f in frames if f.token not in done]
    assert len({t.name for t in tasks}) == len(tasks)
    for task in tasks:
        assert 1 <= len(task.frames) <= partition_frames
        assert {f.scene for f in task.frames} == {task.scene}
        indices = [f.index for f in task.frames]
        assert indices == list(range(indices[0], indices[0] + len(indices))), "consecutive"


A_ROW = FrameRow(
    token="t",
    subset="train",
    index=0,
    timestamp_us=0,
    points=1,
    voxels=1,
    valid_voxels=1,
    objects=0,
    labelled=True,
    global_from_lidar=(0.0,) * 16,
    cameras=(),
    beyond_range=0,
    codec_max_error=0.0,
    codec_mean_error=0.0,
)


def _a_frame():
    return Frame("nuscenes", "v", "train", "scene", "token", 0, 0, "points", None, (), np.eye(4))


def test_scene_names_cannot_leave_the_store_nor_each_other():
    scenes = ["../../etc", "/abs", "a b", "a/b", "A B", "a_b", "ä", "..", ".", "-x", "", "x" * 300, "scene-0061"]
    frames = [replace(_a_frame(), scene=scene, token=str(i)) for i, scene in enumerate(scenes)]
    names = [task.name for task in plan(frames, {}, 40)]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,90}", name) for name in names)
    assert names[-1].startswith("scene-0061.000000.")


def test_limit_counts_each_subset():
    frames = [replace(_a_frame(), subset=s, token=str(i)) for i, s in enumerate(["train"] * 3 + ["val"] * 3)]
    assert [f.token for f in limited(frames, 2)] == ["0", "1", "3", "4"]
    assert len(limited(frames, None)) == 6


def test_a_real_frame(real_nuscenes, tmp_path):
    """The whole way on a real key frame at 1600x900; the small encoder keeps it quick."""
    options = options_for(
        real_nuscenes, tmp_path / "zarr", grid="cylinder", version="v1.0-mini", subsets=("mini_train",)
    )
    summary = precompute(options)
    assert (summary.frames, summary.images) == (1, 6)
    assert verify_store(tmp_path / "zarr") == []
    store = Store.open(tmp_path / "zarr")
    frame = store.read(store.frames[0])
    assert len(frame.xyz) == 34_688
    assert 0.4 < (frame.views > 0).mean() < 0.6  # 58.2 % are inside an image, some of them hidden
    assert frame.valid.sum() > 8_000


def test_the_smaller_codec_is_chosen_once_and_then_kept(dataroot, tmp_path):
    for out in (tmp_path / "free", tmp_path / "made"):
        if out.name == "made":
            precompute(options_for(dataroot, out, limit=1))
        options = resolved(options_for(dataroot, out, codec=None))
        frames = frames_of(options)
        job, provenance = prepare(options, frames)
        tools = tools_of(job)
        lifted = lift_frame(frames[0], tools.dataset.points(frames[0]), tools)
        sizes = {n: codecs.get(n).expected_bytes(lifted.weights, tools.encoder.dim) for n in ("dense", "cells")}
        assert provenance.codec == job.codec == ("cells" if out.name == "made" else min(sizes, key=sizes.get))


def test_expected_bytes_are_those_of_the_arrays(dataroot, tmp_path):
    options = resolved(options_for(dataroot, tmp_path / "zarr"))
    frames = frames_of(options)
    for codec in ("cells", "dense"):
        tools = tools_of(prepare(options.model_copy(update={"codec": codec}), frames)[0])
        arrays = compute_frame(frames[0], tools, StageTimes()).arrays
        weights = lift_frame(frames[0], tools.dataset.points(frames[0]), tools).weights
        stored = sum(array.nbytes for name, array in arrays.items() if name.startswith("clip/"))
        assert stored == codecs.get(codec).expected_bytes(weights, tools.encoder.dim)


def test_stage_times_are_of_all_stages(dataroot, tmp_path):
    options = resolved(options_for(dataroot, tmp_path / "zarr"))
    frames = frames_of(options)
    times = StageTimes()
    compute_frame(frames[0], tools_of(prepare(options, frames)[0]), times)
    assert set(times.seconds) == {"read", "encode", "lift"}
