"""Options of a command: one model makes what the shell, YAML and Python see."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
import yaml
from typer.testing import CliRunner

from driveworld import build_world
from ovps import cli
from ovps.cache.where import storage_of
from ovps.errors import ConfigError
from ovps.options import Options, flag_of
from ovps.training.run_files import load_settings
from ovps.training.system_files import load_system
from pipelines import options
from pipelines.evaluate import evaluate
from pipelines.experiment.join import join
from pipelines.experiment.runner import run
from pipelines.experiment.schema import Experiment
from pipelines.experiment.table import result_table
from pipelines.labels import add_labels
from pipelines.options import (
    ClipOptions,
    DataOptions,
    EvaluateOptions,
    ExperimentOptions,
    JoinOptions,
    LabelsOptions,
    PrecomputeOptions,
    PredictOptions,
    ReportOptions,
    TableOptions,
    TrainOptions,
    TuneOptions,
    WorldOptions,
)
from pipelines.predict import predict
from pipelines.report import report
from pipelines.stores.missing import missing_frames
from pipelines.tune import tune

MODELS = [model for model in vars(options).values() if isinstance(model, type) and hasattr(model, "command")]


def command_of(model: type[Options]) -> click.Command:
    found = typer.main.get_command(cli.app)
    for name in model.command.split():
        found = found.commands[name]
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_has_its_option_with_the_same_default_and_help(model):
    flags = {name: p for p in command_of(model).params for name in (*p.opts, *p.secondary_opts)}
    for name, field in model.model_fields.items():
        option = flags[flag_of(name, field).name]
        assert option.help == field.description
        assert option.required == field.is_required()
        assert (option.param_type_name == "argument") == flag_of(name, field).positional
        if isinstance(field.default, tuple):
            assert option.default in (",".join(field.default) or None, list(field.default) or None)
        elif not field.is_required():
            assert option.default == field.default


def test_every_value_that_the_shell_gives_arrives(monkeypatch):
    seen: list[PrecomputeOptions] = []
    monkeypatch.setattr("pipelines.precompute.estimate", lambda asked: seen.append(asked) or {})
    arguments = (
        "precompute --dry-run --upscale 2 --limit 3 --device cpu --partition-frames 5 --split a,b --no-occlusion"
    )
    monkeypatch.setattr(sys, "argv", ["ovps", *arguments.split()])
    with pytest.raises(SystemExit):
        cli.main()
    expected = {"upscale": 2, "limit": 3, "device": "cpu", "partition_frames": 5, "subsets": ("a", "b")}
    assert seen == [PrecomputeOptions(occlusion=False, **expected)]


def test_experiments_read_the_same_options_with_the_same_defaults():
    fields = Experiment.model_fields
    assert fields["data"].annotation == DataOptions | None
    assert fields["clip"].annotation == ClipOptions | None
    assert PrecomputeOptions.model_fields.keys() > {**DataOptions.model_fields, **ClipOptions.model_fields}.keys()


@pytest.mark.parametrize(
    ("model", "function"),
    [
        (EvaluateOptions, evaluate),
        (TuneOptions, tune),
        (PredictOptions, predict),
        (WorldOptions, build_world),
        (ReportOptions, report),
        (LabelsOptions, add_labels),
        (ExperimentOptions, run),
        (JoinOptions, join),
        (TableOptions, result_table),
    ],
)
def test_functions_of_python_have_the_same_defaults(model, function):
    parameters = inspect.signature(function).parameters
    shell_alone = {"settings", "dataroot", "check"} | ({"subset"} if model is ReportOptions else set())
    assert model.model_fields.keys() - shell_alone <= parameters.keys()
    for name, field in model.model_fields.items():
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            assert parameters[name].default == field.default


def test_a_command_line_says_what_is_not_as_usual_and_reads_back(monkeypatch):
    asked = PrecomputeOptions(dataroot="a b", subsets=("mini",), occlusion=False, upscale=2, out="z")
    line = asked.command_line()
    assert line == "ovps precompute --dataroot 'a b' --split mini --upscale 2.0 --no-occlusion --out z"
    seen: list[PrecomputeOptions] = []
    monkeypatch.setattr("pipelines.precompute.precompute", lambda options: seen.append(options) or {})
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit):
        cli.main()
    assert seen == [asked]
    assert TrainOptions(overrides=("a=1", "b=2")).command_line() == "ovps train --set a=1 --set b=2"


@pytest.mark.parametrize(
    ("asked", "line", "called"),
    [
        (
            ExperimentOptions(experiment="a b.yaml", systems=("pfc", "ovps"), seeds=(0, 2), jobs=2),
            "ovps experiment run 'a b.yaml' --systems pfc,ovps --seeds 0,2 --jobs 2",
            "pipelines.experiment.runner.run",
        ),
        (
            JoinOptions(folders=(Path("one"), Path("two")), out=Path("all")),
            "ovps experiment join one two --out all",
            "pipelines.experiment.join.join",
        ),
        (
            TableOptions(folder=Path("one"), score="miou", variants=True),
            "ovps experiment table one --score miou --variants",
            "pipelines.experiment.table.result_table",
        ),
        (
            ExperimentOptions(experiment="table1", systems=("a,b.yaml", "c d.yaml")),
            "ovps experiment run table1 --systems '\"a,b.yaml\",c d.yaml'",
            "pipelines.experiment.runner.run",
        ),
        (
            LabelsOptions(path=Path("zarr"), dataroot=Path("data")),
            "ovps cache labels zarr --dataroot data",
            "pipelines.labels.add_labels",
        ),
    ],
    ids=lambda value: value.command if isinstance(value, Options) else "",
)
def test_arguments_by_place_and_lists_arrive_as_they_were_written(monkeypatch, asked, line, called):
    class Called(Exception):
        pass

    def stop(**values):
        raise Called(values)

    assert asked.command_line() == line
    monkeypatch.setattr(called, stop)
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(Called) as raised:
        cli.main()
    assert raised.value.args == (asked.model_dump(),)


def test_a_value_that_cannot_be_used_names_its_option():
    with pytest.raises(ConfigError, match=r"--partition-frames: .*greater than or equal to 1.*ovps precompute --help"):
        PrecomputeOptions.asked(partition_frames=0)
    with pytest.raises(ConfigError, match="--split: "):
        PrecomputeOptions.asked(subsets=())
    with pytest.raises(ConfigError, match=r"--seeds.*valid integer.*ovps experiment run --help"):
        ExperimentOptions.asked(experiment="driveworld", seeds=("x",))


def test_the_folder_of_a_run_is_named_after_what_is_trained():
    assert TrainOptions(config="a/b.yaml", system="pfc").run == Path("runs/b-pfc")
    assert TrainOptions(out=Path("x")).run == Path("x")


def test_help_needs_neither_torch_nor_the_cache():
    code = "import sys, ovps.cli; sys.exit(str([m for m in ('torch', 'zarr', 'pyarrow', 'dask') if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "precompute --cameras a,b,a",
        "precompute --split train,train",
        "precompute --only x --only x",
        "query car --frames 0,1,0",
        "query car --against thing,thing",
        "view --html x.html --query bus --query bus",
        "vocab build --out x --images car=a --images car=a",
        "experiment run driveworld --systems ovps,pfc,ovps",
        "experiment run driveworld --splits b12n4,b12n4",
        "experiment run driveworld --seeds 0,1,0",
        "experiment join a b a --out x",
    ],
)
def test_what_is_chosen_is_named_once(command, tmp_path, monkeypatch):
    """A frame that is named twice would count twice."""
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(cli.app, shlex.split(command)).exception
    assert isinstance(error, ConfigError)
    assert "named twice" in error.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("upscale", 1e9), ("upscale", 1e-9), ("thumbnails", 10**9)])
def test_numbers_of_which_nothing_good_can_come_are_refused(option, value):
    with pytest.raises(ConfigError, match=f"--{option}"):
        PrecomputeOptions.asked(**{option: value})


@pytest.mark.parametrize(
    "command",
    [
        "eval --run s3://bucket/run",
        "eval --run run --vocab s3://bucket/words.safetensors",
        "predict --run s3:/bucket/run --out p",
        "report --run run --dataroot gs://bucket/nuscenes",
        "precompute --dataroot file:///data/nuscenes",
        "cache labels store --dataroot s3://bucket/nuscenes",
        "cache import --features s3://bucket/fused --encoder demo --out z",
        "experiment join one s3://bucket/two --out x",
        "data check s3://bucket/monday",
        "data import s3://bucket/monday.mcap",
        "segment s3://bucket/monday",
    ],
)
def test_a_url_where_only_a_folder_or_file_can_be(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(cli.app, shlex.split(command)).exception
    assert isinstance(error, ConfigError), error
    assert error.message == "a URL: only a store can be at one"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use", [load_settings, lambda url: missing_frames("store", url)])
def test_such_a_url_is_told_in_python_too(use):
    with pytest.raises(ConfigError, match="only a store can be at one"):
        use(Path("s3://bucket/x"))


def test_a_place_in_ones_home_is_there_where_no_shell_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked = EvaluateOptions.asked(run=Path("~/r"), cache="~/z", out=Path("~/e"))
    assert (asked.run, asked.out) == (tmp_path / "r", tmp_path / "e")
    assert storage_of(asked.cache).at() == str(tmp_path / "z")
    assert JoinOptions.asked(folders=(Path("~/a"), Path("b")), out=Path("~")).folders == (tmp_path / "a", Path("b"))
    (tmp_path / "mine.yaml").write_text("{base: ovps, description: mine}")
    assert load_system("~/mine.yaml").name == "mine"
    values = yaml.safe_load(Path(cli.__file__).with_name("configs").joinpath("experiments/driveworld.yaml").read_text())
    data = values["data"] | {"dataroot": "~/d"}
    found = Experiment.model_validate({**values, "name": "x", "runs": "~/runs", "data": data})
    assert (found.runs, found.data.dataroot) == (tmp_path / "runs", tmp_path / "d")


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["eval", "--run", "x", "--subset", ""], "--subset names nothing. Name some, or leave the option out"),
        (["query", "chair", "--frames", ""], "--frames names nothing. Name some, or leave the option out"),
        (["precompute", "--only", ""], "--only names nothing. Name some, or leave the option out"),
        (["cache", "convert", "--out", "x", "--codec", ""], "--codec names nothing. Name some"),
        (["train", "--out", ""], "--out names nothing. Name some, or leave the option out"),
        (["eval", "--run", ""], "--run names nothing. Name some"),
        (["world", "build", "--out", ""], "--out names nothing. Name some, or leave the option out"),
        (["segment", ""], "the recording names nothing. Name some"),
        (["data", "check", ""], "the recording names nothing. Name some"),
        (["data", "check", "x", "--out", ""], "--out names nothing. Name some"),
        (["data", "import", "x", "--out", ""], "--out names nothing. Name some"),
        (["cache", "export", "--out", "x", "--cache", ""], "--cache names nothing. Name some, or leave the option out"),
    ],
)
def test_an_empty_text_names_nothing(monkeypatch, capsys, arguments, refused):
    """As a variable of a script that is not set."""
    monkeypatch.setattr(sys, "argv", ["ovps", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.strip().endswith(refused)
