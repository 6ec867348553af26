"""Parts of an experiment that were run on several machines, as one: the first part says what belongs to it.

A machine that has gone took its runs along; what it left are results.parquet and results.json, and those are enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ovps.errors import ConfigError, faults_of, listed
from ovps.evaluation.comparison import main_system
from ovps.parquet import read_parquet
from ovps.places import check_free
from ovps.shortage import faults
from ovps.training.config import flat
from pipelines.experiment.collect import JSON, PARQUET, SCHEMA, Made, Results, RunRecord, earlier, made, write
from pipelines.experiment.provenance import command_line

SAME = ("world", "data", "clip", "train", "set", "subset")  # of an experiment: else scores do not compare
OWN = ("seed", "threads")  # settings of a run that may differ within a row of the table
_AGAIN = "Copy both files again from where they were made, or run the experiment, or the join, again"

Cell = tuple[str, str, int]  # system, split, seed


@dataclass(frozen=True)
class JoinSummary:
    """Summary of a join.

    Attributes:
        results, table: files written.
        done, missing: cells (system, split, seed) that are scored, and that are not.
        same, other: cells of several parts, from equal weights, and from others: of these the first part's is taken.
        left_out: cells that a part has scored and the first one's experiment does not ask for.
        warnings: where parts were made by different code or versions, or by code with changes that nobody has.
    """

    results: Path
    table: Path
    done: int
    missing: list[str]
    same: list[str]
    other: list[str]
    left_out: list[str]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Part:
    """Results of one machine."""

    folder: Path
    results: Results
    rows: pa.Table


def read_part(folder: Path) -> Part:
    """The two files of an experiment's `out`.

    Raises:
        ConfigError: one is not there, of another version, damaged, or not that of the other.
    """
    results = earlier(folder)
    if results is None:
        raise ConfigError(
            f"no results of an experiment: {JSON} is not there",
            path=folder,
            remedy=f"Name the folder that `ovps experiment run` wrote {JSON} and {PARQUET} to: its `out`",
        )
    try:
        rows = read_parquet(folder / PARQUET).cast(SCHEMA)
        changed = results.written is not None and PARQUET in results.written.changed(folder)
    except faults(OSError, pa.ArrowException, ValueError) as error:
        raise ConfigError(f"cannot be read: {faults_of(error)}", path=folder / PARQUET, remedy=_AGAIN) from error
    differ = _other_cells(results, rows)
    if changed or differ:
        where = f": they differ in {listed(differ, 1)}" if differ else ""
        raise ConfigError(f"damaged, or not that of the {JSON} beside it{where}", path=folder / PARQUET, remedy=_AGAIN)
    return Part(folder, results, rows)


def _other_cells(results: Results, rows: pa.Table) -> list[str]:
    """Cells that only one file has, or another mIoU of: all that tells where an earlier version wrote no digests."""
    said = {_cell(record): _miou(record) for record in results.runs}
    lines = ((line, (line["system"], line["split"], line["seed"])) for line in rows.to_pylist())
    there = {cell: line["miou"] for line, cell in lines if line["kind"] == "system" and line["group"] == "all"}
    return [_label(cell) for cell in dict.fromkeys([*said, *there]) if not _alike(said.get(cell), there.get(cell))]


def _miou(record: RunRecord) -> float:
    classes = record.classes.get("system", [])
    return sum(one.get("iou", 0.0) for one in classes) / max(len(classes), 1)


def _alike(one: float | None, two: float | None) -> bool:
    return one is not None and two is not None and math.isclose(one, two, abs_tol=1e-9)


def join(folders: Sequence[Path], out: Path) -> JoinSummary:
    """Write the results of one experiment from those of its parts.

    Args:
        folders: of the parts. The first one's experiment says which cells belong; of others only those are taken.
        out: folder of the two files; may be one of the parts.

    Raises:
        ConfigError: a part cannot be read, its world, cache or settings are not those of the first, or nothing of
            them belongs to the first one's experiment.
    """
    check_free(out)
    parts = [read_part(folder) for folder in folders]
    whole = parts[0].results
    asked = _cells(whole)
    for part in parts[1:]:
        _check_same_ground(parts[0], part)
    chosen: dict[Cell, tuple[Part, RunRecord]] = {}
    same: list[str] = []
    other: list[str] = []
    left_out: list[str] = []
    for part in parts:
        for record in part.results.runs:
            cell = _cell(record)
            if cell not in asked:
                left_out.append(_label(cell))
            elif cell in chosen:
                equal = chosen[cell][1].checkpoint_sha256 == record.checkpoint_sha256
                (same if equal else other).append(_label(cell))
            else:
                chosen[cell] = part, record
    if not chosen:
        raise ConfigError(
            f"none of its results is of a system, split and seed that its experiment {whole.experiment.name} asks for",
            path=parts[0].folder,
            remedy="Run that experiment again, which writes them anew, or name another part first",
        )
    order = [cell for cell in asked if cell in chosen]
    missing = [_label(cell) for cell in asked if cell not in chosen]
    records = [chosen[cell][1] for cell in order]
    _check_same_settings(records)
    results = Results(
        experiment=whole.experiment,
        missing=missing,
        split_names=whole.split_names,
        runs=records,
        parts=_all_parts(parts),
        **made(command_line(), {}).model_dump(),
    )
    write(out, results, pa.concat_tables([*(_rows(chosen[cell][0], cell) for cell in order), *_references(chosen)]))
    return JoinSummary(
        results=out / JSON,
        table=out / PARQUET,
        done=len(order),
        missing=missing,
        same=_distinct(same),
        other=_distinct(other),
        left_out=_distinct(left_out),
        warnings=[*_made_differently(parts), *_fitted_anew(records), *_not_asked(parts, _distinct(left_out))],
    )


def _not_asked(parts: Sequence[Part], left_out: Sequence[str]) -> list[str]:
    """What the first part's experiment does not ask for, and which other part's does."""
    if not left_out:
        return []
    asked = {part.folder: set(map(_label, _cells(part.results))) for part in parts}
    better = next((folder for folder, cells in asked.items() if cells.issuperset(left_out)), None)
    text = f"the experiment of {parts[0].folder}, the first that was named, does not ask for {listed(left_out)}"
    return [f"{text}, which is left out" + (f": name {better} first to have it" if better else "")]


def _cells(results: Results) -> list[Cell]:
    """What the experiment of some results asks for, in the order of the table."""
    experiment = results.experiment
    systems = [Path(name).stem for name in experiment.systems]
    splits = [results.split_names.get(name, Path(name).stem) for name in experiment.splits]
    return [(system, split, seed) for seed, split, system in product(experiment.seeds, splits, systems)]


def _cell(record: RunRecord) -> Cell:
    return record.system, record.split, record.seed


def _label(cell: Cell) -> str:
    system, split, seed = cell
    return f"{system}, {split}, seed {seed}"


def _distinct(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))


def _rows(part: Part, cell: Cell, references: bool = False) -> pa.Table:
    # masks, not an expression: that would be evaluated by threads, see `ovps.parquet`
    mask = pc.equal(pc.equal(part.rows["kind"], "reference"), references)
    for name, value in zip(("system", "split", "seed"), cell, strict=True):
        mask = pc.and_(mask, pc.equal(part.rows[name], value))
    return part.rows.filter(mask)


def _references(chosen: Mapping[Cell, tuple[Part, RunRecord]]) -> Iterator[pa.Table]:
    """Rows of each split: of the main system's lowest seed of which a part has some, else of any system."""
    main = main_system([system for system, _, _ in chosen])
    for split in dict.fromkeys(split for _, split, _ in chosen):
        cells = sorted((cell for cell in chosen if cell[1] == split), key=lambda c: (c[0] != main, c[2]))
        found = (_rows(chosen[cell][0], cell, references=True) for cell in cells)
        yield next((rows for rows in found if rows.num_rows), SCHEMA.empty_table())


def _check_same_ground(first: Part, other: Part) -> None:
    one, two = (part.results.experiment.model_dump(mode="json") for part in (first, other))
    differ = [name for name in SAME if one[name] != two[name]]
    if differ:
        raise ConfigError(
            f"{', '.join(differ)} not as in {first.folder}: {[two[n] for n in differ]}, {[one[n] for n in differ]}",
            path=other.folder,
            remedy="Join results of one world, one cache and one training config only",
        )


def _check_same_settings(records: Sequence[RunRecord]) -> None:
    """Within a row of the table all but the seed is the same: cache, settings, length, thresholds.

    Not the digests of the vocabulary and of what the codec has fitted: the same words and features differ in their
    last bits on another CPU.
    """
    first: dict[tuple[str, str], RunRecord] = {}
    for record in records:
        known = first.setdefault((record.system, record.split), record)
        one, two = _settings(known), _settings(record)
        differ = [name for name in {**one, **two} if one.get(name) != two.get(name)]
        if differ:
            cells = f"{_label(_cell(known))} and {_label(_cell(record))}"
            raise ConfigError(
                f"{cells} differ in {', '.join(differ)}",
                remedy="Seeds of one row must share everything else: run one of them again",
            )


def _settings(record: RunRecord) -> dict[str, Any]:
    settings = {name: value for name, value in flat(record.config).items() if name not in OWN}
    cache = record.cache.model_copy(update={"codec_state_sha256": None})
    return settings | {"cache": cache, "steps": record.step} | record.inference


def _fitted_anew(records: Sequence[RunRecord]) -> list[str]:
    """Say of which seeds of one row the stores are not one, but made with a codec that was fitted on each machine."""
    rows: dict[tuple[str, str], set[str | None]] = {}
    for record in records:
        rows.setdefault((record.system, record.split), set()).add(record.cache.codec_state_sha256)
    several = [f"{system} on {split}" for (system, split), states in rows.items() if len(states) > 1]
    if not several:
        return []
    return [
        f"seeds of {listed(several)} are of stores that were made apart, whose codec was fitted on each: their features"
        " may differ in what it rounds"
    ]


def _made_differently(parts: Sequence[Part]) -> list[str]:
    """What was not the same wherever parts were made, a sentence each, with the folders of the parts."""
    made_by = [(part.folder, one) for part in parts for one in _parts_of(part)]
    code = _folders_by((str(one.code), folder) for folder, one in made_by)
    uncommitted = any(one.code.dirty for _, one in made_by)
    told = [("parts are of code with uncommitted changes", code)] if uncommitted else []
    told = [("parts are of different code", code)] if len(code) > 1 else told
    for name in dict.fromkeys(name for _, one in made_by for name in one.versions):
        versions = _folders_by((one.versions.get(name, "unknown"), folder) for folder, one in made_by)
        if len(versions) > 1:
            told.append((f"parts are of different versions of {name}", versions))
    return [
        f"{what}: " + "; ".join(f"{value} ({', '.join(folders)})" for value, folders in values.items())
        for what, values in told
    ]


def _folders_by(found: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Folders by a value that was found in them."""
    values: dict[str, list[str]] = {}
    for value, folder in found:
        if str(folder) not in values.setdefault(value, []):
            values[value].append(str(folder))
    return values


def _all_parts(parts: Sequence[Part]) -> list[Made]:
    """How each was made, once: a part that is itself a join may hold another one."""
    every = [one for part in parts for one in _parts_of(part)]
    return [one for number, one in enumerate(every) if one not in every[:number]]


def _parts_of(part: Part) -> list[Made]:
    return part.results.parts or [_made(part.results)]


def _made(results: Results) -> Made:
    return Made.model_validate(results.model_dump(include=set(Made.model_fields)))
