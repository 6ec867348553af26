"""Stage d: a training step at full scale: seconds by part, memory, waits of the host; from the cache, and online."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ovps.batch.loader import Batches, training_frames
from ovps.batch.order import Draw
from ovps.batch.sample import Batch, join, make_sample
from ovps.batch.statistics import measure
from ovps.cache.frame_data import CachedFrame
from ovps.cache.reader import Store
from ovps.model.class_text import ClassText
from ovps.systems.queries import SYSTEM
from ovps.training.config import TrainConfig, load_config
from ovps.training.loop import Objective, train_steps
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from pipelines.precompute import precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import StageTimes, compute_frame
from pipelines.precompute.options import resolved
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import tools_of
from pipelines.train import deterministic_algorithms, plan
from tools.gpu_check import minkowski
from tools.gpu_check.facts import ceilings
from tools.gpu_check.predict import Ceilings, count
from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import Setting
from tools.gpu_check.world import full_options, full_store

BATCHES = (2, 1, 4, 8)  # the config's own first
PROFILE = "profile.txt"
TINY = (
    *("model.encoder.channels=[8,16]", "model.encoder.blocks=1", "model.width=32", "model.queries=24"),
    *("model.layers=1", "model.heads=4", "model.ffn=64", "data.grid=cylinder:60x90x12"),
)


@dataclass
class Trial:
    """The full-scale network, and batches of it in memory.

    Attributes:
        frames: of the cache, read.
        turn: how many batches were drawn.
    """

    setting: Setting
    store: Store
    config: TrainConfig
    batches: Batches
    network: nn.Module
    optimiser: torch.optim.AdamW
    base: ClassText
    mean_l1: float
    frames: list[CachedFrame]
    turn: int = 0
    objective: Objective = field(init=False)

    def __post_init__(self) -> None:
        self.objective = make_objective(SYSTEM, self.config, self.base, self.mean_l1)

    @classmethod
    def of(cls, setting: Setting) -> Trial:
        if not (full_store(setting) / "store.json").is_file():  # stage c makes it
            precompute(full_options(setting, full_store(setting)))
        store = Store.open(full_store(setting))
        config = load_config("nuscenes", ("data.workers=0", "data.keep_mb=0", *(TINY if setting.tiny else ())))
        batches, info = plan(store, config)
        torch.manual_seed(0)
        network = make_network(config, info).to(setting.device).train()
        refs = training_frames(store, ("train",))
        return cls(
            setting=setting,
            store=store,
            config=config,
            batches=batches,
            network=network,
            optimiser=make_optimiser(network, config.optimiser),
            base=SYSTEM.training_classes(store.vocabulary, info.classes).to(setting.device),
            mean_l1=measure(store, refs, 4).mean_l1,
            frames=[store.read(ref) for ref in refs],
        )

    def sample(self, size: int, read: Callable[[int], CachedFrame] | None = None) -> Batch:
        """The next `size` frames, augmented and voxelised; on the CPU."""
        samples = []
        for _ in range(size):
            epoch, number = divmod(self.turn, len(self.frames))
            self.turn += 1
            frame = self.frames[number] if read is None else read(number)
            samples.append(
                make_sample(
                    frame,
                    Draw(epoch, number),
                    seed=0,
                    grid=self.batches.grid,
                    augmentation=self.config.augmentation,
                    base=self.batches.base,
                    proposals=self.config.loss.proposals,
                    clusters=self.batches.clusters,
                )
            )
        return join(samples)

    def step(self, batch: Batch, parts: Parts | None = None) -> None:
        """One update, the batch brought to the device; the loss is read, as training does."""
        mark = parts.mark if parts else lambda name: None
        self.optimiser.zero_grad(set_to_none=True)
        batch = batch.to(self.setting.device)
        mark("to the device")
        total = self.objective(self.network, batch, 0).total
        mark("losses")
        total.backward()
        mark("backward")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip_norm)
        self.optimiser.step()
        total.item()
        mark("optimiser")


class Parts:
    """Seconds between marks: by the device's own clock on a GPU, without making the host wait."""

    def __init__(self, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """What came since the mark before is called so."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        if self._on_gpu:
            torch.cuda.synchronize()
        result: dict[str, float] = defaultdict(float)
        for (_, before), (name, after) in zip(self._marks, self._marks[1:], strict=False):
            result[name] += before.elapsed_time(after) / 1000 if self._on_gpu else after - before
        return result

    @contextmanager
    def of_network(self, network: Any) -> Iterator[None]:
        """Marks where encoder, fusion, position and decoder end; what is between them belongs to the next."""
        modules = {name: getattr(network, name) for name in ("encoder", "position", "fusion", "decoder")}
        hooks = [
            module.register_forward_hook(lambda *_, name=name: self.mark(name)) for name, module in modules.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def run(setting: Setting, recorder: Recorder) -> None:
    minkowski.ensure(setting, recorder)
    best = ceilings(setting)
    with deterministic_algorithms():
        trial = Trial.of(setting)
        voxels = statistics.fmean(len(trial.sample(1).voxels.coords) for _ in trial.frames)
        recorder.add("voxels of a frame", voxels, note=f"{trial.store.provenance.clip_dim} channels, augmented")
        parameters = sum(p.numel() for p in trial.network.parameters()) / 1e6
        recorder.add("parameters", parameters, "million", note=f"{trial.config.precision}")
        first, *others = BATCHES[:2] if setting.tiny else BATCHES
        with recorder.guarded(f"step, batch {first}"):
            measured(trial, recorder, best, first)
            parts(trial, recorder, first)
        with recorder.guarded("host waits"):
            waits(trial, recorder, first)
        with recorder.guarded("cache against online"):
            cached_and_online(trial, recorder, first)
        for size in others:
            with recorder.guarded(f"step, batch {size}"):
                measured(trial, recorder, best, size)
        with recorder.guarded("float32"):
            plain = replace(trial, config=trial.config.model_copy(update={"precision": "float32"}))
            batch = plain.sample(first)
            recorder.add(f"step, batch {first}, float32", setting.seconds(lambda: plain.step(batch)), "s")
        with recorder.guarded("loader"):
            loaded(trial, recorder)
        with recorder.guarded("profile"):
            profiled(trial, first)
    with recorder.guarded("not deterministic"):
        batch = trial.sample(first)
        took = setting.seconds(lambda: trial.step(batch))
        recorder.add(f"step, batch {first}, any algorithm", took, "s", note="above: deterministic, as in training")


def measured(trial: Trial, recorder: Recorder, best: Ceilings, size: int) -> None:
    """Seconds of a step whose batch is in memory, beside what its operations cost at their ceilings; memory."""
    batch, setting = trial.sample(size), trial.setting
    cost = count(lambda: trial.step(batch), trial.network)
    # sparse convolutions are float32 whatever the precision is: a bound from below
    predicted = cost.seconds(best, "bf16" if trial.config.precision == "bf16" else "fp32")
    setting.free_memory()
    took, peak = setting.seconds(lambda: trial.step(batch), rounds=10, most=6.0), setting.peak_gib()
    note = f"{cost.flops / 1e12:.3g} TFLOP, {cost.bytes / 1e9:.3g} GB, {len(cost.operations)} operations"
    recorder.add(f"step, batch {size}", took, "s", predicted=predicted, note=note)
    recorder.add(f"frames a second, batch {size}", size / took, "frames/s", note="batch in memory")
    if peak is not None:
        recorder.add(f"memory, batch {size}", peak, "GiB", note="at the peak")


def parts(trial: Trial, recorder: Recorder, size: int, rounds: int = 5) -> None:
    """Where the time of a step goes."""
    batch, sums = trial.sample(size), defaultdict[str, float](float)
    for _ in range(rounds):
        clock = Parts(trial.setting.on_gpu)
        with clock.of_network(trial.network):
            clock.mark("begin")
            trial.step(batch, clock)
        for name, seconds in clock.seconds().items():
            sums[name] += seconds / rounds
    whole = sum(sums.values())
    for name, seconds in sums.items():
        recorder.add(f"part, batch {size}: {name}", seconds, "s", note=f"{100 * seconds / whole:.0f} %")


def waits(trial: Trial, recorder: Recorder, size: int) -> None:
    """How often a step makes the host wait: by the operations that must, and by what CUDA says."""
    batch = trial.sample(size)
    expected = count(lambda: trial.step(batch), trial.network).waits
    found = None
    if trial.setting.on_gpu:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                trial.step(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found = float(sum("synchroniz" in str(w.message) for w in seen))
    note = "torch's own; those inside MinkowskiEngine are not seen"
    recorder.add(f"host waits, batch {size}", found, predicted=float(expected), note=note)


def cached_and_online(trial: Trial, recorder: Recorder, size: int) -> None:
    """A step from the cache, everything in one process, against the same with CLIP on the images of its frames."""
    refs = training_frames(trial.store, ("train",))
    options = resolved(full_options(trial.setting, full_store(trial.setting)))
    frames = frames_of(options)
    tools = tools_of(prepare(options, frames)[0])

    def cached() -> None:
        trial.step(trial.sample(size, lambda number: trial.store.read(refs[number])))

    def online() -> None:
        for number in range(size):
            compute_frame(frames[number % len(frames)], tools, StageTimes())
        trial.step(trial.sample(size))

    fast = trial.setting.seconds(cached, rounds=4, warm_up=1)
    slow = trial.setting.seconds(online, rounds=3, warm_up=1)
    recorder.add(f"step from the cache, batch {size}", fast, "s", note="read, augmented, voxelised in this process")
    recorder.add(f"step with CLIP online, batch {size}", slow, "s", note=f"{slow / fast:.2f} times as long")


def loaded(trial: Trial, recorder: Recorder) -> None:
    """Training as it is, with the config's loader processes."""
    workers = 0 if trial.setting.tiny else min(8, trial.setting.cores - 1)
    config = trial.config.model_copy(
        update={"data": trial.config.data.model_copy(update={"workers": workers, "keep_mb": 500})}
    )
    batches, _ = plan(trial.store, config)
    steps, warm_up = (3, 1) if trial.setting.tiny else (40, 10)
    reports = list(
        train_steps(
            trial.network, trial.optimiser, batches, trial.objective, config, start=0, stop=steps, total=10 * steps
        )
    )[warm_up:]
    took, waited = (statistics.fmean(getattr(r, n) for r in reports) for n in ("step_seconds", "data_seconds"))
    size = config.data.batch_size
    note = f"{workers} loader processes; {1000 * waited:.1f} ms of it waiting for data"
    recorder.add(f"training, batch {size}", size / took, "frames/s", note=note)


def profiled(trial: Trial, size: int) -> None:
    """What torch's profiler says of one step, in a file of its own."""
    batch = trial.sample(size)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if trial.setting.on_gpu else [])]
    with profile(activities=kinds) as seen:
        trial.step(batch)
        trial.setting.synchronise()
    by = "self_device_time_total" if trial.setting.on_gpu else "self_cpu_time_total"
    (trial.setting.out / PROFILE).write_text(seen.key_averages().table(sort_by=by, row_limit=40), encoding="utf-8")
