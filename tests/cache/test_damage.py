"""A damaged store is never read as if it were whole."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from cache_schemas import MANIFEST
from ovps.cache.layout import manifest_key, new_folder, partition_key
from ovps.cache.leftovers import remove_leftovers
from ovps.cache.manifest import read_manifest, read_manifests
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.errors import CacheError, CorruptStoreError
from pipelines.options import SubsetOptions
from pipelines.stores.select import subset
from tests.helpers.stores import same_frames
from tests.helpers.synthetic_store import write_synthetic_store

PARTITION = "synthetic-0000.000000"


def folder(store, part="features"):
    """Where the arrays of PARTITION lie."""
    return store / partition_key(read_manifest(storage_of(store), PARTITION).parts[part].folder)


def files_of(store):
    """Every file of PARTITION, of both of its folders."""
    return sorted(p for part in ("features", "labels") for p in folder(store, part).rglob("*") if p.is_file())


def read_all(path):
    store = Store.open(path)
    return [store.read(ref) for ref in store.frames]


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 0x10
    file.write_bytes(content)


@pytest.mark.parametrize("codec", ["dense", "cells"])
def test_a_flipped_byte_anywhere_is_seen(tmp_path, codec):
    store = write_synthetic_store(tmp_path / "s", frames=1, points=120, subsets=("train",), codec=codec)
    files = files_of(store)
    assert len(files) > 30
    for number, file in enumerate(files):
        size = file.stat().st_size
        position = (0, size // 2, size - 1)[number % 3]
        flip(file, position)
        with pytest.raises(CorruptStoreError) as caught:
            read_all(store)
        assert str(store / manifest_key(PARTITION)) in str(caught.value), "the remedy names the manifest"
        (problem,) = verify_store(store)
        assert (problem.kind, problem.path) == ("content", str(file))
        flip(file, position)
    assert verify_store(store) == []


def test_a_missing_file_is_seen(tmp_path):
    store = write_synthetic_store(tmp_path / "s", frames=1, points=120, subsets=("train",))
    for file in files_of(store):
        away = tmp_path / "away"
        file.rename(away)
        with pytest.raises(CorruptStoreError, match="missing file") as caught:
            read_all(store)
        assert caught.value.path == str(file)
        (problem,) = verify_store(store)
        assert (problem.kind, problem.path) == ("missing", str(file))
        assert "run the same `ovps precompute` again" in problem.remedy
        away.rename(file)


def test_a_cut_off_file_is_seen(store):
    file = folder(store) / "clip/cells/c/0/0"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CorruptStoreError, match="bytes, expected"):
        read_all(store)
    assert [p.kind for p in verify_store(store)] == ["size"]


def without_chunk(shard: bytes, slots: int, lost: int | slice) -> bytes:
    """A shard whose index, checksum and all, says that it has no chunk `lost`; its size is as it was."""
    index = np.frombuffer(shard[-16 * slots - 4 : -4], "<u8").reshape(slots, 2).copy()
    index[lost] = 2**64 - 1
    return shard[: -16 * slots - 4] + index.tobytes() + crc32c(index.tobytes()).to_bytes(4, "little")


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


SPOILT = {
    "deleted": None,
    "emptied": lambda shard, slots: b"",
    "cut in half": lambda shard, slots: shard[: len(shard) // 2],
    "cut to its index": lambda shard, slots: shard[-16 * slots - 4 :],
    "longer": lambda shard, slots: shard[:1] + shard,
    "all zeros": lambda shard, slots: bytes(len(shard)),
    "without its first chunk": lambda shard, slots: without_chunk(shard, slots, 0),
    "without any chunk": lambda shard, slots: without_chunk(shard, slots, slice(None)),
}


@pytest.fixture(scope="module")
def chunky(tmp_path_factory):
    """Two frames in one partition, with several shards per array, of several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovps.cache.folder.CHUNK_BYTES", 512)
        patch.setattr("ovps.cache.folder.SHARD_BYTES", 2048)
        return write_synthetic_store(tmp_path_factory.mktemp("chunky") / "s", frames=2, points=200, subsets=("train",))


@pytest.mark.parametrize("how", SPOILT)
def test_a_shard_spoilt_under_an_open_store_is_not_read_as_zeros(chunky, how):
    store = Store.open(chunky)
    whole = {ref.token: pickle.dumps(store.read(ref)) for ref in store.frames}
    for name in ("points/xyz", "points/label", "clip/cells", "voxels/valid"):
        place = folder(chunky, "labels" if name == "points/label" else "features") / name
        slots = slots_of(json.loads((place / "zarr.json").read_text()))
        shards = [p for p in (place / "c").rglob("*") if p.is_file()]
        for shard in shards:
            content = shard.read_bytes()
            shard.unlink() if SPOILT[how] is None else shard.write_bytes(SPOILT[how](content, slots))
            seen = 0
            for ref in store.frames:
                try:
                    assert pickle.dumps(store.read(ref)) == whole[ref.token], (shard, how)
                except CorruptStoreError as error:
                    seen += 1
                    spoilt = error
            shard.write_bytes(content)
            assert seen, (shard, how)
            assert how in ("all zeros", "longer") or spoilt.path == str(shard)  # a checksum tells of the array
            assert str(chunky / manifest_key(PARTITION)) in spoilt.remedy


def slots_of(metadata: dict) -> int:
    """Chunks that fit into a shard of an array."""
    (sharding,) = metadata["codecs"]
    return metadata["chunk_grid"]["configuration"]["chunk_shape"][0] // sharding["configuration"]["chunk_shape"][0]


def test_the_last_shard_of_an_array_is_seldom_full(chunky):
    """What lies behind the end of an array was never written: a shard without it is whole."""
    ends = [
        array.shape[0] % array.shards[0] for _, array in zarr.open_group(folder(chunky), mode="r")["points"].arrays()
    ]
    assert any(ends)
    assert len(read_all(chunky)) == 2


def test_the_remedy_for_a_spoilt_shard_helps(store):
    shard = folder(store) / "clip/cells/c/0/0"
    shard.write_bytes(b"")
    with pytest.raises(CorruptStoreError, match=r"0 bytes, expected.*Delete"):
        read_all(store)
    (store / manifest_key(PARTITION)).unlink()  # as the remedy says; that precompute makes the rest is its own test
    assert remove_leftovers(storage_of(store)) == [PARTITION]  # until it is made again, which has a test of its own
    assert [problem.kind for problem in verify_store(store)] == ["missing"]
    assert len(read_all(store)) == 2


def test_files_that_no_manifest_lists(store):
    for place in (folder(store) / "points/notes.txt", store / "notes.txt", store / "manifest/notes.txt"):
        place.write_text("hello")
        (problem,) = verify_store(store)
        assert (problem.kind, problem.path) == ("extra", str(place))
        place.unlink()


def test_files_that_macos_lays_beside_manifests_are_no_manifests(store):
    """Whoever copies a store over SMB or exFAT gets `._NAME` beside each file: nothing is damaged."""
    copies = [file.with_name(f"._{file.name}") for file in (store / "manifest").iterdir()]
    for copy in copies:
        copy.write_bytes(b"\0\5\x16\7" + bytes(78))
    assert len(read_all(store)) == 4
    assert [(p.kind, p.path) for p in verify_store(store)] == [("extra", str(copy)) for copy in sorted(copies)]


@pytest.mark.parametrize("inside", ["sub", "sub/deep", "manifest/sub", "points/sub"])
def test_a_store_within_is_told_as_that(store, tmp_path, inside):
    """To delete it, as other files that no manifest lists, would lose it."""
    place = (folder(store) if inside.startswith("points") else store) / inside
    shutil.copytree(store, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", place)
    shutil.copytree(tmp_path / "copy", place / "inner")
    (store / "notes.txt").write_text("hello")
    problems = {problem.path: problem for problem in verify_store(store)}
    assert {problem.kind for problem in problems.values()} == {"extra"}
    assert problems.keys() == {str(place), str(store / "notes.txt")}
    assert "another store, which lies within this one" in problems[str(place)].message
    assert f"ovps cache subset --cache {place} --out PLACE" in problems[str(place)].remedy
    subset(SubsetOptions(cache=place, out=tmp_path / "place"))
    assert same_frames(tmp_path / "copy", tmp_path / "place")


def test_what_an_unfinished_run_left_is_no_problem(store):
    shutil.copytree(folder(store), store / partition_key(new_folder(PARTITION)))  # it was killed before its commit
    for last in (store / "partitions").glob(f"{PARTITION}-*/voxels/valid/c"):
        shutil.rmtree(last)
    (store / manifest_key(PARTITION)).unlink()
    assert verify_store(store) == []
    assert {ref.scene for ref in Store.open(store).frames} == {"synthetic-0001"}


def test_an_unreadable_manifest(store):
    file = store / manifest_key(PARTITION)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CorruptStoreError, match="unreadable manifest") as caught:
        Store.open(store)
    assert caught.value.path == str(file)
    assert [(p.kind, p.path) for p in verify_store(store)] == [("manifest", str(file))]


def test_a_manifest_of_other_columns(store):
    file = store / manifest_key(PARTITION)
    pq.write_table(pa.table({"partition": ["x"]}), file)
    with pytest.raises(CorruptStoreError, match="schema version 2"):
        Store.open(store)
    assert [p.kind for p in verify_store(store)] == ["manifest"]


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "points/../../x", "", "a\\b", "./a"])
def test_a_manifest_that_names_files_outside_its_partition(store, name):
    change_manifest(store, lambda row: row["features"]["files"][0].update(path=name))
    with pytest.raises(CorruptStoreError, match="not a plain relative path"):
        Store.open(store)
    assert [p.kind for p in verify_store(store)] == ["manifest"]


def test_a_manifest_under_another_name(store):
    change_manifest(store, lambda row: row.update(partition="../synthetic-0001.000000"))
    with pytest.raises(CorruptStoreError, match="not a partition name"):
        Store.open(store)
    other = "synthetic-0001.000000"
    change_manifest(store, lambda row: row.update(row | renamed(row, other)))
    with pytest.raises(CorruptStoreError, match="by its content"):
        Store.open(store)


@pytest.mark.parametrize(
    "name", ["../x", "synthetic-0001.000000-0123456789ab.zarr", "synthetic-0000.000000.zarr", f"{PARTITION}-../ab.zarr"]
)
def test_a_manifest_that_names_a_folder_of_another_partition(store, name):
    change_manifest(store, lambda row: row["features"].update(folder=name))
    with pytest.raises(CorruptStoreError, match="not a folder of partition"):
        Store.open(store)


def test_a_frame_in_two_partitions(store):
    token = Store.open(store).frames[-1].token
    change_manifest(store, lambda row: row["frames"][0].update(token=token))
    assert [p.kind for p in verify_store(store)] == ["duplicate"]


def renamed(row, name):
    """What a manifest says when its partition has another name."""
    return {"partition": name} | {part: row[part] | {"folder": new_folder(name)} for part in ("features", "labels")}


def change_manifest(store, change):
    file = store / manifest_key(PARTITION)
    row = pq.read_table(pa.BufferReader(file.read_bytes())).to_pylist()[0]
    change(row)
    pq.write_table(pa.Table.from_pylist([row], schema=MANIFEST), file)


def test_arrays_that_are_not_of_the_schema(store):
    # sizes and hashes agree, because the manifest was made to: the schema itself is checked
    group = folder(store)
    meta = group / "points/views/zarr.json"
    content = meta.read_text().replace('"uint8"', '"int8"')
    meta.write_text(content)

    def relist(row):
        for file in row["features"]["files"]:
            if file["path"] == "points/views/zarr.json":
                file.update(bytes=len(content), sha256=hashlib.sha256(content.encode()).hexdigest())

    change_manifest(store, relist)
    with pytest.raises(CorruptStoreError, match="points/views: int8"):
        read_all(store)
    assert [p.kind for p in verify_store(store)] == ["schema"]


def test_another_schema_version(store):
    info = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(info | {"schema_version": 7}))
    for use in (Store.open, verify_store):
        with pytest.raises(CacheError, match="schema version 7, this ovps reads version 2"):
            use(store)


def test_no_store(tmp_path):
    with pytest.raises(CacheError, match=r"no cache here.*ovps precompute"):
        Store.open(tmp_path)


def test_a_file_of_a_store_or_the_folder_above_it_names_the_store(store):
    for path in ("store.json", "manifests", "vocabulary.safetensors"):
        with pytest.raises(CacheError, match=rf"A store is named by its folder: {re.escape(str(store))}$"):
            Store.open(store / path)
    with pytest.raises(CacheError, match=rf"There are stores in that folder: {re.escape(str(store))}\. Name one"):
        Store.open(store.parent)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 2}', "\xff"])
def test_a_damaged_store_json(store, content):
    (store / "store.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorruptStoreError, match=r"store\.json"):
        Store.open(store)


def test_a_damaged_vocabulary(store):
    flip(store / "vocabulary.safetensors", -1)
    assert [(p.kind, p.path) for p in verify_store(store)] == [("content", str(store / "vocabulary.safetensors"))]
    with pytest.raises(CorruptStoreError, match="not the vocabulary that was written") as caught:
        _ = Store.open(store).vocabulary
    assert caught.value.path == str(store / "vocabulary.safetensors")
    (store / "vocabulary.safetensors").unlink()
    with pytest.raises(CorruptStoreError, match="not the vocabulary that was written"):
        _ = Store.open(store).vocabulary
    assert [p.kind for p in verify_store(store)] == ["missing"]


def test_a_lost_manifest_is_told(store):
    manifest = store / manifest_key(PARTITION)
    content, lost = manifest.read_bytes(), folder(store)
    manifest.unlink()
    (problem,) = verify_store(store)
    assert (problem.kind, problem.path) == ("missing", str(manifest))
    assert str(lost) in problem.message
    manifest.write_bytes(content)  # the first remedy; the second is tried where stage 1 runs again
    assert verify_store(store) == []


def test_all_manifests_lost_are_told(store):
    count = len(list((store / "manifest").iterdir()))
    shutil.rmtree(store / "manifest")
    assert [p.kind for p in verify_store(store)] == ["missing"] * count


def test_a_manifest_of_which_a_value_has_changed(store):
    """Parquet has no checksum that covers it: a pose a metre off reads as well as the right one."""
    file = store / manifest_key(PARTITION)
    table = pq.read_table(pa.BufferReader(file.read_bytes()))
    row = table.to_pylist()[0]
    row["frames"][0]["global_from_lidar"][3] += 1.0
    pq.write_table(pa.Table.from_pylist([row], schema=table.schema), file)
    with pytest.raises(CorruptStoreError, match="not the manifest that was written"):
        Store.open(store)
    assert [(p.kind, p.path) for p in verify_store(store)] == [("manifest", str(file))]


def test_a_store_json_of_which_a_value_has_changed(store):
    file = store / "store.json"
    file.write_text(file.read_text().replace("60x45x8", "60x45x9"))
    for use in (Store.open, verify_store):
        with pytest.raises(CorruptStoreError, match=r"store\.json: not the content .*Restore it, or delete it"):
            use(store)


def test_what_was_made_with_other_settings(store, tmp_path):
    """One partition, or store.json: sizes, hashes, vocabulary and schema agree; only the grid is another."""
    other = write_synthetic_store(tmp_path / "other", frames=1, points=120, grid="cylinder:48x36x8")
    name = read_manifest(storage_of(other), PARTITION)
    shutil.copy(other / manifest_key(PARTITION), store / manifest_key(PARTITION))
    for part in name.parts.values():
        shutil.copytree(other / partition_key(part.folder), store / partition_key(part.folder))
    with pytest.raises(CorruptStoreError, match=r"made with other settings than store\.json states"):
        read_all(store)
    assert {p.kind for p in verify_store(store)} == {"schema"}
    whole = write_synthetic_store(tmp_path / "whole", frames=1, points=120)
    shutil.copy(other / "store.json", whole / "store.json")
    with pytest.raises(CorruptStoreError, match="made with other settings"):
        read_all(whole)
    last = verify_store(whole)[-1]
    assert (last.kind, last.path) == ("content", str(whole / "store.json"))


def test_a_shard_of_another_partition_that_is_as_long(tmp_path):
    """Its chunks have sound checksums: they are of another place."""
    store = write_synthetic_store(tmp_path / "s", frames=6, points=120, subsets=("train",), partition_frames=1)
    one, *others = (store / partition_key(row.features.folder) for row in read_manifests(storage_of(store)))
    alike = [
        (ours, theirs)
        for ours in one.rglob("*")
        for theirs in (other / ours.relative_to(one) for other in others)
        if ours.is_file()
        and ours.name != "zarr.json"
        and theirs.stat().st_size == ours.stat().st_size
        and theirs.read_bytes() != ours.read_bytes()
    ]
    assert alike
    ours, theirs = alike[0]
    ours.write_bytes(theirs.read_bytes())
    assert [p.kind for p in verify_store(store)] == ["content"]
    with pytest.raises(CorruptStoreError, match="not the bytes that were written") as caught:
        read_all(store)
    assert caught.value.path == str(ours)
