"""A store as plain arrays, a file for each frame: `ovps cache export --cache ./zarr --out arrays`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ovps import strict_json
from ovps.cache.frame_data import CachedFrame, FrameRef
from ovps.cache.layout import LOCK
from ovps.cache.reader import Store
from ovps.errors import ConfigError
from ovps.files import locked, write_whole
from ovps.geometry.same_sweep import same_sweep
from ovps.interrupt import kept
from ovps.places import check_free
from ovps.progress import progress
from ovps.shortage import faults
from pipelines.options import ArraysOptions
from pipelines.precompute.held import other_drive
from pipelines.stores.select import chosen

INDEX = "index.json"
_ELSEWHERE = "Give another --out, or delete the folder"


class ArraysSummary(BaseModel, frozen=True):
    """Summary of `ovps cache export`.

    Attributes:
        frames_before: of them, those whose files were there, from the same command before.
        warnings: of frames that the store has lost.
    """

    out: str
    frames: int
    frames_before: int
    warnings: tuple[str, ...] = ()


def export_arrays(options: ArraysOptions) -> ArraysSummary:
    """Write frames as NumPy arrays, and `index.json`, which names them and says where everything comes from.

    A frame is SCENE/INDEX-TOKEN.npz, or a folder of that name with a .npy for each array. Arrays and units are those of
    `ovps.cache.frame_data.CachedFrame`, CLIP features (V, C) are float16. What is there already is not written again,
    and `index.json` keeps the frames that it had.

    Raises:
        ConfigError: a split, scene or frame that the store does not have; a folder that holds something else, or
            another drive of the same names, or that another export is writing to.
        CorruptStoreError: a frame that is damaged.
        StorageError: the disk refuses.
    """
    store = Store.open(options.cache)
    check_free(options.out)
    tokens = chosen(options, store)
    refs = [ref for ref in store.frames if ref.token in tokens]
    names = {ref.token: f"{_folder_name(ref.scene)}/{ref.index:06d}-{quote(ref.token, safe='')}" for ref in refs}
    before = 0
    note = f"what is written in {options.out} stays; the same command does the rest"
    busy = ConfigError("another export is writing to this folder", path=options.out, remedy="Wait until it ends")
    with locked(options.out / LOCK, busy), kept(lambda: note):
        known = _known(options.out / INDEX, store)
        _check_drives(options.out / INDEX, known, refs)
        with progress("export", "frames", len(refs)) as counter:
            for ref in refs:
                arrays = arrays_of(store.read(ref))
                if _is_there(options.out / names[ref.token], arrays, options.format):
                    before += 1
                else:
                    _check_points(options.out / names[ref.token], arrays["xyz"], ref, options.format)
                    _write(options.out / names[ref.token], arrays, options.format)
                counter.advance()
        written = [_entry(ref, names[ref.token], options.format) for ref in refs]
        entries = {entry["path"]: entry for entry in (*known, *written)}
        content = {
            "provenance": store.provenance.model_dump(mode="json"),
            "classes": list(store.vocabulary.names),
            "frames": [entries[path] for path in sorted(entries)],
        }
        write_whole(options.out / INDEX, (strict_json.dumps(content, indent=2) + "\n").encode())
    return ArraysSummary(out=str(options.out), frames=len(refs), frames_before=before, warnings=store.warnings())


def _folder_name(scene: str) -> str:
    """A scene's name with all signs escaped that no file name has; a folder that is above is none."""
    name = quote(scene, safe="")
    return name.replace(".", "%2E") if name in (".", "..") else name


def _known(index: Path, store: Store) -> list[dict[str, Any]]:
    """The frames that were written before, of this store."""
    if not index.exists():
        return []
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        frames = {entry["path"]: entry for entry in content["frames"]}
        same = content["provenance"] == store.provenance.model_dump(mode="json")
    except faults(OSError, ValueError, KeyError, TypeError) as error:
        raise _no_index(index) from error
    if not same:
        raise ConfigError("arrays of another store lie here", path=index, remedy="Give another --out")
    return list(frames.values())


def _check_drives(index: Path, known: Sequence[Mapping[str, Any]], refs: Sequence[FrameRef]) -> None:
    """Check that no scene that is there is another drive in the store: the index would mix the two."""
    try:
        there = [(entry["scene"], entry["index"], entry["token"]) for entry in known]
    except faults(KeyError, TypeError) as error:
        raise _no_index(index) from error
    scene = other_drive(there, [(ref.scene, ref.index, ref.token) for ref in refs])
    if scene is not None:
        raise ConfigError(
            f"the folder holds other frames of scene {scene!r}, none of which are exported now: it is another drive of"
            " the name, or one with new tokens",
            path=index,
            remedy=_ELSEWHERE,
        )


def _check_points(path: Path, xyz: NDArray[np.float32], ref: FrameRef, form: str) -> None:
    """Check that a frame that is written again is the same sweep, whatever else of it has changed."""
    file = path / "xyz.npy" if form == "npy" else path.with_name(f"{path.name}.npz")
    try:
        if form == "npy":
            there = np.load(file, allow_pickle=False)
        else:
            with np.load(file, allow_pickle=False) as archive:
                there = archive["xyz"]
        same = same_sweep(there, xyz)
    except faults(Exception, most=2 * xyz.nbytes):  # none, or damaged bytes: they are written anew
        return
    if not same:
        raise ConfigError(
            f"the folder holds another sweep as this frame of scene {ref.scene!r}: it is another drive of the name",
            path=file,
            frame=ref.token,
            remedy=_ELSEWHERE,
        )


def _no_index(index: Path) -> ConfigError:
    return ConfigError("no index of exported frames", path=index, remedy="Delete it, or give another --out")


def _is_there(path: Path, arrays: Mapping[str, NDArray[Any]], form: str) -> bool:
    """Whether a frame lies there as it would be written: the same arrays, bit for bit."""
    try:
        if form == "npy":
            return all(_same(np.load(path / f"{name}.npy", allow_pickle=False), arrays[name]) for name in arrays)
        with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as there:
            return set(there.files) == set(arrays) and all(_same(there[name], arrays[name]) for name in arrays)
    except faults(Exception, most=sum(array.nbytes for array in arrays.values())):  # of damaged bytes: anything
        return False


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype) and one.tobytes() == other.tobytes()


def arrays_of(frame: CachedFrame) -> dict[str, NDArray[Any]]:
    """The arrays of a frame by the names of its attributes; features in float16."""
    arrays = {name: value for name, value in vars(frame).items() if isinstance(value, np.ndarray)}
    return arrays | {"clip": frame.clip.astype(np.float16)}


def _write(path: Path, arrays: Mapping[str, NDArray[Any]], form: str) -> None:
    """Whole or not at all: of a folder, `xyz.npy` is the last."""
    if form == "npz":
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_whole(path.with_name(f"{path.name}.npz"), content.getvalue())
        return
    for name in sorted(arrays, key=lambda name: name == "xyz"):
        content = io.BytesIO()
        np.save(content, arrays[name])
        write_whole(path / f"{name}.npy", content.getvalue())


def _entry(ref: FrameRef, name: str, form: str) -> dict[str, Any]:
    return {
        "token": ref.token,
        "scene": ref.scene,
        "index": ref.index,
        "subset": ref.subset,
        "labelled": ref.labelled,
        "path": f"{name}.npz" if form == "npz" else name,
    }
