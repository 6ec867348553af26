"""Results of several machines as one, and as Markdown."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from contextlib import nullcontext

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ovps.errors import ConfigError
from ovps.taxonomy import load_split
from pipelines.experiment.cell import Job, do
from pipelines.experiment.collect import check_kept, collect, save
from pipelines.experiment.join import join
from pipelines.experiment.provenance import code_state
from pipelines.experiment.runner import run
from pipelines.experiment.schema import load_experiment
from pipelines.experiment.table import result_table
from pipelines.experiment.trainings import plan
from tests.helpers.synthetic_store import write_synthetic_store
from tests.pipelines.test_experiment import SYSTEMS, write_experiment

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment of three systems and two seeds, all on one machine; its folder."""
    folder = tmp_path_factory.mktemp("whole")
    run(str(write_experiment(folder, write_synthetic_store(folder / "zarr", frames=2))))
    return folder


def part(made, folder, trained, **changes):
    """What another machine's `out` holds that ran only some seeds of the same experiment."""
    folder.mkdir()
    for seed in trained:
        for source in (made / "runs").glob(f"*-s{seed}-*"):
            shutil.copytree(source, folder / "runs" / source.name)
    experiment = load_experiment(str(write_experiment(folder, made / "zarr", **changes)))
    experiment = experiment.model_copy(update={"train": load_experiment(str(made / "tiny.yaml")).train})
    save(experiment, *collect(plan(experiment)), f"ovps experiment run tiny --seeds {trained}", {"ovps train": 1.0})
    return folder / "out"


def rows(out):
    return pq.read_table(out / "results.parquet").to_pylist()


def records(out):
    return json.loads((out / "results.json").read_text())


def by_cell(lines):
    return sorted(lines, key=lambda r: tuple(str(r[k]) for k in ("system", "seed", "kind", "row", "group")))


def rewrite(out, change):
    """Edit results.json as if another run of an earlier version, which wrote no digests, had written it."""
    content = records(out)
    content.pop("written", None)
    change(content)
    (out / "results.json").write_text(json.dumps(content))


def test_parts_are_the_whole(made, tmp_path):
    second, first = part(made, tmp_path / "b", (1,)), part(made, tmp_path / "a", (0,))
    assert len(records(first)["missing"]) == 3
    summary = join([second, first], tmp_path / "joined")
    assert (summary.done, summary.missing, summary.same, summary.other, summary.left_out) == (6, [], [], [], [])
    whole = rows(made / "out")
    assert by_cell(rows(tmp_path / "joined")) == by_cell(whole)
    assert [r["seed"] for r in rows(tmp_path / "joined") if r["kind"] == "reference"] == [0] * sum(
        r["kind"] == "reference" for r in whole
    )
    joined = records(tmp_path / "joined")
    assert [(r["system"], r["seed"]) for r in joined["runs"]] == [(name, seed) for seed in SEEDS for name in SYSTEMS]
    assert [p["command"][-4:] for p in joined["parts"]] == ["(1,)", "(0,)"]
    scores = {(r["system"], r["seed"]): r["classes"]["system"] for r in joined["runs"]}
    assert scores == {(r["system"], r["seed"]): r["classes"]["system"] for r in records(made / "out")["runs"]}


def test_a_join_can_be_a_part_and_its_own_place(made, tmp_path):
    first, second = part(made, tmp_path / "a", (0,)), part(made, tmp_path / "b", (1,))
    join([first], first)
    summary = join([first, second], first)
    assert (summary.done, summary.missing) == (6, [])
    join([first, second], first)
    assert [p["command"][-4:] for p in records(first)["parts"]] == ["(0,)", "(1,)"], "each once"


def test_an_experiment_keeps_the_scores_that_another_machine_left_in_its_folder(made, tmp_path):
    here, away = part(made, tmp_path / "here", (0,)), part(made, tmp_path / "away", (1,))
    join([here, away], here)
    check_kept(here)  # all runs are there
    shutil.rmtree(tmp_path / "away")
    before = (here / "results.json").read_bytes()
    with pytest.raises(
        ConfigError, match=r"not here would be lost: pfc b12n4 seed 1, .*`ovps experiment join`"
    ) as told:
        run(str(tmp_path / "here" / "tiny.yaml"), seeds=(0,))
    assert told.value.path == str(here / "results.json")
    assert (here / "results.json").read_bytes() == before
    rewrite(here, lambda content: content.update(parts=[]))  # runs of its own that were deleted: no refusal
    check_kept(here)


def test_what_the_first_part_does_not_ask_for_is_left_out_and_named(made, tmp_path):
    first = part(made, tmp_path / "a", (0,), systems=["pfc"], seeds=[0])
    summary = join([first, made / "out"], tmp_path / "joined")
    assert (summary.done, summary.same) == (1, ["pfc, b12n4, seed 0"])
    others = {(name, seed) for name in SYSTEMS for seed in SEEDS} - {("pfc", 0)}
    assert set(summary.left_out) == {f"{name}, b12n4, seed {seed}" for name, seed in others}
    assert any(f"name {made / 'out'} first" in warning for warning in summary.warnings)
    assert join([made / "out", first], tmp_path / "whole").left_out == []
    assert {(r["system"], r["seed"]) for r in rows(tmp_path / "joined") if r["kind"] == "system"} == {("pfc", 0)}


def test_an_own_split_is_known_by_its_name_not_by_its_files(made, tmp_path):
    split = tmp_path / "mine.yaml"
    novel = load_split("b12n4").novel  # as b12n4: nothing is trained
    split.write_text(json.dumps({"name": "of us", "taxonomy": "nuscenes", "novel": novel}))
    out = part(made, tmp_path / "a", (0,), systems=["pfc"], seeds=[0], splits=["b12n4", str(split)])
    experiment = load_experiment(str(tmp_path / "a" / "tiny.yaml"))
    assert records(out)["missing"] == ["pfc, of us, seed 0"]
    for training in plan(experiment):
        do(Job(training), lambda command: nullcontext())
    save(experiment, *collect(plan(experiment)), "ovps experiment run tiny", {})
    split.unlink()  # it stays on the machine that scored by it
    for folders in ([out], [tmp_path / "joined"]):
        summary = join(folders, tmp_path / "joined")
        assert (summary.done, summary.missing, summary.left_out) == (2, [], [])
        assert not any("does not ask" in warning for warning in summary.warnings)
    assert by_cell(rows(tmp_path / "joined")) == by_cell(rows(out))
    assert {r["split"] for r in rows(tmp_path / "joined")} == {"b12n4", "of us"}

    def of_before(content):
        content.pop("split_names")
        content["experiment"]["splits"] = [str(split)]

    rewrite(out, of_before)
    with pytest.raises(ConfigError, match="none of its results is of a system, split and seed that its experiment"):
        join([out], tmp_path / "other")


def test_cells_that_two_machines_scored_are_named_and_the_first_counts(made, tmp_path):
    first, second = part(made, tmp_path / "a", (0,)), part(made, tmp_path / "b", (0, 1))
    rewrite(first, lambda c: c["runs"][0].update(checkpoint_sha256="0" * 64))
    summary = join([first, second], tmp_path / "joined")
    assert summary.other == ["pfc, b12n4, seed 0"]
    assert summary.same == ["minus_head, b12n4, seed 0", "ovps, b12n4, seed 0"]
    assert records(tmp_path / "joined")["runs"][0]["checkpoint_sha256"] == "0" * 64


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["experiment"].update(train="other"), "train"),
        (lambda c: c["experiment"].update(world={"scenes": 2, "frames": 2, "seed": 5}), "world"),
        (lambda c: c["runs"][0]["config"]["loss"].update(object_weight=9.0), "loss.object_weight"),
        (lambda c: c["runs"][0]["inference"].update(mask=0.9), "mask"),
        (lambda c: c["runs"][0]["cache"].update(weights_sha256="f" * 64), "cache"),
        (lambda c: c["runs"][0].update(step=3), "steps"),
    ],
)
def test_what_does_not_compare_is_refused(made, tmp_path, change, named):
    first, second = part(made, tmp_path / "a", (0,)), part(made, tmp_path / "b", (1,))
    rewrite(second, change)
    with pytest.raises(ConfigError, match=named):
        join([first, second], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_codec_that_another_machine_has_fitted_is_told_and_joined(made, tmp_path):
    """The same features give tables that differ in their last bits on another CPU, as texts do."""
    first, second = part(made, tmp_path / "a", (0,)), part(made, tmp_path / "b", (1,))

    def fitted(content):
        for record in content["runs"]:
            record["cache"].update(codec_state_sha256="f" * 64)

    rewrite(second, fitted)
    summary = join([first, second], tmp_path / "joined")
    assert summary.missing == []
    (told,) = (warning for warning in summary.warnings if "fitted" in warning)
    assert all(f"{name} on b12n4" in told for name in SYSTEMS)


def test_what_is_no_result_is_named(made, tmp_path):
    with pytest.raises(ConfigError, match=r"results\.json"):
        join([made / "out", tmp_path], tmp_path / "joined")
    damaged = part(made, tmp_path / "a", (0,))
    whole = (damaged / "results.json").read_bytes()
    (damaged / "results.json").write_bytes(whole.replace(b'"parameters": ', b'"parameters": 1', 1))
    with pytest.raises(ConfigError, match=r"damaged, or no results.*results\.json changed after it was written"):
        join([damaged], tmp_path / "joined")
    (damaged / "results.json").write_bytes(whole)
    (damaged / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"cannot be read: .*results\.parquet"):
        join([damaged], tmp_path / "joined")


def test_parts_of_other_code_and_versions_are_named(made, tmp_path):
    first, second = part(made, tmp_path / "a", (0,)), part(made, tmp_path / "b", (1,))
    here = {"code": {"commit": "1" * 40, "dirty": False}, "versions": {"ovps": "0.1.0", "torch": "2.1"}}
    for out in (first, second):
        rewrite(out, lambda c: c.update(here))
    assert join([first, second], tmp_path / "alike").warnings == []
    rewrite(second, lambda c: c["code"].update(commit="2" * 40, dirty=True))
    rewrite(second, lambda c: c["versions"].update(torch="2.2"))
    told = [
        f"parts are of different code: {'1' * 12} ({first}); {'2' * 12}, with uncommitted changes ({second})",
        f"parts are of different versions of torch: 2.1 ({first}); 2.2 ({second})",
    ]
    assert join([first, second], tmp_path / "joined").warnings == told
    joined = records(tmp_path / "joined")
    assert joined["code"] == code_state().model_dump()
    assert [one["code"]["commit"][0] for one in joined["parts"]] == ["1", "2"]
    again = join([tmp_path / "joined"], tmp_path / "again").warnings
    assert [warning.split(":")[0] for warning in again] == [warning.split(":")[0] for warning in told]
    rewrite(
        first,
        lambda c: c.update(code={"commit": "2" * 40, "dirty": True}, versions=here["versions"] | {"torch": "2.2"}),
    )
    assert join([first, second], tmp_path / "dirty").warnings == [
        f"parts are of code with uncommitted changes: {'2' * 12}, with uncommitted changes ({first}, {second})"
    ]


@pytest.mark.parametrize("other", ["another seed", "another evaluation", "a damaged score", "a damaged name"])
def test_scores_that_are_not_those_of_the_json_beside_them_are_refused(made, tmp_path, other):
    """As after half of a copy from another machine, or of what goes bad on a disk; nothing else tells of PQ."""
    out = part(made, tmp_path / "a", (0,))
    table = pq.read_table(made / "out" / "results.parquet")
    wanted = table["seed"].to_pylist()
    words = r"not that of the results\.json beside it"
    if other.startswith("another"):
        rewrite(out, lambda content: None)
        words += ": they differ in"
    table = table.filter([seed == (1 if other == "another seed" else 0) for seed in wanted])
    for score, changed in (("miou", "another evaluation"), ("pq", "a damaged score")):
        if other == changed:
            table = table.set_column(table.column_names.index(score), score, pc.multiply(table[score], 0.99))
    pq.write_table(table, out / "results.parquet", compression="none")
    if other == "a damaged name":
        content = (out / "results.parquet").read_bytes()
        (out / "results.parquet").write_bytes(content.replace(b"true_masks", b"true\xf3masks"))
        words = "cannot be read: .*UTF8"
    for command in (lambda: result_table(out), lambda: join([made / "out", out], tmp_path / "joined")):
        with pytest.raises(ConfigError, match=words) as error:
            command()
        assert error.value.path == str(out / "results.parquet")
        assert "Copy both files again" in error.value.remedy
    assert not (tmp_path / "joined").exists()


def cells(line):
    return [c.strip() for c in line.strip("|").split("|")]


@pytest.mark.parametrize("score", ["pq", "miou", "mask_recall"])
def test_the_markdown_table_is_mean_and_deviation(made, score):
    head, _, *lines = result_table(made / "out", score).markdown().splitlines()
    groups = [g.replace(" ", "/") for g in cells(head)[1:]]
    assert groups == ["all", "base", "novel", "novel/things", "novel/stuff", "harmonic"]
    names = [cells(line)[0] for line in lines]
    assert names[: len(SYSTEMS)] == [f"`{name}`" for name in SYSTEMS]
    assert any(name.startswith("true masks") for name in names[len(SYSTEMS) :])
    for name, line in zip(SYSTEMS, lines, strict=False):
        for group, text in zip(groups, cells(line)[1:], strict=True):
            values = [
                100 * r[score]
                for r in rows(made / "out")
                if (r["system"], r["kind"], r["group"]) == (name, "system", group) and r[score] is not None
            ]
            mean, deviation = map(float, text.split(" ± "))
            assert mean == pytest.approx(statistics.mean(values), abs=0.051)
            assert deviation == pytest.approx(statistics.stdev(values), abs=0.051)


def test_the_table_as_json_has_fractions_spread_and_what_is_random(made, monkeypatch, capsys):
    from ovps import cli

    monkeypatch.setattr(sys, "argv", ["ovps", "experiment", "table", str(made / "out"), "--score", "miou", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["score"], table["split"]) == ("miou", "b12n4")
    assert [row["system"] for row in table["rows"] if row["kind"] == "system"] == SYSTEMS
    for row in table["rows"]:
        own = [
            r for r in rows(made / "out") if (r["system"], r["row"], r["split"]) == (row["system"], row["row"], "b12n4")
        ]
        assert row["random"] is False
        for group in ("all", "novel/stuff"):
            values = [r["miou"] for r in own if r["group"] == group and r["miou"] is not None]
            if values:
                assert row["scores"][group]["mean"] == pytest.approx(statistics.fmean(values))
                assert row["scores"][group]["count"] == len(values)
            else:
                assert row["scores"][group] is None


def test_results_of_before_harmonic_means_were_written_have_them_too(made, tmp_path):
    out = part(made, tmp_path / "old", (0, 1))
    before = result_table(out).markdown()
    table = pq.read_table(out / "results.parquet")
    rewrite(out, lambda content: None)
    pq.write_table(table.filter([r["group"] != "harmonic" for r in table.to_pylist()]), out / "results.parquet")
    assert pq.read_table(out / "results.parquet").num_rows < table.num_rows
    assert result_table(out).markdown() == before


def test_the_markdown_table_says_what_is_random_and_what_has_fewer_seeds(made, tmp_path):
    out = part(made, tmp_path / "a", (0, 1))
    rewrite(out, lambda c: [r["cache"].update(weights_random=True) for r in c["runs"] if r["system"] == "minus_head"])
    table = pq.read_table(out / "results.parquet")
    rewrite(out, lambda c: c.update(runs=[r for r in c["runs"] if (r["system"], r["seed"]) != ("pfc", 1)]))
    fewer = [not (r["system"] == "pfc" and r["seed"] == 1) for r in table.to_pylist()]
    pq.write_table(table.filter(fewer), out / "results.parquet")
    pfc, head, ours = result_table(out, variants=False).markdown().splitlines()[2:5]
    assert cells(pfc)[0] == "`pfc`, 1 seed"
    assert cells(head)[0] == "`minus_head`, **random CLIP weights**"
    assert cells(ours)[0] == "`ovps`"
    assert "`ovps` with clusters of what is left" in result_table(out, variants=True).markdown()


def test_a_table_of_what_is_not_there(made):
    with pytest.raises(ConfigError, match=r"no score 'iou'.*miou"):
        result_table(made / "out", "iou")
    with pytest.raises(ConfigError, match="no score 'training_minutes'"):  # no fraction
        result_table(made / "out", "training_minutes")
    with pytest.raises(ConfigError, match=r"no split 'b1n1'.*b12n4"):
        result_table(made / "out", split="b1n1")
