"""Several processes on the CPU against one. Groups meet in a file: no port has to be free."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from ovps import systems
from ovps.batch.order import share
from ovps.batch.sample import Batch
from ovps.cache.reader import Store
from ovps.errors import ConfigError, OvpsError, TrainingError
from ovps.losses.total import gradient_ratio
from ovps.training import distributed
from ovps.training.config import load_config
from ovps.training.distributed import Processes, alone, average_gradients, own_device, synchronise_norms
from ovps.training.loop import Pass
from ovps.training.metrics import read_metrics
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.run_files import load_settings
from pipelines import train as pipeline
from tests.training.small import SMALL, same_bits, small_run, weights

pytestmark = pytest.mark.slow  # each starts several processes of torch
LAYER = "model.encoder.norm=layer"
SYSTEMS = ("queries", "voxels")
N = 3  # with two, the sum of the gradients would round the same in any order
CPU = torch.device("cpu")
RUN = (LAYER, "steps=3", "accumulate=2", "optimiser.lr=1e-3", "gradient_interval=1")
RESUMED = (LAYER, "steps=5", "data.batch_size=1", "model.dropout=0.1")


# What the processes do


def lopsided(batch: Batch) -> Batch:
    """The same frames with fewer segments and CLIP features: each frame of the store keeps another share."""
    for b, token in enumerate(batch.tokens):
        number = int(token[-3:])
        segments, part = ((1, 0.1), (2, 0.3), (3, 0.5), (99, 1.0))[number % 4]
        for target in batch.targets[b : b + 1]:  # a system that uses no labels has none
            target.voxel_segment[target.voxel_segment >= segments] = -1
            for name in ("segment_class", "segment_is_thing", "object_embedding", "object_valid"):
                setattr(target, name, getattr(target, name)[:segments])
        valid = batch.voxels.clip_valid[batch.voxels.voxels_of(b)]
        valid[round(part * len(valid)) :] = False
    return batch


def one_pass(
    store: Path, system: str, size: int, processes: Processes, reduce: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Any]:
    """Loss, gradients and ratio of the run's first pass, on lopsided frames."""
    config = load_config("driveworld", (*SMALL, LAYER, f"system={system}", f"data.batch_size={size}"))
    batches, info = pipeline.plan(Store.open(store), config, processes.count)
    torch.manual_seed(0)
    network = make_network(config, info).train()
    kind = systems.get(system)
    classes = kind.training_classes(batches.store.vocabulary, info.classes)
    objective = make_objective(kind, config, classes, 0.7, reduce or processes.mean)
    (number,) = share(0, 1, processes.rank, processes.count)
    run_pass = average_gradients(Pass(network, objective), processes)  # which has to outlive the backward pass
    terms = run_pass(lopsided(batches[number]), 0)
    ratio = gradient_ratio(terms, network.parameters(), processes.mean) if system == "queries" else 0.0
    terms.total.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    return {"loss": processes.mean(terms.total.detach()), "gradients": gradients, "ratio": ratio}


def work(rank: int, store: Path, out: Path) -> None:
    """All that the tests look at, into `out`."""
    processes = Processes(CPU, rank, N)
    for system in SYSTEMS:
        found = one_pass(store, system, 1, processes)
        naive = one_pass(store, system, 1, processes, reduce=lambda counts: counts)
        torch.save(found | {"naive": naive["loss"]}, out / f"{system}-{rank}.pt")
    small_run(store, out / "run", *RUN, "data.batch_size=1")
    small_run(store, out / "straight", *RESUMED)
    small_run(store, out / "pieces", *RESUMED, stop_after=2)
    small_run(store, out / "pieces", *RESUMED)
    torch.save(processes.as_first(rank == 0), out / f"first-{rank}.pt")

    for name, settings in (("batch", ("steps=1",)), ("one", (LAYER, "steps=1"))):
        try:
            small_run(store, out / name, *settings)
        except ConfigError as error:
            (out / f"{name}-{rank}.txt").write_text(str(error))

    make = pipeline.make_objective

    def failing(*args: Any) -> Any:
        objective = make(*args)

        def fail(network: Any, batch: Batch, step: int) -> Any:
            if rank == 1 and step == 1:
                raise TrainingError("on purpose")
            return objective(network, batch, step)

        return fail

    pipeline.make_objective = failing  # type: ignore[assignment]
    try:
        small_run(store, out / "failing", LAYER, "checkpoint_interval=1")
    except OvpsError as error:
        (out / f"failing-{rank}.txt").write_text(f"{error.kind}: {error}")
        os._exit(error.exit_code)


def process(rank: int, store: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out / 'meeting'}", rank=rank, world_size=N)
    work(rank, store, out)


@pytest.fixture(scope="module")
def group(store, tmp_path_factory) -> Path:
    """What N processes left behind."""
    out = tmp_path_factory.mktemp("group")
    small_run(store, out / "one", LAYER, "steps=2", stop_after=1)  # which N processes will try to go on with
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=process, args=(rank, store, out), daemon=True) for rank in range(N)]
    end = time.monotonic() + 300
    for one in started:
        one.start()
    for one in started:
        one.join(max(0, end - time.monotonic()))
    codes = [one.exitcode for one in started]
    for one in started:
        one.kill()
    assert codes == [TrainingError.exit_code] * N
    return out


# The loss of N processes is that of one with N times the batch


@pytest.mark.parametrize("system", SYSTEMS)
def test_loss_and_gradients_are_those_of_one_process_with_n_times_the_batch(group, store, system):
    alone = one_pass(store, system, N, Processes(CPU))
    first, *others = (torch.load(group / f"{system}-{rank}.pt") for rank in range(N))
    assert all(same_bits(first["gradients"], other["gradients"]) for other in others)
    assert float(first["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5)
    assert first["ratio"] == pytest.approx(alone["ratio"], rel=1e-4)
    noise = 1e-9 * torch.stack([g.norm() for g in alone["gradients"].values()]).norm()  # a key's bias has no gradient
    for name, gradient in alone["gradients"].items():
        assert (first["gradients"][name] - gradient).norm() <= 1e-5 * gradient.norm() + noise, name


@pytest.mark.parametrize("system", SYSTEMS)
def test_averaging_losses_that_each_process_normalises_would_be_another_loss(group, store, system):
    alone = one_pass(store, system, N, Processes(CPU))
    naive = float(torch.load(group / f"{system}-0.pt")["naive"])
    assert abs(naive / float(alone["loss"]) - 1) > 1e-3


def test_every_parameter_is_reached_whatever_a_batch_lacks(store):
    def empty(batch: Batch) -> Batch:
        batch.voxels.clip_valid[:] = False
        for target in batch.targets:
            target.voxel_segment[:] = -1
            for name in ("segment_class", "segment_is_thing", "object_embedding", "object_valid"):
                setattr(target, name, getattr(target, name)[:0])
        return batch

    for system in SYSTEMS:
        config = load_config("driveworld", (*SMALL, f"system={system}", "loss.object_weight=0"))
        batches, info = pipeline.plan(Store.open(store), config)
        network = make_network(config, info)
        kind = systems.get(system)
        objective = make_objective(kind, config, kind.training_classes(batches.store.vocabulary, info.classes), 1.0)
        objective(network, empty(batches[0]), 0).total.backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_run_ends_with_the_weights_of_one_process_with_n_times_the_batch(group, store, tmp_path):
    small_run(store, tmp_path, *RUN, f"data.batch_size={N}")
    alone, both = weights(tmp_path)["network"], weights(group / "run")["network"]
    small_run(store, tmp_path / "begin", *RUN, f"data.batch_size={N}", stop_after=1)
    begin = weights(tmp_path / "begin")["network"]
    moved = sum(float((alone[n] - begin[n]).norm() ** 2) for n in alone) ** 0.5
    apart = sum(float((alone[n] - both[n]).norm() ** 2) for n in alone) ** 0.5
    assert apart < 1e-2 * moved  # AdamW's first steps make a whole step of a rounding error where a gradient is zero
    for there, here in zip(read_metrics(tmp_path), read_metrics(group / "run"), strict=True):
        assert {k: v for k, v in here.items() if "seconds" not in k} == pytest.approx(
            {k: v for k, v in there.items() if "seconds" not in k}, rel=1e-3
        )


def test_processes_share_the_batches_of_a_pass():
    shares = [list(share(5, 8, rank, 3)) for rank in range(3)]
    assert shares == [[15, 18, 21], [16, 19, 22], [17, 20, 23]]
    assert list(share(5, 8, 0, 1)) == [5, 6, 7]


def test_epochs_are_shorter_in_steps(store):
    config = load_config("driveworld", (*SMALL, "epochs=12", "accumulate=2"))
    assert [pipeline.plan(Store.open(store), config, n)[1].total_steps for n in (1, 2, 3)] == [12, 6, 4]


# Resuming


def test_a_run_of_several_processes_resumes_in_the_same_bits(group):
    assert weights(group / "pieces")["step"] == 5
    assert same_bits(weights(group / "straight"), weights(group / "pieces"))
    assert load_settings(group / "pieces")[1].processes == N


def test_another_number_of_processes_is_refused(group, store):
    for rank in range(N):
        assert f"processes: 1 there, {N} now" in (group / f"one-{rank}.txt").read_text()
    with pytest.raises(ConfigError, match=f"processes: {N} there, 1 now"):
        small_run(store, group / "run", *RUN, "data.batch_size=1")


def test_a_run_json_of_before_is_of_one_process(store, tmp_path):
    small_run(store, tmp_path, "steps=2", stop_after=1)
    file = tmp_path / "run.json"
    text = file.read_text()
    file.write_text(text.replace(',\n  "processes": 1', ""))
    assert file.read_text() != text
    assert small_run(store, tmp_path, "steps=2").resumed_from == 1


def test_processes_drop_out_differently_and_the_same_again():
    def drawn(rank: int, step: int) -> float:
        Processes(CPU, rank, 2).seed(0, step)
        return float(torch.rand(()))

    assert len({drawn(rank, step) for rank in range(2) for step in range(2)}) == 4
    assert drawn(1, 1) == drawn(1, 1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    Processes(CPU).seed(0, 0)
    assert torch.equal(torch.get_rng_state(), state)


# Batch norm and devices


def test_batch_norm_of_several_processes_is_refused_on_the_cpu(group):
    for rank in range(N):
        assert "model.encoder.norm=layer" in (group / f"batch-{rank}.txt").read_text()
    assert sorted(p.name for p in (group / "batch").iterdir()) == [".lock"]  # nothing of a run


def test_batch_norm_is_synchronised_on_gpus_only(store):
    config = load_config("driveworld", (*SMALL, "model.encoder.norm=batch"))
    _, info = pipeline.plan(Store.open(store), config)
    network = make_network(config, info)
    names = list(network.state_dict())
    alone = synchronise_norms(network, Processes(torch.device("cuda", 0)))
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in alone.modules())
    network = synchronise_norms(network, Processes(torch.device("cuda", 1), 1, 2))
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in network.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in network.modules())
    assert list(network.state_dict()) == names


def test_each_process_takes_its_own_gpu(monkeypatch):
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert own_device(CPU) == CPU
    assert not distributed.first_process()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device(torch.device("cuda")) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"process 1 .*torch sees 1.*--nproc-per-node 1"):
        own_device(torch.device("cuda"))


# Files, failures, the command


def test_one_process_speaks_for_all(group):
    assert [torch.load(group / f"first-{rank}.pt") for rank in range(N)] == [True] * N
    assert [line["step"] for line in read_metrics(group / "run")] == [1, 2, 3]
    assert len(list((group / "run/tensorboard").iterdir())) == 1


def test_a_process_that_fails_does_not_leave_the_others_waiting(group):
    assert (group / "failing-1.txt").read_text() == "training: on purpose"
    for rank in (0, 2):
        assert (group / f"failing-{rank}.txt").read_text().startswith("training: another process of the run ended")
    assert weights(group / "failing")["step"] == 1


FAILING = """
import os
from ovps.cli import main
from ovps.errors import CacheError
from pipelines import train

if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        def plan(*_):
            raise CacheError("on purpose")
        train.plan = plan
    main("train")
"""


def torchrun(*program: str, store: Path, out: Path) -> subprocess.CompletedProcess[str]:
    settings = [part for setting in (*SMALL, LAYER, "steps=2") for part in ("--set", setting)]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    return subprocess.run(
        [sys.executable, *command, "--cache", str(store), "--out", str(out), "--json", *settings],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_torchrun_trains(store, tmp_path):
    done = torchrun("-m", "ovps", "train", store=store, out=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"total_steps": 2') == 1  # one summary
    assert weights(tmp_path)["step"] == 2
    assert load_settings(tmp_path)[1].processes == 2


def test_torchrun_names_the_process_that_failed_and_its_exit_code(store, tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    done = torchrun(str(script), store=store, out=tmp_path / "run")
    assert done.returncode == 1
    assert "cache error: on purpose" in done.stderr
    assert "exitcode  : 4" in done.stderr


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, True),  # as srun and mpirun scripts set them
        ({"WORLD_SIZE": "1", "RANK": "0"}, False),
        ({"WORLD_SIZE": ""}, False),
        ({"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}, False),
        ({}, False),
    ],
)
def test_one_of_several_processes_that_torchrun_did_not_start_trains_alone_and_says_so(monkeypatch, variables, told):
    for name in ("WORLD_SIZE", "RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert len(alone()) == told
    assert all("torchrun did not start this process" in text for text in alone())
