"""Stores made of stores: converted, cut, merged, repaired, as plain arrays, and of features made elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ovps
from cache_schemas import SkippedRow
from ovps import cli, datasets
from ovps.cache.info import store_info
from ovps.cache.layout import partition_key
from ovps.cache.manifest import WAITING, manifest_key, partitions, read_manifest, read_manifests
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import stored_frames, write_labels, write_partition
from ovps.errors import CacheError, ConfigError, CorruptStoreError, DatasetError, FrameError, ProvenanceError
from ovps.inference.session import labelled_frames_of
from pipelines.labels import add_labels
from pipelines.options import (
    ArraysOptions,
    ConvertOptions,
    ImportOptions,
    MergeOptions,
    RepairOptions,
    SubsetOptions,
)
from pipelines.precompute import precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.estimate import estimate
from pipelines.precompute.options import resolved
from pipelines.stores import derived, plain
from pipelines.stores import repair as repair_module
from pipelines.stores.brought import import_features
from pipelines.stores.convert import convert
from pipelines.stores.missing import missing_frames
from pipelines.stores.plain import arrays_of, export_arrays
from pipelines.stores.repair import repair
from pipelines.stores.select import merge, subset
from tests.helpers import recording
from tests.helpers.mini_nuscenes import VERSION, with_other_tokens, write_mini_nuscenes
from tests.helpers.stores import contents, read_all, same_frames, written
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.test_precompute import options_for
from tests.pipelines.test_precompute_again import bring_labels, take_labels

LOSSY = {"cells-pca": 0.998, "cells-int8": 0.999, "cells-pq": 0.95}  # and the least mean cosine of random weights
GRID = "cylinder:60x45x8"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_mini_nuscenes(tmp_path_factory.mktemp("stores") / "world", scenes=2, frames=3, points=300)


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    """Two scenes of three frames, train and val, two frames to a partition. Read only."""
    out = tmp_path_factory.mktemp("whole") / "zarr"
    precompute(options_for(world, out, thumbnails=40))
    return out


@pytest.fixture(scope="module")
def small(whole, tmp_path_factory) -> Path:
    """The same in a codec that has a state. Read only."""
    out = tmp_path_factory.mktemp("small") / "zarr"
    convert(ConvertOptions(cache=whole, out=out, codec="cells-pca"))
    return out


def cosines(one: Path, other: Path) -> np.ndarray:
    """Of every voxel feature of one store and the same in another."""
    a, b = read_all(one), read_all(other)
    pairs = [(a[token].clip[a[token].valid], b[token].clip[a[token].valid]) for token in a]
    return np.concatenate([(x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1) for x, y in pairs])


def files(store: Path, part: str) -> dict[tuple[str, str], str]:
    """Hash of every file of a part, by partition and name."""
    return {
        (row.partition, file.path): file.sha256
        for row in read_manifests(storage_of(store))
        for file in row.parts[part].files
    }


@pytest.mark.parametrize("codec", LOSSY)
def test_a_converted_store_is_the_one_that_precompute_would_have_made(world, whole, tmp_path, codec):
    """Of the state, the codes, the labels and the objects there are the same bytes; points stay as they were."""
    summary = convert(ConvertOptions(cache=whole, out=tmp_path / "b", codec=codec))
    assert (summary.frames, summary.partitions, summary.frames_before) == (6, 4, 0)
    assert verify_store(tmp_path / "b") == []
    precompute(options_for(world, tmp_path / "c", codec=codec, thumbnails=40))
    one, other = Store.open(tmp_path / "b"), Store.open(tmp_path / "c")
    assert one.info == other.info
    assert files(tmp_path / "b", "features") == files(tmp_path / "c", "features")
    assert files(tmp_path / "b", "labels") == files(tmp_path / "c", "labels")
    assert cosines(whole, tmp_path / "b").mean() > LOSSY[codec]
    before, after = read_all(whole), read_all(tmp_path / "b")
    for token, frame in before.items():
        for name in ("xyz", "intensity", "label", "views", "coords", "valid", "point_voxel", "object_points"):
            assert np.array_equal(getattr(frame, name), getattr(after[token], name)), name
    for ref, row in zip(one.frames, (f for r in read_manifests(one.storage) for f in r.frames), strict=True):
        worst = np.abs(before[row.token].clip - after[row.token].clip).max()
        assert worst <= row.codec_max_error, ref


def test_there_and_back(whole, small, tmp_path):
    convert(ConvertOptions(cache=small, out=tmp_path / "back", codec="cells"))
    assert verify_store(tmp_path / "back") == []
    assert cosines(whole, tmp_path / "back").min() > 0.995
    assert cosines(small, tmp_path / "back").min() > 0.99999
    convert(ConvertOptions(cache=tmp_path / "back", out=tmp_path / "again", codec="cells-pca", like=small))
    assert files(tmp_path / "again", "features") == files(small, "features"), "what is rounded is not rounded again"


def test_into_its_own_codec_and_into_dense(whole, tmp_path):
    convert(ConvertOptions(cache=whole, out=tmp_path / "same", codec="cells"))
    assert written(tmp_path / "same") == written(whole)
    convert(ConvertOptions(cache=whole, out=tmp_path / "dense", codec="dense"))
    assert cosines(whole, tmp_path / "dense").min() > 0.99999
    with pytest.raises(CacheError, match=r"codec dense keeps features of voxels.*precompute --codec cells-pca"):
        convert(ConvertOptions(cache=tmp_path / "dense", out=tmp_path / "no", codec="cells-pca"))
    assert not (tmp_path / "no").exists()


def test_a_codec_is_fitted_to_training_frames_alone(whole, tmp_path):
    """Without val the state is the same; fitted to val it is another."""
    subset(SubsetOptions(cache=whole, out=tmp_path / "train", subsets=("train",)))
    convert(ConvertOptions(cache=whole, out=tmp_path / "a", codec="cells-pca"))
    convert(ConvertOptions(cache=tmp_path / "train", out=tmp_path / "b", codec="cells-pca"))
    convert(ConvertOptions(cache=whole, out=tmp_path / "c", codec="cells-pca", split="val"))
    state = [(tmp_path / name / "codec.safetensors").read_bytes() for name in "abc"]
    assert state[0] == state[1] != state[2]
    with pytest.raises(ConfigError, match=r"no split 'test' in the store.*train, val"):
        convert(ConvertOptions(cache=whole, out=tmp_path / "d", codec="cells-pca", split="test"))


@pytest.mark.parametrize("command", ["convert", "subset", "merge"])
def test_killed_in_the_middle_it_goes_on(whole, tmp_path, monkeypatch, command):
    def run(out: Path) -> derived.DerivedSummary:
        if command == "convert":
            return convert(ConvertOptions(cache=whole, out=out, codec="cells-pca"))
        if command == "subset":
            return subset(SubsetOptions(cache=whole, out=out, limit=2))
        halves = [tmp_path / "train", tmp_path / "val"]
        for half in halves:
            subset(SubsetOptions(cache=whole, out=half, subsets=(half.name,)))
        return merge(MergeOptions(caches=tuple(map(str, halves)), out=out))

    undisturbed = run(tmp_path / "undisturbed")
    real, count = derived.write_partition, 0

    def dies(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(derived, "write_partition", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out")
    monkeypatch.setattr(derived, "write_partition", real)
    again = run(tmp_path / "out")
    assert 0 < again.frames_before < again.frames == undisturbed.frames
    assert written(tmp_path / "out") == written(tmp_path / "undisturbed")
    assert run(tmp_path / "out").frames_before == again.frames


def test_nothing_is_written_among_other_files(whole, world, tmp_path):
    before = contents(whole)
    (tmp_path / "link").symlink_to(whole)
    for out, message in (
        (whole, "onto itself"),
        (tmp_path / "link", "onto itself"),
        (whole / ".." / whole.name, "onto itself"),
        (world, "data set"),
        (whole / "inside", "among the files of the store"),
    ):
        with pytest.raises(ConfigError, match=message):
            subset(SubsetOptions(cache=whole, out=out))
    assert contents(whole) | {".lock": b""} == before | {".lock": b""}
    subset(SubsetOptions(cache=whole, out=tmp_path / "out", limit=1))
    with pytest.raises(CacheError, match=r"holds other frames.*Give a new folder"):
        subset(SubsetOptions(cache=whole, out=tmp_path / "out", limit=2))
    with pytest.raises(ProvenanceError, match="codec 'cells' there, 'cells-pca' now"):
        convert(ConvertOptions(cache=whole, out=tmp_path / "out", codec="cells-pca"))


def test_a_subset_has_what_was_asked_for(whole, tmp_path):
    store = Store.open(whole)
    scenes = sorted({ref.scene for ref in store.frames})
    asked: dict[str, tuple[dict, Callable]] = {
        "split": ({"subsets": ("val",)}, lambda ref: ref.subset == "val"),
        "scene": ({"scenes": (scenes[0],)}, lambda ref: ref.scene == scenes[0]),
        "limit": ({"limit": 1}, lambda ref: ref.index == 0),
        "only": ({"only": (store.frames[1].token,)}, lambda ref: ref.token == store.frames[1].token),
    }
    every = read_all(whole)
    for name, (options, wanted) in asked.items():
        subset(SubsetOptions(cache=whole, out=tmp_path / name, **options))
        assert verify_store(tmp_path / name) == []
        found = read_all(tmp_path / name)
        assert list(found) == [ref.token for ref in store.frames if wanted(ref)]
        for token, frame in found.items():
            assert all(np.array_equal(value, vars(every[token])[key]) for key, value in vars(frame).items())
    with pytest.raises(ConfigError, match=r"no scene 'scene-9' in the store.*There are 2"):
        subset(SubsetOptions(cache=whole, out=tmp_path / "none", scenes=("scene-9",)))
    with pytest.raises(ConfigError, match="no frame fits"):
        subset(SubsetOptions(cache=whole, out=tmp_path / "none", scenes=(scenes[0],), subsets=("val",)))


def test_precompute_completes_a_subset(world, whole, tmp_path):
    """Frames from the middle of a partition: what is missing before and after them comes back."""
    middle = [ref.token for ref in Store.open(whole).frames if ref.index == 1]
    subset(SubsetOptions(cache=whole, out=tmp_path / "out", only=tuple(middle)))
    assert precompute(options_for(world, tmp_path / "out", thumbnails=40)).frames == 4
    assert same_frames(tmp_path / "out", whole)


def test_parts_of_a_store_merge_into_it(whole, small, tmp_path, capsys):
    tokens = [ref.token for ref in Store.open(whole).frames]
    parts = [tmp_path / name for name in "abc"]
    for part, only in zip(parts, (tokens[:2], tokens[1:4], tokens[4:]), strict=True):
        subset(SubsetOptions(cache=whole, out=part, only=tuple(only)))
    summary = merge(MergeOptions(caches=tuple(map(str, parts)), out=tmp_path / "all"))
    assert summary.frames == 6
    assert same_frames(tmp_path / "all", whole)
    assert "compare: 1 of 1 frames" in capsys.readouterr().err, "of a and b"
    merge(MergeOptions(caches=tuple(map(str, parts)), out=tmp_path / "all"))
    assert "compare: 5 of 5 partitions" in capsys.readouterr().err, "of what is there"
    with pytest.raises(ProvenanceError, match=r"codec 'cells' there, 'cells-pca' here.*Leave it out"):
        merge(MergeOptions(caches=(str(whole), str(small)), out=tmp_path / "mixed"))
    with pytest.raises(ConfigError, match="two or more"):
        merge(MergeOptions(caches=(str(whole),), out=tmp_path / "one"))


def test_stores_of_a_fitted_codec_merge_if_one_is_made_like_the_other(whole, tmp_path):
    for split in ("train", "val"):
        subset(SubsetOptions(cache=whole, out=tmp_path / split, subsets=(split,)))
    convert(ConvertOptions(cache=tmp_path / "train", out=tmp_path / "a", codec="cells-pca"))
    convert(ConvertOptions(cache=tmp_path / "val", out=tmp_path / "b", codec="cells-pca"))
    convert(ConvertOptions(cache=tmp_path / "val", out=tmp_path / "c", codec="cells-pca", like=tmp_path / "a"))
    with pytest.raises(ProvenanceError, match="codec_state_sha256"):
        merge(MergeOptions(caches=(str(tmp_path / "a"), str(tmp_path / "b")), out=tmp_path / "no"))
    merge(MergeOptions(caches=(str(tmp_path / "a"), str(tmp_path / "c")), out=tmp_path / "all"))
    assert verify_store(tmp_path / "all") == []
    with pytest.raises(ConfigError, match="has codec 'cells-pca', not 'cells-int8'"):
        convert(ConvertOptions(cache=whole, out=tmp_path / "d", codec="cells-int8", like=tmp_path / "a"))


def test_what_a_codec_has_lost_is_known_of_an_exact_store_made_of_it(world, whole, small, tmp_path):
    """Converted back it loses nothing more; it holds other features than a store of what CLIP gave."""
    back = tmp_path / "back"
    convert(ConvertOptions(cache=small, out=back, codec="cells"))
    (lost,) = Store.open(back).provenance.converted_from
    assert lost == f"cells-pca {Store.open(small).provenance.codec_state_sha256}"
    assert store_info(back).codec_lossless is False
    assert store_info(whole).codec_lossless is True
    with pytest.raises(ProvenanceError, match=r"converted_from .*lost does not come back"):
        merge(MergeOptions(caches=(str(whole), str(back)), out=tmp_path / "mixed"))
    with pytest.raises(ProvenanceError, match=r"converted_from .*lost does not come back"):
        precompute(options_for(world, back, thumbnails=40))
    subset(SubsetOptions(cache=back, out=tmp_path / "part", limit=1))
    convert(ConvertOptions(cache=tmp_path / "part", out=tmp_path / "dense", codec="dense"))
    assert Store.open(tmp_path / "dense").provenance.converted_from == (lost,)
    convert(ConvertOptions(cache=whole, out=tmp_path / "exact", codec="dense"))
    assert Store.open(tmp_path / "exact").provenance.converted_from == ()
    for store, words in {
        "dense": "store that this one was made of, of codec cells-pca$",
        "exact": "store of cells",
    }.items():
        with pytest.raises(CacheError, match=f"Convert the {words}"):
            convert(ConvertOptions(cache=tmp_path / store, out=tmp_path / "no", codec="cells"))


def test_a_fitted_store_made_like_another_keeps_its_features(world, whole, tmp_path):
    """The codes of one fit mean something else in another: they are made anew."""
    convert(ConvertOptions(cache=whole, out=tmp_path / "a", codec="cells-pca"))
    subset(SubsetOptions(cache=whole, out=tmp_path / "val", subsets=("val",)))
    convert(ConvertOptions(cache=tmp_path / "val", out=tmp_path / "b", codec="cells-pca"))
    convert(ConvertOptions(cache=tmp_path / "b", out=tmp_path / "c", codec="cells-pca", like=tmp_path / "a"))
    a, b, c = (Store.open(tmp_path / name).provenance.codec_state_sha256 for name in "abc")
    assert a == c != b
    subset(SubsetOptions(cache=whole, out=tmp_path / "again", subsets=("val",)))
    assert cosines(tmp_path / "c", tmp_path / "again").mean() > 0.98


def test_frames_that_are_alike_bit_for_bit_merge_however_they_came_to_be(world, whole, tmp_path):
    """What convert measures of the codec has the rounding of its source in it; the codes are those of precompute."""
    made, converted = tmp_path / "made", tmp_path / "converted"
    precompute(options_for(world, made, thumbnails=40, codec="cells-pca"))
    convert(ConvertOptions(cache=whole, out=converted, codec="cells-pca", like=made))
    of_made, of_converted = (
        [f.codec_mean_error for row in read_manifests(storage_of(p)) for f in row.frames] for p in (made, converted)
    )
    assert of_made != of_converted
    merge(MergeOptions(caches=(str(made), str(converted)), out=tmp_path / "all"))
    assert same_frames(tmp_path / "all", made)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bad", [0, 1])
def test_what_one_store_has_quarantined_another_brings(whole, tmp_path, bad, first):
    """A partition is named after the first frame that it was meant to have, which may not be in it."""
    world, lacking = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=3, points=300), tmp_path / "lacking"
    ref = Store.open(whole).frames[bad]
    image = next(
        Path(camera.image_path)
        for frame in datasets.get("nuscenes").frames(world, VERSION, ("train", "val"))
        if frame.token == ref.token
        for camera in frame.cameras
    )
    image.write_bytes(image.read_bytes()[:100])
    precompute(options_for(world, lacking, thumbnails=40, on_error="skip"))
    assert len(Store.open(lacking).frames) == 5
    caches = (str(lacking), str(whole)) if first else (str(whole), str(lacking))
    summary = merge(MergeOptions(caches=caches, out=tmp_path / "all"))
    assert summary.frames == 6
    assert verify_store(tmp_path / "all") == []
    assert same_frames(tmp_path / "all", whole)
    assert store_info(tmp_path / "all").quarantined == ()
    again = merge(MergeOptions(caches=caches, out=tmp_path / "all"))
    assert (again.frames, again.frames_before) == (6, 6)
    last = Store.open(whole).frames[2]  # the partition of `lacking` by itself, and what was quarantined in it
    only = tuple(sorted({ref.token, *(r.token for r in Store.open(whole).frames[:2]), last.token}))
    assert subset(SubsetOptions(cache=tmp_path / "all", only=only, out=tmp_path / "some")).frames == len(only)
    assert verify_store(tmp_path / "some") == []
    assert {r.token for r in Store.open(tmp_path / "some").frames} == set(only)


def test_quarantined_frames_that_are_mended_join_the_merged_store(whole, tmp_path):
    world, lacking = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=3, points=300), tmp_path / "lacking"
    image = Path(next(iter(datasets.get("nuscenes").frames(world, VERSION, ("train",)))).cameras[0].image_path)
    content = image.read_bytes()
    image.write_bytes(content[:100])
    precompute(options_for(world, lacking, thumbnails=40, on_error="skip"))
    subset(SubsetOptions(cache=whole, out=tmp_path / "val", subsets=("val",)))
    options = MergeOptions(caches=(str(lacking), str(tmp_path / "val")), out=tmp_path / "all")
    assert merge(options).frames == 5
    assert len(store_info(tmp_path / "all").quarantined) == 1
    image.write_bytes(content)
    precompute(options_for(world, lacking, thumbnails=40, on_error="skip"))
    assert merge(options).frames == 6
    assert same_frames(tmp_path / "all", whole)
    assert store_info(tmp_path / "all").quarantined == ()


@pytest.mark.parametrize("first", [True, False])
def test_stores_with_and_without_labels_say_which_lacks_them(whole, tmp_path, first):
    bare_world, bare = write_mini_nuscenes(tmp_path / "w", scenes=2, frames=3, points=300, labelled=False), "bare"
    precompute(options_for(bare_world, tmp_path / bare, thumbnails=40))
    caches = (str(tmp_path / bare), str(whole)) if first else (str(whole), str(tmp_path / bare))
    with pytest.raises(CacheError, match="different versions of frames") as error:
        merge(MergeOptions(caches=caches, out=tmp_path / "out"))
    add = f"ovps cache labels {tmp_path / bare} --dataroot FOLDER-OF-THE-DATA-SET"
    assert error.value.remedy.startswith(f"Frames of {tmp_path / bare} have no labels there")
    assert add in error.value.remedy


def test_two_versions_of_a_frame_do_not_merge(world, whole, tmp_path):
    precompute(options_for(world, tmp_path / "other", limit=1, thumbnails=20))
    with pytest.raises(CacheError, match=r"different versions of frames.*Leave this store out"):
        merge(MergeOptions(caches=(str(whole), str(tmp_path / "other")), out=tmp_path / "out"))


def relabel(store: Path) -> None:
    """Exchange two classes in the labels of the first partition: as many points and objects as there were."""
    storage = storage_of(store)
    row = next(read_manifests(storage))
    frames = stored_frames(storage, row, {frame.token for frame in row.frames})
    for frame in frames:
        label = frame.arrays["points/label"]
        frame.arrays["points/label"] = np.select([label == 24000, label == 26000], [26000, 24000], label).astype(
            np.uint32
        )
    write_labels(storage, row, frames, row.skipped)


def labels(store: Path) -> dict[str, list[int]]:
    return {token: frame.label.tolist() for token, frame in read_all(store).items()}


def some_of(source: Path, out: Path) -> derived.DerivedSummary:
    return subset(SubsetOptions(cache=source, out=out, only=("synthetic-0000-001",)))


@pytest.mark.parametrize(
    "run",
    [
        some_of,
        lambda source, out: convert(ConvertOptions(cache=source, out=out, codec="dense")),
        lambda source, out: merge(MergeOptions(caches=(f"{source}-val", str(source)), out=out)),
    ],
    ids=["subset", "convert", "merge"],
)
def test_labels_that_are_others_in_the_source_now_are_told_and_brought(tmp_path, run):
    source, out = write_synthetic_store(tmp_path / "source", frames=2, subsets=("train",)), tmp_path / "out"
    write_synthetic_store(tmp_path / "source-val", frames=2)
    run(source, out)
    for store in (source, tmp_path / "source-val"):
        relabel(store)
    before = contents(out)
    with pytest.raises(
        CacheError, match=r"has other features, labels, poses or cameras of \d frames? than.*Give a new"
    ) as told:
        run(source, out)
    assert contents(out) == before
    (manifest,) = told_to_delete(str(told.value.remedy))
    manifest.unlink()
    run(source, out)
    for token, label in labels(out).items():
        assert token not in labels(source) or label == labels(source)[token]
    assert run(source, out).frames_before == len(labels(out))


def test_features_that_are_others_in_the_source_now_are_told(tmp_path):
    some_of(write_synthetic_store(tmp_path / "a", frames=2), tmp_path / "out")
    with pytest.raises(CacheError, match="has other features, labels, poses or cameras of 1 frame than"):
        some_of(write_synthetic_store(tmp_path / "b", frames=2, noise=0.4), tmp_path / "out")


def test_frames_of_other_labels_do_not_merge(tmp_path):
    """As many objects come of them: nothing in the manifest tells."""
    one, other = (write_synthetic_store(tmp_path / name, frames=2, subsets=("train",)) for name in "ab")
    relabel(other)
    with pytest.raises(CacheError, match=r"different versions of frames \(2 here\)"):
        merge(MergeOptions(caches=(str(one), str(other)), out=tmp_path / "out"))
    relabel(other)  # back, in files of its own
    assert merge(MergeOptions(caches=(str(one), str(other)), out=tmp_path / "out")).frames == 2


def test_where_frames_of_all_scenes_differ_no_scene_is_offered(world, whole, tmp_path):
    precompute(options_for(world, tmp_path / "other", thumbnails=20))
    frames = len(Store.open(whole).frames)
    with pytest.raises(CacheError, match=rf"different versions of frames \({frames} here\)") as error:
        merge(MergeOptions(caches=(str(whole), str(tmp_path / "other")), out=tmp_path / "out"))
    assert error.value.remedy == "Leave this store out: the others hold all its frames"


def test_two_drives_of_one_name_do_not_merge(whole, tmp_path):
    other = with_other_tokens(write_mini_nuscenes(tmp_path / "world", labelled=False))
    precompute(options_for(other, tmp_path / "other"))
    with pytest.raises(CacheError, match="scene mini-0001 has other frames here than in the stores before it"):
        merge(MergeOptions(caches=(str(whole), str(tmp_path / "other")), out=tmp_path / "out"))


def test_what_leaves_the_other_version_of_a_frame_out_does_as_it_is_written(world, whole, tmp_path, monkeypatch):
    """By scene, within a scene by frame, and as a whole."""
    other, out = tmp_path / "other store", tmp_path / "out"
    precompute(options_for(world, other, thumbnails=20))
    refs = Store.open(whole).frames
    scene, token = refs[0].scene, refs[0].token
    subset(SubsetOptions(cache=str(other), out=tmp_path / "scene", scenes=(scene,)))
    subset(SubsetOptions(cache=str(whole), out=tmp_path / "frame", only=(token,)))

    def remedy(one: Path, two: Path) -> str:
        with pytest.raises(CacheError, match="different versions of") as error:
            merge(MergeOptions(caches=(str(one), str(two)), out=out))
        return error.value.remedy

    for second, others in ((other, {r.token for r in refs if r.scene != scene}), (tmp_path / "scene", None)):
        told = remedy(tmp_path / "frame", second)
        command = shlex.split(told[told.index("`") + 1 : -1])
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        rest = command[command.index("--out") + 1]
        expected = others or {r.token for r in refs if r.scene == scene} - {token}
        assert {r.token for r in Store.open(rest).frames} == expected
        merge(MergeOptions(caches=(str(tmp_path / "frame"), rest), out=out))
        assert {r.token for r in Store.open(out).frames} == {token, *expected}
        shutil.rmtree(out)
    subset(SubsetOptions(cache=str(other), out=tmp_path / "same", only=(token,)))
    assert remedy(tmp_path / "frame", tmp_path / "same") == "Leave this store out: the others hold all its frames"


def damaged(store: Path, kind: str) -> None:
    """Do one thing to a store."""
    row = list(read_manifests(storage_of(store)))[1]
    part = "labels" if kind.startswith("label") else "features"
    folder = store / partition_key(row.parts[part].folder)
    shard = folder / ("objects/embedding/c/0/0" if part == "labels" else "points/xyz/c/0/0")
    match kind.partition(" ")[2]:
        case "flipped":
            content = bytearray(shard.read_bytes())
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-7])
        case "lost":
            shard.unlink()
        case "folder lost":
            shutil.rmtree(folder)
        case "unreadable":
            (store / manifest_key(row.partition)).write_bytes(b"PAR1")
        case "manifest lost":
            (store / manifest_key(row.partition)).unlink()
        case "vocabulary":
            (store / "vocabulary.safetensors").unlink()
        case "state":
            (store / "codec.safetensors").write_bytes(b"no")


@pytest.mark.parametrize("kind", ["label flipped", "label cut", "label lost", "label folder lost"])
def test_damaged_labels_are_repaired_without_clip(world, small, tmp_path, monkeypatch, kind):
    store = Path(shutil.copytree(small, tmp_path / "zarr"))
    damaged(store, kind)
    assert verify_store(store)
    monkeypatch.setattr(repair_module, "prepare", lambda *_: pytest.fail("CLIP is not needed"))
    summary = repair(RepairOptions(path=store, dataroot=world))
    assert (summary.labels, summary.features, summary.frames, summary.left) == (1, 0, 0, ())
    assert written(store) == written(small)


@pytest.mark.parametrize(
    "kind",
    ["feature flipped", "feature cut", "feature lost", "feature folder lost", "its unreadable", "its manifest lost"],
)
def test_damaged_features_are_computed_again_and_nothing_else(world, whole, tmp_path, kind):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    damaged(store, kind)
    assert verify_store(store)
    others = {row.partition: row for row in list(read_manifests(storage_of(store)))[2:]} if "its" not in kind else {}
    summary = repair(RepairOptions(path=store, dataroot=world))
    assert summary.frames == len(list(read_manifests(storage_of(whole)))[1].frames)
    after = {row.partition: row for row in read_manifests(storage_of(store))}
    assert all(after[name] == row for name, row in others.items())
    assert (summary.labels, summary.features, summary.left) == (0, 1, ())
    assert written(store) == written(whole)
    assert repair(RepairOptions(path=store, dataroot=world)).features == 0


def spoilt(world: Path, tmp_path: Path, what: str, *numbers: int) -> tuple[Path, Callable[[], None]]:
    """A copy of the data set in which an image, or the labels, of some frames cannot be read; and its mending."""
    root = Path(shutil.copytree(world, tmp_path / "spoilt"))
    frames = frames_of(resolved(options_for(root, tmp_path)))
    paths = [Path(frames[n].labels_path if what == "labels" else frames[n].cameras[0].image_path) for n in numbers]
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.write_bytes(before[path][:100])
    return root, lambda: [path.write_bytes(content) for path, content in before.items()] and None


def flip(store: Path, part: str, name: str, byte: int = 0) -> None:
    """Damage an array of the first two partitions."""
    for row in list(read_manifests(storage_of(store)))[:2]:
        shard = store / partition_key(row.parts[part].folder) / name
        content = bytearray(shard.read_bytes())
        content[byte] ^= 1
        shard.write_bytes(content)


def test_a_frame_that_cannot_be_computed_keeps_no_other_from_being_repaired(world, whole, tmp_path):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    root, mended = spoilt(world, tmp_path, "image", 0)
    flip(store, "features", "points/xyz/c/0/0")
    with pytest.raises(FrameError, match=r"or leave such frames out with --on-error skip$"):
        repair(RepairOptions(path=store, dataroot=root))
    summary = repair(RepairOptions(path=store, dataroot=root, on_error="skip"))
    token = Store.open(whole).frames[0].token
    assert (summary.features, summary.left, [r.token for r in summary.quarantined]) == (2, (), [token])
    assert store_info(store).quarantined == summary.quarantined
    assert set(read_all(store)) == set(read_all(whole)) - {token}
    mended()
    precompute(options_for(world, store, thumbnails=40))
    assert same_frames(store, whole)


def test_what_is_sound_of_a_damaged_partition_stays_where_it_cannot_be_computed(world, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("ovps.cache.folder.CHUNK_BYTES", 1200)
    monkeypatch.setattr("ovps.cache.zarr_files.SMALL", 0)
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    for row in read_manifests(storage_of(store)):
        frames = stored_frames(storage_of(store), row, {frame.token for frame in row.frames})
        write_partition(storage_of(store), row.partition, row.scene, frames, before=row)
    root, _ = spoilt(world, tmp_path, "image", 1)
    flip(store, "features", "points/xyz/c/0/0")  # of the first frame
    summary = repair(RepairOptions(path=store, dataroot=root, on_error="skip"))
    assert (summary.features, summary.quarantined, summary.left) == (2, (), ())
    assert same_frames(store, whole)


@pytest.mark.parametrize("bad", [(0,), (0, 1)])
def test_labels_that_cannot_be_read_keep_no_others_from_being_repaired(world, whole, tmp_path, bad):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    root, mended = spoilt(world, tmp_path, "labels", *bad)
    flip(store, "labels", "points/label/c/0")
    with pytest.raises(FrameError, match=r"--on-error skip$"):
        repair(RepairOptions(path=store, dataroot=root))
    summary = repair(RepairOptions(path=store, dataroot=root, on_error="skip"))
    refs = Store.open(store).frames
    assert [r.token for r in summary.quarantined] == [refs[n].token for n in bad]
    assert (summary.labels, summary.left, [n for n, ref in enumerate(refs) if not ref.labelled]) == (2, (), [*bad])
    mended()
    assert add_labels(store, root).added == len(bad)
    assert same_frames(store, whole)


def test_all_manifests_of_a_split_or_of_the_store_are_made_again(world, whole, tmp_path):
    """Nothing that can be read knows of the split any more, nor, in the end, of thumbnails."""
    for lost in ("mini-0001", "mini-"):
        store = Path(shutil.copytree(whole, tmp_path / lost))
        manifests = sorted((store / "manifest").glob(f"{lost}*"))
        for file in manifests:
            file.write_bytes(b"PAR1")
        summary = repair(RepairOptions(path=store, dataroot=world))
        assert (summary.manifests, summary.left) == (len(manifests), ())
        assert same_frames(store, whole)
        assert len(Store.open(store).pictures(Store.open(store).frames[0])) == 6


def test_a_data_set_need_not_have_all_usual_splits(tmp_path, capsys):
    root = write_mini_nuscenes(tmp_path / "world", scenes=1, frames=2, points=300)
    splits = root / "v1.0-trainval" / "splits.json"
    splits.write_text(json.dumps({"train": [], "val": ["mini-0001"]}))
    store = tmp_path / "zarr"
    precompute(options_for(root, store, subsets=("val",)))
    assert missing_frames(store, root) == {"val": {"frames": 0, "labels": 0}}
    assert "warning: split train is not counted: " in capsys.readouterr().err
    before = written(store)
    for file in (store / "manifest").iterdir():
        file.unlink()
    summary = repair(RepairOptions(path=store, dataroot=root))
    assert (summary.manifests, summary.frames, summary.left) == (1, 2, ())
    assert "has all that the data set has there, 2 frames" in summary.warnings[0]
    assert written(store) == before


def test_a_split_that_the_data_set_lacks_now_is_passed_over(tmp_path, capsys):
    """As where its scenes were taken off the disk; labels of another were mended meanwhile."""
    root = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=1, points=100)
    store = tmp_path / "zarr"
    precompute(options_for(root, store))
    (root / VERSION / "splits.json").write_text(json.dumps({"train": ["mini-0001"], "val": []}))
    (train,) = frames_of(resolved(options_for(root, store, subsets=("train",))))
    labels = np.load(train.labels_path)["data"]
    np.savez_compressed(train.labels_path, data=labels[::-1])
    assert missing_frames(store, root) == {"train": {"frames": 0, "labels": 0}}
    assert "warning: split val is not counted: " in capsys.readouterr().err
    assert add_labels(store, root).renewed == 1
    assert "warning: labels of split val stay as they are: " in capsys.readouterr().err
    assert all(frame.labelled for frame in Store.open(store).frames)
    flip(store, "labels", "points/label/c/0")  # of both splits
    summary = repair(RepairOptions(path=store, dataroot=root, on_error="skip"))
    assert (summary.labels, summary.left, len(summary.quarantined)) == (2, (), 1)
    assert {frame.subset: frame.labelled for frame in Store.open(store).frames} == {"train": True, "val": False}


@pytest.mark.parametrize("again", ["repair", "precompute", "labels"])
def test_what_has_lost_its_manifest_stays_where_the_data_set_lacks_its_frames(whole, tmp_path, again):
    """The manifest may be found again, and then nothing is lost."""
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    other = write_mini_nuscenes(tmp_path / "world", scenes=2, frames=2, points=300)
    row = list(read_manifests(storage_of(store)))[-1]
    assert [frame.index for frame in row.frames] == [2]
    manifest = store / manifest_key(row.partition)
    content = manifest.read_bytes()
    manifest.unlink()
    (store / "partitions" / "half.0123abcd.zarr").mkdir()  # what a killed run leaves goes as ever
    match again:
        case "repair":
            assert any("lost: " in left for left in repair(RepairOptions(path=store, dataroot=other)).left)
        case "precompute":
            warnings = precompute(options_for(other, store, thumbnails=40)).warnings
            assert any(f"manifest of partition {row.partition} was lost" in warning for warning in warnings)
        case "labels":
            add_labels(store, other)
    token = row.frames[0].token
    assert not (store / "partitions" / "half.0123abcd.zarr").exists()
    manifest.write_bytes(content)
    assert verify_store(store) == []
    assert np.array_equal(read_all(store)[token].clip, read_all(whole)[token].clip)
    assert np.array_equal(read_all(store)[token].label, read_all(whole)[token].label)


def test_a_store_with_the_store_json_of_another_is_not_made_anew(world, whole, tmp_path):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    precompute(options_for(world, tmp_path / "other", limit=1, grid="cylinder:48x36x8"))
    shutil.copy(tmp_path / "other/store.json", store / "store.json")
    before = contents(store)
    with pytest.raises(CorruptStoreError, match=r"every partition was made with other settings.*delete it and run"):
        repair(RepairOptions(path=store, dataroot=world))
    assert contents(store) | {".lock": b""} == before | {".lock": b""}
    (store / "store.json").unlink()  # as the remedy says
    lost = contents(store)
    with pytest.raises(CorruptStoreError, match=r"missing, and without it .*store\.json.*with the same options"):
        Store.open(store)
    with pytest.raises(ProvenanceError, match=r"store\.json is missing, and the partitions .* other settings"):
        precompute(options_for(world, store, codec="dense", grid="cylinder:48x36x8", thumbnails=40))
    assert contents(store) == lost
    asked = estimate(options_for(world, store, thumbnails=40))
    assert (asked.frames, "store.json is missing" in asked.warnings[-1]) == (0, True)
    assert precompute(options_for(world, store, thumbnails=40)).frames == 0
    assert written(store) == written(whole)


def test_a_subset_of_what_holds_more_is_refused(whole, tmp_path):
    """`--out` is a copy of the whole: three frames were asked for, and there are six."""
    out = Path(shutil.copytree(whole, tmp_path / "copy"))
    before = contents(out)
    with pytest.raises(CacheError, match=r"holds 3 other frames.*Give a new folder"):
        subset(SubsetOptions(cache=whole, out=out, subsets=("val",)))
    assert contents(out) | {".lock": b""} == before | {".lock": b""}


def test_the_files_of_a_whole_store_are_repaired(world, tmp_path):
    precompute(options_for(world, tmp_path / "zarr", codec="cells-pca"))
    before = written(tmp_path / "zarr")
    damaged(tmp_path / "zarr", "the vocabulary")
    damaged(tmp_path / "zarr", "the state")
    summary = repair(RepairOptions(path=tmp_path / "zarr", dataroot=world))
    assert summary.files == ("vocabulary.safetensors", "codec.safetensors")
    assert written(tmp_path / "zarr") == before
    (tmp_path / "zarr/store.json").write_text("{")
    with pytest.raises(CorruptStoreError, match=r"store\.json.*Restore it"):
        repair(RepairOptions(path=tmp_path / "zarr", dataroot=world))


@pytest.mark.parametrize("written_before", [1, 2])
def test_a_repair_that_is_killed_goes_on(world, whole, tmp_path, monkeypatch, written_before):
    """After one partition; or after the other one's frames are known, and before they are computed."""
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    shutil.rmtree(store / partition_key(next(read_manifests(storage_of(store))).features.folder))
    damaged(store, "its unreadable")
    real, count = repair_module.write_partition, 0

    def dies(*args, **kwargs):
        nonlocal count
        count += 1
        if count == written_before + 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(repair_module, "write_partition", dies)
    with pytest.raises(KeyboardInterrupt):
        repair(RepairOptions(path=store, dataroot=world))
    monkeypatch.setattr(repair_module, "write_partition", real)
    assert repair(RepairOptions(path=store, dataroot=world)).left == ()
    assert written(store) == written(whole)


def test_what_cannot_be_repaired_is_told(world, whole, tmp_path):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    (store / "notes.txt").write_text("mine")
    summary = repair(RepairOptions(path=store, dataroot=world))
    assert len(summary.left) == 1
    assert "notes.txt: a file that no manifest lists" in summary.left[0]
    damaged(store, "label lost")
    other = write_mini_nuscenes(tmp_path / "other", scenes=2, frames=1, points=300)
    with pytest.raises(FrameError, match=r"does not have the frame any more.*--dataroot.*--on-error skip$"):
        repair(RepairOptions(path=store, dataroot=other))
    other = with_other_tokens(write_mini_nuscenes(tmp_path / "third", scenes=2, frames=1, labelled=False))
    with pytest.raises(DatasetError, match=r"none of the store's 6 frames is in it.*--dataroot"):
        repair(RepairOptions(path=store, dataroot=other, on_error="skip"))


@pytest.mark.parametrize(("part", "array"), [("features", "points/xyz/c/0/0"), ("labels", "points/label/c/0")])
def test_a_frame_that_has_left_the_data_set_keeps_no_other_from_being_repaired(tmp_path, part, array):
    root = recording.write_recording(tmp_path / "drive", frames=3)
    recording.write_taxonomy(root, {1: 1, 2: 2})
    for number in range(3):
        recording.write_labels(root, number, np.full(len(recording.rows_of(number)), 1000 + number))
    asked = options_for(root, tmp_path / "zarr", dataset="folder", partition_frames=1)
    precompute(asked)
    gone, stays, _ = sorted(read_all(asked.out))
    for file in root.rglob("000.*"):
        file.unlink()
    flip(Path(asked.out), part, array)
    with pytest.raises(FrameError, match=f"frame {gone}.*--on-error skip$"):
        repair(RepairOptions(path=asked.out, dataroot=root))
    summary = repair(RepairOptions(path=asked.out, dataroot=root, on_error="skip"))
    assert ([record.token for record in summary.quarantined], summary.left) == ([gone], ())
    assert stays in read_all(asked.out)


@pytest.mark.parametrize("found_by", ["repair", "precompute"])
def test_a_frame_in_front_of_a_partition_that_lost_its_manifest(tmp_path, found_by):
    """Its first frame has another index now: repair finds it by its token; once it is elsewhere, the folder may go."""
    root = recording.write_recording(tmp_path / "drive", frames=3)
    asked = options_for(root, tmp_path / "zarr", dataset="folder")
    first = {file: file.read_bytes() for file in root.rglob("000.*")}
    for file in first:
        file.unlink()
    precompute(asked)
    (manifest,) = Path(asked.out, "manifest").iterdir()
    manifest.unlink()
    for file, content in first.items():
        file.write_bytes(content)
    if found_by == "precompute":
        assert any("lost, and its first frame" in warning for warning in precompute(asked).warnings)
    summary = repair(RepairOptions(path=asked.out, dataroot=root))
    assert summary.manifests == (found_by == "repair")
    for left in summary.left:
        shutil.rmtree(re.search(r"then delete (\S+)$", left)[1])
    assert len(summary.left) == (found_by == "precompute")
    precompute(asked)
    assert verify_store(asked.out) == []
    assert len(Store.open(asked.out).frames) == 3


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_frames_as_plain_arrays(whole, tmp_path, form):
    summary = export_arrays(ArraysOptions(cache=whole, out=tmp_path / "out", format=form, subsets=("val",)))
    assert (summary.frames, summary.frames_before) == (3, 0)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["provenance"]["encoder"] == "demo"
    for entry in index["frames"]:
        frame = read_all(whole)[entry["token"]]
        path = tmp_path / "out" / entry["path"]
        for name, value in arrays_of(frame).items():
            got = np.load(path)[name] if form == "npz" else np.load(path / f"{name}.npy")
            assert got.dtype == value.dtype
            assert np.array_equal(got, value), name
    assert export_arrays(ArraysOptions(cache=whole, out=tmp_path / "out", format=form, limit=1)).frames_before == 1
    with pytest.raises(ConfigError, match="among the files of the store"):
        export_arrays(ArraysOptions(cache=whole, out=whole))


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_arrays_that_are_cut_are_written_again_and_the_index_keeps_what_it_had(whole, tmp_path, form):
    def export(**changes):
        return export_arrays(ArraysOptions(cache=whole, out=tmp_path / "out", format=form, **changes))

    def content():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.np?")}

    export(subsets=("val",))
    export(subsets=("train",))
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert {entry["token"] for entry in index["frames"]} == {ref.token for ref in Store.open(whole).frames}
    before = content()
    for number, path in enumerate(sorted(before)):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(before[path][:100])
    export()
    assert content().keys() == before.keys()
    assert all(np.load(path) is not None for path in before)
    (tmp_path / "out/index.json").write_text('{"provenance": {}, "frames": []}')
    with pytest.raises(ConfigError, match="arrays of another store"):
        export()


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_arrays_of_another_drive_of_the_same_names_do_not_take_the_place_of_the_first(tmp_path, form):
    def export(cache):
        return export_arrays(ArraysOptions(cache=cache, out=tmp_path / "out", format=form))

    one, other = (write_synthetic_store(tmp_path / f"store {seed}", frames=2, seed=seed) for seed in (1, 2))
    export(one)
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"another sweep as this frame of scene 'synthetic-0000'.*another --out") as e:
        export(other)
    assert e.value.frame == Store.open(other).frames[0].token
    assert contents(tmp_path / "out") == before
    index = tmp_path / "out/index.json"
    index.write_text(re.sub(r'"token": "', '"token": "other ', index.read_text()))
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other frames of scene 'synthetic-0000', none of which .*another --out"):
        export(other)
    assert contents(tmp_path / "out") == before


def test_two_exports_into_one_folder_take_turns(whole, tmp_path, monkeypatch):
    """One that begins while another writes is refused, and changes nothing; in turn, both are in the index."""

    def export(out: Path, split: str):
        return export_arrays(ArraysOptions(cache=whole, out=out, subsets=(split,)))

    real, refused = plain._write, []

    def meanwhile(*args):
        before = contents(tmp_path / "out")
        with pytest.raises(ConfigError, match="another export is writing to this folder") as error:
            export(tmp_path / "out", "val")
        refused.append(error.value.path)
        assert contents(tmp_path / "out") == before
        real(*args)

    monkeypatch.setattr(plain, "_write", meanwhile)
    export(tmp_path / "out", "train")
    assert set(refused) == {str(tmp_path / "out")}
    monkeypatch.setattr(plain, "_write", real)
    export(tmp_path / "out", "val")
    for split in ("val", "train", "train"):
        export(tmp_path / "other way", split)
    one, other = contents(tmp_path / "out"), contents(tmp_path / "other way")
    assert one["index.json"] == other["index.json"]
    assert one.keys() == other.keys()
    index = json.loads(one["index.json"])
    assert {entry["token"] for entry in index["frames"]} == {ref.token for ref in Store.open(whole).frames}


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_arrays_that_are_not_those_of_the_store_are_written_again(whole, tmp_path, form):
    """Labels that have changed since, and a byte on the disk: each has the shape and the names it had."""

    def export():
        return export_arrays(ArraysOptions(cache=whole, out=tmp_path / "out", format=form, subsets=("val",)))

    export()
    before = contents(tmp_path / "out")
    first, second = sorted((tmp_path / "out").rglob("*.npz" if form == "npz" else "label.npy"))[:2]
    if form == "npz":
        np.savez_compressed(first, **dict(np.load(first)) | {"label": np.load(first)["label"] + 1})
    else:
        np.save(first, np.load(first) + 1)
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    assert export().frames_before == 1
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    for name in before.keys() - {"index.json", ".lock"}:
        one, other = (np.load(io.BytesIO(files[name])) for files in (before, after))
        pairs = [(one[key], other[key]) for key in one] if form == "npz" else [(one, other)]
        assert all(np.array_equal(a, b) for a, b in pairs), name


def test_a_store_is_merged_with_others(whole, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(whole)
    with pytest.raises(ConfigError, match="is named twice"):
        merge(MergeOptions(caches=(str(whole), str(link)), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_split_is_told_where_a_codec_fits_nothing(whole, tmp_path):
    with pytest.raises(ConfigError, match=r"no split 'nope' in the store.*train, val"):
        convert(ConvertOptions(cache=whole, out=tmp_path / "out", codec="dense", split="nope"))


def imported(world: Path, tmp_path: Path, **changes) -> ImportOptions:
    values = {"features": tmp_path / "fused", "dataroot": world, "encoder": "demo", "weights": "random", "grid": GRID}
    return ImportOptions.model_validate(values | {"out": tmp_path / "zarr"} | changes)


def fused(world: Path, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features of points as other programs write them, frame by frame in another way; and which points have one."""
    made = {}
    (folder / "fused").mkdir()
    for number, frame in enumerate(frames_of(resolved(options_for(world, folder)))):
        rng = np.random.default_rng(number)
        points = len(np.fromfile(frame.points_path, np.float32)) // 5
        seen = rng.random(points) < 0.5
        features = rng.normal(size=(points, 64)).astype(np.float16) * seen[:, None]
        made[frame.token] = features.astype(np.float32), seen
        file = folder / "fused" / frame.token
        if number % 3 == 0:
            torch.save({"feat": torch.tensor(features[seen]), "mask_full": torch.tensor(seen)}, f"{file}.pt")
        elif number % 3 == 1:
            np.save(f"{file}.npy", np.where(seen[:, None], features, np.nan if number % 2 else 0))
        else:
            np.savez(f"{file}.npz", feat=features)
    return made


def test_features_of_another_program(world, tmp_path):
    made = fused(world, tmp_path)
    summary = import_features(imported(world, tmp_path))
    assert summary.frames == 6
    assert verify_store(tmp_path / "zarr") == []
    for token, frame in read_all(tmp_path / "zarr").items():
        features, seen = made[token]
        assert np.array_equal(frame.views > 0, seen)
        for voxel in (0, len(frame.coords) // 2, len(frame.coords) - 1):
            own = seen & (frame.point_voxel == voxel)
            assert frame.valid[voxel] == own.any()
            expected = features[own].mean(axis=0) if own.any() else np.zeros(64)
            np.testing.assert_allclose(frame.clip[voxel], expected, atol=2e-3)
        own = np.isin(frame.label, frame.object_instance[frame.object_instance > 0])
        assert frame.object_seen_points[frame.object_instance > 0].sum() == (own & seen).sum()
        thing = int(np.flatnonzero((frame.object_instance > 0) & (frame.object_seen_points > 0))[0])
        own = (frame.label == frame.object_instance[thing]) & seen
        np.testing.assert_allclose(frame.object_embedding[thing], features[own].mean(axis=0), atol=1e-5)
    with pytest.raises(CacheError, match=r"Leave them in dense: they were imported for points"):
        convert(ConvertOptions(cache=tmp_path / "zarr", out=tmp_path / "cells", codec="cells"))
    with pytest.raises(ProvenanceError, match=r"cameras \(\) there, None now"):
        precompute(options_for(world, tmp_path / "zarr", codec="dense", occlusion=False))


def test_a_frame_without_features_keeps_no_other_from_being_imported(world, tmp_path):
    tokens = list(fused(world, tmp_path))
    import_features(imported(world, tmp_path, out=tmp_path / "whole"))
    away = tmp_path / "away"
    away.mkdir()
    for token in tokens[1], tokens[3]:
        (file,) = (tmp_path / "fused").glob(f"{token}.*")
        shutil.move(file, away / file.name)
    np.save(tmp_path / "fused" / f"{tokens[3]}.npy", np.zeros((300, 64), np.float16))
    with pytest.raises(FrameError, match=r"no file of features.*or leave such frames out with --on-error skip$"):
        import_features(imported(world, tmp_path))
    options = imported(world, tmp_path, on_error="skip")
    summary = import_features(options)
    assert (summary.frames, [r.token for r in summary.quarantined]) == (4, [tokens[1], tokens[3]])
    assert ["no file" in summary.quarantined[0].reason, "none of 300" in summary.quarantined[1].reason] == [True, True]
    assert store_info(tmp_path / "zarr").quarantined == summary.quarantined
    (file,) = (tmp_path / "fused").glob(f"{tokens[0]}.*")
    shutil.move(file, away / file.name)
    assert import_features(options).frames == 4, "what is there stays, though its file is gone"
    (tmp_path / "fused" / f"{tokens[3]}.npy").unlink()
    for file in away.iterdir():
        shutil.copy(file, tmp_path / "fused")
    assert import_features(imported(world, tmp_path)).quarantined == ()
    assert written(tmp_path / "zarr") == written(tmp_path / "whole")
    shutil.rmtree(tmp_path / "fused")
    (tmp_path / "fused").mkdir()
    with pytest.raises(DatasetError, match=r"none of 6 frames could be imported.*no file of features"):
        import_features(options.model_copy(update={"out": str(tmp_path / "none")}))


def test_an_import_tells_of_labels_that_are_others_now(world, tmp_path):
    root = Path(shutil.copytree(world, tmp_path / "world"))
    fused(world, tmp_path)
    import_features(imported(root, tmp_path))
    file = Path(frames_of(resolved(options_for(root, tmp_path)))[0].labels_path)
    np.savez_compressed(file, data=np.where(np.arange(300) % 3, np.load(file)["data"], 17_042))
    with pytest.raises(CacheError, match=r"other features, labels, poses or cameras of 1 frame.*delete \S+\.parquet"):
        import_features(imported(root, tmp_path))


@pytest.mark.parametrize(
    ("part", "name", "value", "frames"),
    [("points", "intensity_max", 510, 1), ("cameras", "fx", recording.FOCAL + 1, 2), (None, None, None, 1)],
    ids=["intensity", "camera", "time"],
)
def test_an_import_tells_of_what_else_the_data_set_says_now(tmp_path, part, name, value, frames):
    """A camera of both frames, the time of the second one; intensities are compared in the first."""
    root = recording.write_recording(tmp_path / "drive", frames=2)
    files = {"lidar": "points/{:03d}.bin", "front": "images/front/{:03d}.png"}
    lines = [f"{n},{sensor},{file.format(n)},{n + 1}00000" for n in (0, 1) for sensor, file in files.items()]
    recording.write_readings(root, ["sweep,sensor,file,time_us", *lines])
    options = imported(root, tmp_path, dataset="folder")
    options.features.mkdir()
    for frame in frames_of(resolved(options_for(root, tmp_path, dataset="folder"))):
        features = np.random.default_rng(frame.index).normal(size=(len(recording.rows_of(frame.index)), 64))
        np.save(options.features / f"{frame.token}.npy", features.astype(np.float32))
    import_features(options)
    assert import_features(options).frames_before == 2
    content = recording.calibration()
    if part is None:
        lines = [line.replace(",200000", ",200001") for line in lines]
        recording.write_readings(root, ["sweep,sensor,file,time_us", *lines])
    else:
        (content[part]["front"] if part == "cameras" else content[part])[name] = value
    recording.write_calibration(root, content)
    with pytest.raises(CacheError, match=rf"poses or cameras of {frames} frames? than.*delete \S+\.parquet"):
        import_features(options)


@pytest.mark.parametrize(
    "ask",
    [
        some_of,
        lambda source, out: export_arrays(ArraysOptions(cache=source, out=out)),
        lambda source, out: export_arrays(ArraysOptions(cache=source, out=out, subsets=("train",))),
        lambda source, out: convert(ConvertOptions(cache=source, out=out, codec="cells-pca")),
        lambda source, out: convert(ConvertOptions(cache=source, out=out, codec="dense")),
        lambda source, out: add_labels(source, out),
    ],
    ids=["subset", "export", "export a split", "convert", "convert to dense", "labels"],
)
def test_who_asks_a_store_that_has_lost_all_manifests_is_told_that(tmp_path, ask):
    source = write_synthetic_store(tmp_path / "source", frames=1)
    for manifest in (source / "manifest").iterdir():
        manifest.unlink()
    with pytest.raises(CorruptStoreError, match=r"no frame, because manifests are lost.*`ovps cache repair"):
        ask(source, tmp_path / "out")
    assert not (tmp_path / "out" / "store.json").exists()


def test_features_that_were_filled_in_are_told(world, tmp_path):
    made = fused(world, tmp_path)
    assert import_features(imported(world, tmp_path)).warnings == ()
    token = list(made)[1]
    np.save(tmp_path / "fused" / f"{token}.npy", np.where(made[token][1][:, None], made[token][0], 0.125))
    (warning,) = import_features(imported(world, tmp_path, out=tmp_path / "other")).warnings
    share = 1 - made[token][1].mean()
    assert f"in 1 of 6 frames many features are one and the same ({token}: {share:.0%})" in warning


def test_features_of_hardly_any_point_are_told(world, tmp_path):
    made = fused(world, tmp_path)
    summary = import_features(imported(world, tmp_path))
    assert 0.3 < summary.valid_voxels / summary.voxels < 1
    for token, (features, seen) in made.items():
        features[np.flatnonzero(seen)[1:]] = 0
        for file in (tmp_path / "fused").glob(f"{token}.*"):
            file.unlink()
        np.save(tmp_path / "fused" / f"{token}.npy", features)
    summary = import_features(imported(world, tmp_path, out=tmp_path / "other"))
    (warning,) = summary.warnings
    assert warning.startswith(f"{summary.valid_voxels} of {summary.voxels:,} voxels have a CLIP feature")
    assert store_info(tmp_path / "other").warnings[-1] == warning


def test_no_folder_of_features_is_told_as_that(world, tmp_path):
    with pytest.raises(DatasetError, match=r"^no such folder.*Check --features"):
        import_features(imported(world, tmp_path))
    (tmp_path / "fused").write_bytes(b"")
    with pytest.raises(DatasetError, match="a file, not a folder of files"):
        import_features(imported(world, tmp_path))
    assert not (tmp_path / "zarr").exists()


def test_features_that_were_made_anew_are_noticed_in_every_partition(world, tmp_path):
    fused(world, tmp_path)
    options = imported(world, tmp_path)
    import_features(options)
    last = list(read_manifests(storage_of(tmp_path / "zarr")))[-1]
    (file,) = (tmp_path / "fused").glob(f"{last.frames[0].token}.*")
    features = np.load(file) if file.suffix == ".npy" else None
    if features is None:
        content = torch.load(file, weights_only=True)
        torch.save(content | {"feat": -content["feat"]}, file)
    else:
        np.save(file, -features)
    with pytest.raises(CacheError, match=rf"other features.*{file.stem}.*delete \S+\.parquet") as told:
        import_features(options)
    Path(*re.findall(r"\S+\.parquet", told.value.remedy)).unlink()
    import_features(options)
    assert verify_store(tmp_path / "zarr") == []
    assert import_features(options).frames_before == 6


def test_features_of_another_folder_are_not_mixed_in(world, tmp_path):
    """Neither into a store that was begun, nor is a whole one taken for theirs."""
    fused(world, tmp_path)
    options = imported(world, tmp_path)
    import_features(options)
    shutil.copytree(tmp_path / "fused", tmp_path / "other")
    file = next((tmp_path / "other").glob("*.pt"))  # of the first frame
    content = torch.load(file, weights_only=True)
    torch.save(content | {"feat": -content["feat"]}, file)
    before = contents(tmp_path / "zarr")
    with pytest.raises(CacheError, match=rf"other features.*{file.stem}"):
        import_features(options.model_copy(update={"features": tmp_path / "other"}))
    last = sorted((tmp_path / "zarr" / "manifest").iterdir())[-1]
    last.unlink()
    with pytest.raises(CacheError, match="other features"):
        import_features(options.model_copy(update={"features": tmp_path / "other"}))
    shutil.move(tmp_path / "fused", tmp_path / "elsewhere")
    import_features(options.model_copy(update={"features": tmp_path / "elsewhere"}))
    assert verify_store(tmp_path / "zarr") == []
    assert [len(files) for files in (before, contents(tmp_path / "zarr"))] == [len(before)] * 2


def told_to_delete(message: str) -> list[Path]:
    return [Path(name) for name in re.findall(r"\S+/manifest/\S+?\.parquet", message)]


@pytest.mark.parametrize("kind", ["label flipped", "feature flipped", "its unreadable", "its manifest lost"])
def test_damage_of_features_of_another_program_is_mended_by_the_same_import_alone(world, tmp_path, kind):
    """CLIP does not give these features: repair writes nothing, and each remedy works as it is told."""
    fused(world, tmp_path)
    options, store = imported(world, tmp_path), tmp_path / "zarr"
    import_features(options)
    before = written(store)
    damaged(store, kind)
    as_damaged = contents(store)
    (problem,) = verify_store(store)
    with pytest.raises(
        CorruptStoreError, match=r"cannot be repaired.*not of images.*the same `ovps cache import`"
    ) as told:
        repair(RepairOptions(path=store, dataroot=world))
    assert contents(store) == as_damaged
    assert "the same `ovps cache import` again" in problem.remedy
    assert not re.search("cache repair|precompute", problem.remedy + str(told.value.remedy))
    manifests = told_to_delete(str(told.value.remedy))
    assert manifests == told_to_delete(problem.remedy)
    assert len(manifests) == (kind != "its manifest lost")
    for manifest in manifests:
        manifest.unlink()
    import_features(options)
    assert written(store) == before


def wait(store: Path, name: str) -> None:
    """Bring a partition to where a repair that was stopped leaves it: its frames are known, none is made."""
    storage = storage_of(store)
    row = read_manifest(storage, name)
    (store / manifest_key(name)).unlink()
    waiting = [SkippedRow(token=frame.token, kind=WAITING, reason="its manifest was lost") for frame in row.frames]
    write_partition(storage, name, row.scene, [], waiting)


def test_an_import_makes_what_a_repair_of_before_has_given_up(world, tmp_path):
    fused(world, tmp_path)
    options, store = imported(world, tmp_path), tmp_path / "zarr"
    import_features(options)
    before, names = written(store), partitions(storage_of(store))
    wait(store, names[-1])
    (problem,) = verify_store(store)
    assert (problem.kind, Path(problem.path).stem) == ("missing", names[-1])
    assert "frames lost and not made yet. Run the same `ovps cache import` again" in str(problem)
    with pytest.raises(CorruptStoreError, match="cannot be repaired"):
        repair(RepairOptions(path=store, dataroot=world))
    summary = import_features(options)
    assert (summary.frames, summary.partitions) == (6, len(names))
    assert summary.frames_before < 6
    assert written(store) == before
    for name in names:
        wait(store, name)
    assert import_features(options).frames_before == 0
    assert written(store) == before


def test_an_import_takes_labels_that_come_later(world, tmp_path):
    root = Path(shutil.copytree(world, tmp_path / "world"))
    fused(world, tmp_path)
    import_features(imported(world, tmp_path, out=tmp_path / "whole"))
    options, store = imported(root, tmp_path), tmp_path / "zarr"
    take_labels(root, tmp_path)
    assert import_features(options).frames == 6
    assert not any(ref.labelled for ref in Store.open(store).frames)
    with pytest.raises(ConfigError, match=r"have no labels.*the same `ovps cache import` again"):
        labelled_frames_of(Store.open(store), "train")
    bring_labels(root, tmp_path)
    with pytest.raises(CacheError, match=r"objects cannot be made.*the same `ovps cache import` again") as told:
        add_labels(store, root)
    for manifest in told_to_delete(str(told.value.remedy)):
        manifest.unlink()
    import_features(options)
    assert written(store) == written(tmp_path / "whole")


def test_a_repair_with_other_tools_writes_nothing(world, whole, tmp_path, monkeypatch):
    store = Path(shutil.copytree(whole, tmp_path / "zarr"))
    damaged(store, "its unreadable")
    before = contents(store)
    monkeypatch.setattr(ovps, "__version__", "0.0.0")
    with pytest.raises(ProvenanceError, match="code_version"):
        repair(RepairOptions(path=store, dataroot=world))
    assert contents(store) | {".lock": b""} == before | {".lock": b""}


def test_what_a_codec_has_lost_is_not_repaired_but_converted_again(world, small, tmp_path):
    options = ConvertOptions(cache=small, out=tmp_path / "zarr", codec="cells")
    convert(options)
    store = tmp_path / "zarr"
    before = written(store)
    damaged(store, "label flipped")
    assert repair(RepairOptions(path=store, dataroot=world)).labels == 1, "cells are stored: no CLIP is needed"
    assert written(store) == before
    damaged(store, "feature flipped")
    as_damaged = contents(store)
    with pytest.raises(CorruptStoreError, match=r"cannot be repaired.*the same `ovps cache convert` again") as told:
        repair(RepairOptions(path=store, dataroot=world))
    assert contents(store) == as_damaged
    (manifest,) = told_to_delete(str(told.value.remedy))
    manifest.unlink()
    assert "precompute" not in " ".join(map(str, verify_store(store)))
    convert(options)
    assert written(store) == before


def test_a_subset_of_features_of_another_program_is_cut_again(world, tmp_path):
    fused(world, tmp_path)
    import_features(imported(world, tmp_path, out=tmp_path / "whole"))
    options = SubsetOptions(cache=tmp_path / "whole", out=tmp_path / "zarr", subsets=("train",))
    subset(options)
    before = written(tmp_path / "zarr")
    wait(tmp_path / "zarr", partitions(storage_of(tmp_path / "zarr"))[0])
    told = " ".join(map(str, verify_store(tmp_path / "zarr")))
    assert "or that of `convert`, `subset` or `merge` that wrote this store" in told
    subset(options)
    assert written(tmp_path / "zarr") == before


class Program:
    """What loading a pickle runs: it makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def test_files_of_features_that_are_none(world, tmp_path):
    fused(world, tmp_path)
    first = frames_of(resolved(options_for(world, tmp_path)))[0].token
    file = tmp_path / "fused" / f"{first}.pt"
    good = torch.load(file, weights_only=True)
    wrong = {
        "more than tensors": Program(tmp_path / "it ran"),
        "the sweep has": good | {"mask_full": good["mask_full"][:-1]},
        "32 channels, text embeddings of the encoder 64": good | {"feat": good["feat"][:, :32]},
        "NaN": good | {"feat": good["feat"] * torch.nan},
        "none of 300 points has a feature": {"feat": good["feat"][:0], "mask_full": good["mask_full"] & False},
        "too short or too long": good | {"feat": good["feat"].float() * 1e-30},
        "no features of points": {"something": torch.zeros(3)},
    }
    for message, content in wrong.items():
        torch.save(content, file)
        with pytest.raises(FrameError, match=message) as found:
            import_features(imported(world, tmp_path))
        assert (found.value.frame, found.value.path) == (first, str(file))
    assert not (tmp_path / "it ran").exists()
    torch.save(good, file)
    np.save(file.with_suffix(".npy"), np.zeros((300, 64)))
    with pytest.raises(FrameError, match=rf"2 files of features for one frame: {first}\.pt, {first}\.npy"):
        import_features(imported(world, tmp_path))
    file.with_suffix(".npy").unlink()
    file.unlink()
    with pytest.raises(FrameError, match=r"no file of features.*--names"):
        import_features(imported(world, tmp_path))
    for pattern in ("{sample}", "{token.name}", "{index[0]}", "{}", "{index:s}", "{"):
        with pytest.raises(ConfigError, match=r"cannot be filled in.*\{token\}"):
            import_features(imported(world, tmp_path, names=pattern))
    with pytest.raises(ConfigError, match=r"gives frames \w+ and \w+ one file, 0000.*\{scene\}"):
        import_features(imported(world, tmp_path, names="{index:04d}"))
    with pytest.raises(ConfigError, match="cells of images"):
        import_features(imported(world, tmp_path, codec="cells"))


def test_info_tells_where_the_bytes_go_and_what_is_missing(world, whole, small, tmp_path):
    about = store_info(small)
    assert sum(about.bytes_by_part.values()) == sum(about.bytes_by_array.values()) == about.bytes
    assert about.bytes_by_part["clip"] == about.clip_bytes < store_info(whole).clip_bytes
    assert about.bytes_per_frame == about.bytes / 6
    assert (about.codec_lossless, store_info(whole).codec_lossless) == (False, True)
    assert about.codec_state_bytes == (small / "codec.safetensors").stat().st_size
    subset(SubsetOptions(cache=whole, out=tmp_path / "part", limit=2))
    assert missing_frames(tmp_path / "part", world) == {
        "train": {"frames": 1, "labels": 0},
        "val": {"frames": 1, "labels": 0},
    }
