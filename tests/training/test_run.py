import json
import math
import resource
import shutil

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ovps.cache.reader import Store
from ovps.errors import CacheError, CheckpointError, VocabularyError
from ovps.training.checkpoint import load_checkpoint, save_checkpoint
from ovps.training.metrics import MetricsLog, last_step, lost_curves, read_metrics, step_seconds, training_seconds
from ovps.training.run import load_run
from ovps.training.run_files import CONFIG, load_settings
from tests.helpers.synthetic_store import provenance, write_synthetic_store
from tests.training.small import same_bits, small_run, weights


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    small_run(store, out)
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_gives_back_network_and_settings(run, store):
    loaded = load_run(run)
    assert loaded.finished
    assert loaded.step == 4
    assert not loaded.network.training
    assert loaded.config.model.width == 32
    assert str(loaded.grid) == "cylinder:60x45x8:rho=0..50,z=-5..3"
    assert loaded.split.name == "b12n4"
    assert loaded.vocabulary.names == Store.open(store).vocabulary.names
    assert same_bits(dict(loaded.network.state_dict()), dict(weights(run)["network"]))


def test_a_run_knows_its_clip(run, store, tmp_path):
    loaded = load_run(run)
    opened = Store.open(store)
    loaded.check_cache(opened.provenance, store)
    loaded.check_vocabulary(opened.vocabulary)
    with pytest.raises(CacheError, match=r"encoder 'other' in the cache, 'synthetic' in the run"):
        loaded.check_cache(provenance(encoder="other"), store)
    other = Store.open(write_synthetic_store(tmp_path / "other", clip_dim=20, frames=1))
    with pytest.raises(CacheError, match="clip_dim 20"):
        loaded.check_cache(other.provenance, other.path)
    with pytest.raises(VocabularyError, match="another CLIP"):
        loaded.check_vocabulary(other.vocabulary)


def test_no_run(tmp_path, run):
    (tmp_path / "nothing").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "none", tmp_path / "none/checkpoints/last.pt"):
        with pytest.raises(CheckpointError, match=r"no run here .*Train one: ovps train"):
            load_run(path)


def test_a_file_of_a_run_or_the_folder_above_it_names_the_run(run):
    """A checkpoint, as is usual elsewhere; or `runs` for `runs/first`."""
    for path in ("checkpoints/last.pt", "checkpoints", "run.json"):
        with pytest.raises(CheckpointError, match=f"A run is named by its folder: {run}$"):
            load_run(run / path)
    with pytest.raises(CheckpointError, match=f"There are runs in that folder: {run}. Name one of them"):
        load_run(run.parent)


@pytest.mark.parametrize("name", ["checkpoints/last.pt", "run.json", "config.yaml", "vocabulary.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "foreign"])
def test_a_missing_or_damaged_file_is_named(run, name, damage):
    path = run / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "foreign": b"\x80\x04\xff"}[damage])
    with pytest.raises(CheckpointError) as caught:
        load_run(run)
    # half of a YAML file may be YAML; the weights then do not fit what is left of it
    expected = {str(path)} | ({str(run / "checkpoints/last.pt")} if name == "config.yaml" else set())
    assert caught.value.path in expected | ({str(run)} if name == "run.json" else set())
    assert caught.value.exit_code == 6


def test_flipped_bytes_never_load_as_other_weights(run):
    path = run / "checkpoints/last.pt"
    content, right = path.read_bytes(), weights(run)["network"]
    refused = 0
    for position in range(100, len(content), len(content) // 40):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            assert same_bits(dict(load_run(run).network.state_dict()), dict(right))
        except CheckpointError:
            refused += 1
    assert refused > 30


def test_a_pickle_is_not_executed(run, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    (run / "checkpoints/last.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        load_run(run)
    torch.save({"format": Evil()}, run / "checkpoints/last.pt")
    with pytest.raises(CheckpointError):
        load_run(run)
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_of_another_architecture_names_what_differs(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("width: 32", "width: 64"))
    with pytest.raises(CheckpointError, match=r"model\.width: 32 there, 64 now") as caught:
        load_run(run)
    assert caught.value.path == str(run / "checkpoints/last.pt")


@pytest.mark.parametrize("line", [b"\xff\xfe\x00bad", b"[1]", b"7", b'{"step": "1"}', b'{"loss": 1.0}', b'{"step'])
def test_a_damaged_line_of_the_curves_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2, "loss": null}\n')
    with pytest.raises(CheckpointError, match=r"line 2 is damaged.*metrics.jsonl.*Remove the line"):
        read_metrics(tmp_path)
    assert last_step(tmp_path) == 2


def test_a_run_of_before_a_setting_of_answers_may_be_told_it(run):
    path = run / "config.yaml"
    values = yaml.safe_load(path.read_text())
    del values["merge"]["split_length"], values["merge"]["proposals"]["gap"]
    path.write_text(yaml.safe_dump(values))
    remedy = r"Write into the file .*: split_length: 1.0 under merge, gap: 0.5 under merge.proposals$"
    with pytest.raises(CheckpointError, match=rf"without merge.split_length, merge.proposals.gap .*{remedy}"):
        load_run(run)
    values["merge"]["split_length"], values["merge"]["proposals"]["gap"] = 1.0, 0.5
    path.write_text(yaml.safe_dump(values))
    load_run(run)
    del values["merge"]["split_length"], values["seed"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(CheckpointError, match="use the version that wrote it, or train again"):
        load_run(run)


def test_a_full_disk_leaves_the_checkpoint_before(run):
    path = run / "checkpoints/last.pt"
    before = path.read_bytes()
    network = torch.nn.Linear(200, 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write: File too large.*last\.pt"):
            save_checkpoint(path, {}, {}, 1, network, torch.optim.AdamW(network.parameters()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_disk_that_is_full_in_a_training_is_told_as_that(tmp_path, capfd):
    """What could not be written is written again when the file is closed, and refused again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def train():
        with MetricsLog(tmp_path, 0) as metrics:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
            metrics.write(1, {"loss": 1.0})

    try:
        with pytest.raises(CheckpointError, match=r"cannot write: File too large.*metrics\.jsonl"):
            train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr() == ("", "")  # no thread of TensorBoard's prints a refusal of its own


def test_tensorboard_reads_the_curves_of_a_run_that_went_back(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        with MetricsLog(tmp_path, start) as metrics:
            for step in steps:
                metrics.write(step, {"loss": start + step / 8, "PQ": math.nan})
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(read.Tags()["scalars"]) == ["PQ", "loss"]
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 0.125), (2, 1.25), (3, 1.375), (4, 1.5)]
    assert len(read.Scalars("PQ")) == 4


def test_a_checkpoint_reads_back(tmp_path):
    network = torch.nn.Linear(2, 2)
    save_checkpoint(tmp_path / "a.pt", {"width": 2}, {"seed": 3}, 7, network, torch.optim.AdamW(network.parameters()))
    found = load_checkpoint(tmp_path / "a.pt", {"width": 2})
    assert found.step == 7
    assert found.origin == {"seed": 3}
    assert same_bits(dict(found.network), dict(network.state_dict()))
    with pytest.raises(CheckpointError, match=r"width: 2 there, 'not set' now; depth: 'not set' there, 3 now"):
        load_checkpoint(tmp_path / "a.pt", {"depth": 3})


def test_metrics_have_every_part_of_the_loss(run):
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    wanted = {"loss/total", "loss/last/class", "loss/last/object", "loss/last/voxel", "learning_rate", "gradient_norm"}
    assert all(wanted | {"seconds/data", "seconds/step"} <= set(line) for line in lines)
    assert ["gradient_ratio" in line for line in lines] == [True, False, False, True]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss/to')  # a killed run
    assert read_metrics(run) == lines
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(bytes(301))  # of a machine whose power failed
    assert read_metrics(run) == lines
    assert last_step(run) == 4
    assert json.loads((run / "run.json").read_text())["total_steps"] == 4
    assert list((run / "tensorboard").iterdir())


def test_curves_that_a_disk_has_lost_are_told(run):
    assert lost_curves(run, 4, 4, 1) == []
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    for content, last in ((whole[: len(whole) // 2], 2), (bytes(len(whole)), 0), (b"", 0)):
        path.write_bytes(content)
        (told,) = lost_curves(run, 4, 4, 1)
        assert f"the curves of {path} end at step {last}, and the run is at step 4" in told
    path.write_bytes(whole)
    assert lost_curves(run, 9, 12, 5) != []
    assert lost_curves(run, 5, 5, 4) != []  # the last step is logged whatever the interval
    assert lost_curves(run, 7, 12, 4) == []
    path.unlink()
    assert lost_curves(run, 4, 4, 1) == []  # of a run that was handed on without


def test_a_run_of_before_a_setting_came_names_it(run):
    config = yaml.safe_load((run / CONFIG).read_text())
    del config["loss"]["proposals"]["at_ground"], config["model"]["cluster_queries"]
    (run / CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match=r"without model\.cluster_queries, loss\.proposals\.at_ground.*--restart"):
        load_settings(run)


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ({}, None),
        ({1: 40.0}, 800.0),
        ({1: 40.0, 10: 5.0, 20: 3.0}, 40 + 4 * 19),
        ({10: 5.0, 20: 3.0}, 80.0),
    ],
)
def test_a_training_takes_its_first_step_once(logged, expected):
    lines = [{"step": float(step), "seconds/step": seconds} for step, seconds in logged.items()]
    assert training_seconds([*lines, {"step": 15.0}], 20) == expected


def test_slow_steps_that_are_all_logged_count_once():
    took = {step: 4.0 if step % 20 == 1 else 1.0 for step in range(2, 61)} | {1: 30.0}
    lines = [
        {"step": float(step), "seconds/step": took[step]} | ({"gradient_ratio": 0.1} if step % 20 == 1 else {})
        for step in sorted(took)
        if step % 10 == 0 or step % 20 == 1
    ]
    assert training_seconds(lines, 60) == pytest.approx(sum(took.values()))
    assert step_seconds(lines) == pytest.approx((sum(took.values()) - 30) / 59)
