"""Damage at rest: one thing is done to a store that lies there; who looks at it tells, and what mends it is run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ovps.cache.layout import CODEC_STATE, INFO, MANIFESTS, VOCABULARY, manifest_key, partition_key
from ovps.cache.manifest import read_manifests
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.errors import OvpsError
from tests.helpers.stores import contents, written
from tools.chaos.ground import Ground
from tools.chaos.outcome import Outcome

Damage = Callable[[Ground, Path, np.random.Generator], str]  # does it, and says what it did
TRAINED = 12  # of so many damages one is shown to a real training
BY_PRECOMPUTE = 0.3  # share of damages that precompute is run on before repair


def bit_flip(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    return _flip(_some_array(store, rng), rng)


def truncation(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    return _truncate(_some_array(store, rng), rng)


def deletion(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    file = _some_array(store, rng)
    if rng.random() < 0.15:
        folder = store / "partitions" / file.relative_to(store / "partitions").parts[0]
        shutil.rmtree(folder)
        return f"{folder.name} deleted"
    file.unlink()
    return f"{file.name} deleted"


def foreign_file(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    """Other bytes of the same length in place of a file, or a file that belongs to nothing."""
    file = _some_array(store, rng)
    if rng.random() < 0.2:
        added = file.parent / "notes.txt"
        added.write_text("not of the store")
        return f"{added} added"
    length = file.stat().st_size
    file.write_bytes(bytes(length) if rng.random() < 0.5 else rng.bytes(length))
    return f"{file} replaced"


def swapped_files(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    """The same array of two partitions, or both whole folders, change places."""
    rows = list(read_manifests(storage_of(store)))
    one, other = (store / partition_key(rows[k].features.folder) for k in rng.choice(len(rows), 2, replace=False))
    if rng.random() < 0.3:
        return _swap(one, other)
    names = [p.relative_to(one) for p in _files(one) if (other / p.relative_to(one)).is_file()]
    names = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    name = names[rng.integers(len(names))]
    return _swap(one / name, other / name)


def other_store(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    """A file, a manifest or a whole partition of another store, which was made with another grid, in place of ours."""
    rows = {row.partition: row for row in read_manifests(storage_of(store))}
    name = sorted(rows)[rng.integers(len(rows))]
    theirs = next(row for row in read_manifests(storage_of(ground.stranger)) if row.partition == name)
    what = rng.choice(["file", "manifest", "partition"])
    if what != "file":
        shutil.copy(ground.stranger / manifest_key(name), store / manifest_key(name))
        for part in theirs.parts.values() if what == "partition" else ():
            key = partition_key(part.folder)
            shutil.copytree(ground.stranger / key, store / key, dirs_exist_ok=True)
        return f"{what} {name} of another store"
    ours = store / partition_key(rows[name].features.folder)
    their = ground.stranger / partition_key(theirs.features.folder)
    names = [p.relative_to(ours) for p in _files(ours) if (their / p.relative_to(ours)).is_file()]
    names = [n for n in names if (ours / n).read_bytes() != (their / n).read_bytes()]
    chosen = names[rng.integers(len(names))]
    shutil.copy(their / chosen, ours / chosen)
    return f"{chosen} of another store"


def manifest(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    files = sorted((store / MANIFESTS).iterdir())
    one, other = (files[k] for k in rng.choice(len(files), 2, replace=False))
    what = rng.choice(["flip", "flip", "flip", "truncate", "delete", "swap", "copy"])
    match what:
        case "flip":
            return _flip(one, rng)
        case "truncate":
            return _truncate(one, rng)
        case "delete":
            one.unlink()
        case "swap":
            return _swap(one, other)
        case "copy":
            shutil.copy(other, one)
    return f"{what} {one.name}"


def file_of_the_whole(ground: Ground, store: Path, rng: np.random.Generator) -> str:
    """store.json, the vocabulary, the state of the codec."""
    file = store / [INFO, INFO, VOCABULARY, CODEC_STATE][rng.integers(4)]
    what = rng.choice(["flip", "flip", "truncate", "delete", "foreign"])
    match what:
        case "flip":
            return _flip(file, rng)
        case "truncate":
            return _truncate(file, rng)
        case "delete":
            file.unlink()
        case "foreign":
            foreign = ground.stranger / INFO if file.name == INFO else store / manifest_key(_first(store))
            shutil.copy(foreign, file)
    return f"{what} {file.name}"


DAMAGES: dict[str, Damage] = {
    "bit flip": bit_flip,
    "truncation": truncation,
    "deletion": deletion,
    "foreign file": foreign_file,
    "swapped between partitions": swapped_files,
    "from another store": other_store,
    "manifest": manifest,
    "store.json, vocabulary, codec": file_of_the_whole,
}


def damages(ground: Ground, kind: str, rng: np.random.Generator, count: int) -> Iterator[Outcome]:
    """Do one kind of damage so often, each to a store that is whole."""
    store = Path(shutil.copytree(ground.whole, ground.folder / "damaged", dirs_exist_ok=True))
    for number in range(count):
        before = contents(store)
        what = DAMAGES[kind](ground, store, rng)
        outcome = Outcome(kind, what)
        if contents(store) == before:
            raise AssertionError(f"{what}: nothing was damaged")
        ground.watch(store, outcome, trained=number % TRAINED == 1)
        _mend(ground, store, outcome, rng)
        if not ground.compare(store, outcome):
            outcome.note = outcome.note or "not mended"
        if not outcome.good:
            shutil.rmtree(store)
            shutil.copytree(ground.whole, store)
        yield outcome
    shutil.rmtree(store)


def _mend(ground: Ground, store: Path, outcome: Outcome, rng: np.random.Generator) -> None:
    """As the remedies say: repair; or precompute where it tells, or after damaged partitions lost their manifests."""
    try:
        if rng.random() < BY_PRECOMPUTE:
            ground.precompute(store)  # what is lost without a trace it makes anew; files it does not look into
            if _delete_manifests(store):
                ground.precompute(store)
            if written(store) == ground.bytes:
                outcome.mended = "precompute" if outcome.seen else "nothing"
                return
    except OvpsError:
        outcome.seen.add("precompute")
    if written_or_none(store) == ground.bytes and not outcome.seen:
        return  # of a file what nobody reads
    try:
        left = ground.repair(store).left
        outcome.mended = "repair"
        for text in left:
            added = Path(text.partition(": ")[0])
            if added.name != "notes.txt":
                outcome.note = text
            added.unlink(missing_ok=True)
    except OvpsError as error:
        if INFO not in str(error) and (store / INFO).exists():
            outcome.note = f"repair: {error}"
        (store / INFO).unlink(missing_ok=True)  # as the remedy says
        ground.precompute(store)
        outcome.mended = "precompute"


def written_or_none(store: Path) -> dict[str, object] | None:
    """What a store holds; None where its manifests cannot be read."""
    try:
        return written(store)
    except (OvpsError, OSError):
        return None


def _delete_manifests(store: Path) -> int:
    """Of the partitions that are said to be damaged; how many those were."""
    named = [store / manifest_key(name) for name in sorted(p.stem for p in (store / MANIFESTS).iterdir())]
    remedies = [problem.remedy for problem in verify_store(store)]
    wrong = [file for file in named if any(f"Delete {file} " in remedy for remedy in remedies)]
    for file in wrong:
        file.unlink()
    return len(wrong)


def _some_array(store: Path, rng: np.random.Generator) -> Path:
    files = _files(store / "partitions")
    return files[rng.integers(len(files))]


def _files(folder: Path) -> list[Path]:
    return sorted((p for p in folder.rglob("*") if p.is_file() and p.stat().st_size), key=_name)


def _name(file: Path) -> str:
    """Its path without what is drawn anew at each writing, so that a seed means the same files."""
    return "/".join(part.rpartition("-")[0] if part.endswith(".zarr") else part for part in file.parts)


def _first(store: Path) -> str:
    return sorted((store / MANIFESTS).iterdir())[0].stem


def _flip(file: Path, rng: np.random.Generator) -> str:
    content = bytearray(file.read_bytes())
    position, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[position] ^= 1 << bit
    file.write_bytes(content)
    return f"{_name(file)}: bit {bit} of byte {position}"


def _truncate(file: Path, rng: np.random.Generator) -> str:
    content = file.read_bytes()
    file.write_bytes(content[: rng.integers(len(content))])
    return f"{_name(file)}: cut off"


def _swap(one: Path, other: Path) -> str:
    away = one.with_name("away")
    one.rename(away)
    other.rename(one)
    away.rename(other)
    return f"{_name(one)} and {_name(other)} swapped"
