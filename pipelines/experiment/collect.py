"""Scores of an experiment: `results.parquet` to compute with, `results.json` to know where they are from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from cache_schemas import Provenance
from ovps.errors import ConfigError, faults_of, listed
from ovps.evaluation.comparison import Scored, main_system, references_of
from ovps.evaluation.console import SCORES
from ovps.evaluation.results import Row, split_of
from ovps.shortage import faults
from ovps.taxonomy import load_split
from ovps.training.config import TrainConfig
from ovps.training.files import write_together
from ovps.training.metrics import lost_curves, read_metrics, training_seconds
from ovps.training.run_files import load_settings
from ovps.training.system_files import load_system
from ovps.versions import WROTE_IT, only_unknown, other_format
from pipelines.evaluate import split_warnings, versions
from pipelines.experiment.cell import found
from pipelines.experiment.provenance import CodeState, code_state, this_machine
from pipelines.experiment.schema import Experiment
from pipelines.experiment.trainings import Training
from pipelines.written import WRITTEN, Written

PARQUET = "results.parquet"
JSON = "results.json"
FORMAT = "ovps-experiment-1"

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("system", "split")),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("row", "kind", "group")),
        *((name, pa.float64()) for name in ("pq", "sq", "rq", "pq_dagger", "miou")),
        *((name, pa.float64()) for name in ("mask_recall", "mask_recall_merged")),
        ("training_minutes", pa.float64()),
        ("steps", pa.int64()),
        ("parameters", pa.int64()),
    ]
)


class RunRecord(BaseModel, frozen=True):
    """One system, split and seed in results.json. Scores are fractions."""

    system: str
    split: str
    seed: int
    run: str
    evaluation: str
    training_key: str
    checkpoint_sha256: str | None
    vocabulary_sha256: str | None
    config: TrainConfig
    inference: dict[str, Any]
    step: int
    training_minutes: float | None
    parameters: int | None
    evaluation_seconds: float
    machine: str
    versions: dict[str, str]
    cache: Provenance
    classes: dict[str, list[dict[str, Any]]]


class Made(BaseModel, frozen=True):
    """Origin of results: code, machine, versions, commands.

    Attributes:
        seconds: of every command that was needed.
    """

    command: str
    code: CodeState
    machine: str
    versions: dict[str, str]
    seconds: dict[str, float]


class Results(Made):
    """Content of results.json.

    Attributes:
        missing: cells of the experiment that are not done.
        split_names: of its split files, by which scores are known; empty where an earlier version wrote it.
        runs: each with the scores of every class, by row; reference rows once per split.
        parts: of results that were joined, how each part was made. Their own command, code, machine and versions are
            then those that joined them: no score comes from there.
        written: digests of it and of results.parquet; None where an earlier version wrote it.
    """

    format: str = FORMAT
    experiment: Experiment
    missing: list[str]
    split_names: dict[str, str] = {}
    runs: list[RunRecord]
    parts: list[Made] = []
    written: Written | None = Field(None, exclude=True)  # made anew whenever it is saved


@dataclass(frozen=True, eq=False)
class Collected:
    """One cell of an experiment that is done."""

    training: Training
    folder: Path
    scored: Scored


def collect(trainings: Sequence[Training]) -> tuple[list[Collected], list[str]]:
    """The cells that are done, and the names of those that are not."""
    there: list[Collected] = []
    missing: list[str] = []
    for training in trainings:
        for evaluation in training.evaluations:
            result = found(training, evaluation)
            if result is None:
                missing.append(evaluation.label)
                continue
            scored = Scored(
                system=Path(evaluation.system).stem,
                split=result.split,
                seed=evaluation.seed,
                result=result,
                training_minutes=training_minutes(training.run, result.step),
            )
            there.append(Collected(training, training.folder(evaluation), scored))
    return there, missing


def warnings_of(cells: Sequence[Collected]) -> list[str]:
    """List what evaluations and curves warn of, each once, with the cells that it is said of where not of all.

    Not that a system which is trained by a split of its own, as an upper bound, has seen novel labels: it is meant to.
    """
    said_of: dict[str, list[str]] = {}
    for cell in cells:
        result, run = cell.scored.result, cell.training.run
        config, info = load_settings(run)
        expected: list[str] = []
        if load_system(cell.training.system).train_split is not None:
            expected = split_warnings(split_of(result), info.split, result.novel_taught, result.base_hidden)
        for warning in [*result.warnings, *lost_curves(run, result.step, info.total_steps, config.log_interval)]:
            if warning not in expected:
                label = f"{cell.scored.system}, {cell.scored.split}, seed {cell.scored.seed}"
                said_of.setdefault(warning, []).append(label)
    return [
        warning if len(labels) == len(cells) else f"{warning} ({'; '.join(labels[:3])}{' ...' * (len(labels) > 3)})"
        for warning, labels in said_of.items()
    ]


def earlier(out: Path) -> Results | None:
    """The results that a folder holds; None where it holds none.

    Raises:
        ConfigError: another version wrote them, they cannot be read, or have changed after they were written.
    """
    try:
        return read_results(out / JSON)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except faults(OSError, ValueError) as error:
        raise ConfigError(
            f"damaged, or no results of an experiment: {faults_of(error)}",
            path=out / JSON,
            remedy="Restore it, or delete it and run the experiment: scores that it does not ask for are lost",
        ) from error


def check_kept(out: Path) -> None:
    """Check that results which are written to a folder will lose none that only the folder has.

    Raises:
        ConfigError: results lie there that cannot be read, of another version, or joined with those of other machines.
    """
    before = earlier(out)
    if before is None or not before.parts:
        return
    elsewhere = [run for run in before.runs if not Path(run.run).is_dir()]
    if elsewhere:
        names = listed(f"{run.system} {run.split} seed {run.seed}" for run in elsewhere)
        raise ConfigError(
            f"joined results, whose scores of runs that are not here would be lost: {names}",
            path=out / JSON,
            remedy="Name another folder as `out` of the experiment; `ovps experiment join` then joins it with this one",
        )


def read_results(path: Path) -> Results:
    """Read results.json.

    Raises:
        ConfigError: another version wrote it.
        OSError, ValueError: it cannot be read, holds something else, or has changed after it was written.
    """
    content = path.read_bytes()
    record = json.loads(content)
    if other := other_format(record, FORMAT):
        raise ConfigError(other, path=path, remedy=WROTE_IT)
    try:
        results = Results.model_validate_json(content)
    except ValidationError as error:
        if unknown := only_unknown(error):
            raise ConfigError(unknown, path=path, remedy=WROTE_IT) from error
        raise
    if results.written is not None and not results.written.is_of(record):
        raise ValueError(f"{path.name} changed after it was written")
    return results


def left_out(before: Results, there: Sequence[Collected]) -> list[RunRecord]:
    """Earlier results that are not there now: with today's settings and data their cells are not done, or others."""
    now = {(c.scored.system, c.scored.split, c.scored.seed, c.training.key) for c in there}
    return [run for run in before.runs if (run.system, run.split, run.seed, run.training_key) not in now]


def training_minutes(run: Path, steps: int) -> float | None:
    """Estimate the minutes of a training by its logged steps; None where none is logged."""
    seconds = training_seconds(read_metrics(run), steps)
    return None if seconds is None else seconds / 60


def lines(cells: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """Rows of results.parquet. Reference rows come once per split, from the main system's first seed."""
    for cell in cells:
        result = cell.result
        kinds = [(result.system, "system"), *((row, "variant") for row in result.variants)]
        kinds += [(row, "part") for row in result.parts]
        for row, kind in kinds:
            yield from _lines(cell, row, kind)
    for source in sources(cells):
        for row in source.result.references:
            yield from _lines(source, row, "reference")


def sources(cells: Sequence[Scored]) -> list[Scored]:
    """The cells whose reference rows are kept, one per split."""
    main = main_system([c.system for c in cells])
    return [
        references_of([c for c in cells if c.split == split], main) for split in dict.fromkeys(c.split for c in cells)
    ]


def _lines(cell: Scored, row: Row, kind: str) -> Iterator[dict[str, Any]]:
    own = kind == "system"
    for group in row.panoptic.columns:
        yield {
            "system": cell.system,
            "split": cell.split,
            "seed": cell.seed,
            "row": row.name,
            "kind": kind,
            "group": group,
            **{name: row.score(group, name) for name in SCORES},
            "mask_recall": cell.result.mask_recall["queries"].score(group) if own else None,
            "mask_recall_merged": cell.result.mask_recall["merged"].score(group) if own else None,
            "training_minutes": cell.training_minutes if own else None,
            "steps": cell.result.step if own else None,
            "parameters": cell.result.parameters if own else None,
        }


def save(
    experiment: Experiment, collected: Sequence[Collected], missing: list[str], command: str, seconds: dict[str, float]
) -> None:
    """Write both files to the experiment's `out`.

    Raises:
        CheckpointError: the disk refuses.
    """
    scored = [c.scored for c in collected]
    kept = sources(scored)
    results = Results(
        experiment=experiment,
        missing=missing,
        split_names={file: load_split(file).name for file in experiment.splits},
        runs=[_record(c, references=c.scored in kept) for c in collected],
        **made(command, seconds).model_dump(),
    )
    write(experiment.out, results, pa.Table.from_pylist(list(lines(scored)), schema=SCHEMA))


def made(command: str, seconds: dict[str, float]) -> Made:
    """Here and now."""
    return Made(command=command, code=code_state(), machine=this_machine(), versions=versions(), seconds=seconds)


def write(out: Path, results: Results, table: pa.Table) -> None:
    """Write results.parquet and results.json, which holds the digests of both.

    Raises:
        CheckpointError: the disk refuses.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    contents = {PARQUET: buffer.getvalue().to_pybytes()}
    record = json.loads(results.model_dump_json())  # as it will be read
    record[WRITTEN] = Written.of(record, contents).model_dump()
    contents[JSON] = (json.dumps(record) + "\n").encode()
    write_together({out / name: content for name, content in contents.items()})


def _record(collected: Collected, references: bool) -> RunRecord:
    result, training = collected.scored.result, collected.training
    config, _ = load_settings(training.run)
    rows = result.rows if references else [result.system, *result.variants, *result.parts]
    return RunRecord(
        system=collected.scored.system,
        split=result.split,
        seed=collected.scored.seed,
        run=str(training.run),
        evaluation=str(collected.folder),
        training_key=training.key,
        checkpoint_sha256=result.checkpoint_sha256,
        vocabulary_sha256=result.vocabulary_sha256,
        config=config,
        inference=result.inference,
        step=result.step,
        training_minutes=collected.scored.training_minutes,
        parameters=result.parameters,
        evaluation_seconds=result.seconds,
        machine=result.machine,
        versions=result.versions,
        cache=result.cache,
        classes={row.name: [c.model_dump() for c in row.panoptic.classes] for row in rows},
    )
