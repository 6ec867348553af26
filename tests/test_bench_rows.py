"""The contract of the benchmarks: rows, their table, their JSON; no benchmark is run."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from benchmarks import __main__ as bench
from benchmarks.rows import HEAD, Row, record, rows_of, table

FAST = Row("reading", "numpy", measured=10.0, against=40.0, unit="ms", aim=0.5)
SLOW = Row("precompute", "bare encoder", measured=20.0, against=40.0, unit="images/s", aim=0.9, more=True)
PLAIN = Row("a step", "with CLIP online", measured=0.25, against=0.5, unit="s")


@pytest.mark.parametrize(
    ("row", "ratio", "met"),
    [
        (FAST, 0.25, True),
        (Row("reading", "numpy", 20.001, 40.0, "ms", 0.5), 0.500025, False),
        (SLOW, 0.5, False),
        (Row("precompute", "bare encoder", 36.0, 40.0, "images/s", 0.9, more=True), 0.9, True),
        (PLAIN, 0.5, None),
    ],
)
def test_a_ratio_and_whether_its_aim_is_met(row, ratio, met):
    assert row.ratio == pytest.approx(ratio)
    assert row.met is met
    assert record(row)["met"] is met


def test_the_table_has_a_line_for_each_row():
    head, rule, *lines = table([FAST, SLOW, PLAIN]).splitlines()
    assert head.split() == list(HEAD)
    assert set(rule) == {"-"}
    assert [line.split("  ")[0] for line in lines] == ["reading", "precompute", "a step"]
    assert "numpy: 40 ms" in lines[0]
    assert lines[0].endswith("yes")
    assert ">= 0.9" in lines[1]
    assert lines[1].endswith("NO")
    assert lines[2].endswith("0.5")  # no aim, nothing to be met


@pytest.mark.parametrize("name", bench.NAMES)
def test_every_benchmark_of_the_table_has_rows(name):
    assert callable(importlib.import_module(f"benchmarks.bench_{name}").rows)


class Here:
    """An executor that runs what it is given at once."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, do, name):
        class Done:
            def result(self):
                return do(name)

        return Done()


def test_json_and_a_benchmark_that_fails(tmp_path, monkeypatch, capsys):
    def fake(name):
        if name == "step":
            raise RuntimeError("out of breath")
        return [FAST, SLOW]

    monkeypatch.setattr(bench, "rows_of", fake)
    monkeypatch.setattr(bench, "ProcessPoolExecutor", Here)
    file = tmp_path / "made" / "results.json"
    monkeypatch.setattr(sys, "argv", ["bench", "step", "flow", "--json", str(file)])
    assert bench.main() == 1
    written = json.loads(file.read_text())
    assert written["failed"] == {"step": "RuntimeError: out of breath"}
    assert [(row["benchmark"], row["figure"], row["ratio"]) for row in written["rows"]] == [
        ("flow", "reading", 0.25),
        ("flow", "precompute", 0.5),
    ]
    said = capsys.readouterr()
    assert said.out.splitlines() == table([FAST, SLOW]).splitlines()
    assert "step: RuntimeError: out of breath" in said.err


def test_a_name_that_is_none(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "flwo"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "no benchmark flwo; there are precompute, flow" in capsys.readouterr().err


def test_rows_of_a_benchmark(monkeypatch):
    monkeypatch.setattr(importlib.import_module("benchmarks.bench_flow"), "measured", lambda *_: (13.0, 16.0, 720))
    monkeypatch.setattr(importlib.import_module("ovps.machine"), "cores", lambda: 2)
    (row,) = rows_of("flow")
    assert row.against == pytest.approx(720 * 0.015)  # more than 16 s on two cores
    assert row.met is False
