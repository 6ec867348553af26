"""Stage 2: train on a cache. Neither CLIP nor the data set is needed.

ovps train --cache ./zarr --config driveworld --out runs/driveworld
ovps train --cache ./zarr --config driveworld --system pfc --out runs/pfc
torchrun --nproc-per-node 4 -m ovps train --cache ./zarr --config nuscenes --out runs/nuscenes
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from torch.utils import deterministic

import ovps
from ovps import systems
from ovps.batch.base_labels import ClassSplit
from ovps.batch.loader import Batches, training_frames
from ovps.batch.statistics import ClipStatistics, load_statistics, measure, save_statistics
from ovps.cache.object_numbers import without_numbers
from ovps.cache.reader import Store
from ovps.devices import device_of
from ovps.errors import CheckpointError, ConfigError, TrainingError, counted
from ovps.geometry.grid import Grid, voxelise
from ovps.geometry.odd_grid import odd_grid
from ovps.inference.session import random_clip
from ovps.interrupt import finishing, kept
from ovps.machine import check_processes, cores, torch_threads
from ovps.model import sparse
from ovps.places import check_free, check_text
from ovps.progress import progress, show_warnings
from ovps.systems.asked import check_naming, training_classes
from ovps.taxonomy import load_split
from ovps.training.cache_content import CACHE, CacheContent, changes, content_of, save_content
from ovps.training.checkpoint import Checkpoint, check_origin, differences, load_checkpoint, restore, save_checkpoint
from ovps.training.config import TrainConfig, flat, load_config
from ovps.training.distributed import Processes, alone, join, own_device, synchronise_norms
from ovps.training.files import exclusive
from ovps.training.loop import StepReport, train_steps
from ovps.training.metrics import METRICS, TENSORBOARD, MetricsLog, last_step, lost_curves
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from ovps.training.run import architecture, origin
from ovps.training.run_files import (
    CONFIG,
    FREE,
    INFO,
    LAST,
    STATISTICS,
    VOCABULARY,
    ClipSource,
    FeatureSource,
    RunInfo,
    hash_tokens,
    load_settings,
    save_settings,
)
from ovps.training.system_files import check_config, load_system
from ovps.vocabulary import save_vocabulary
from pipelines.options import TrainOptions

FILES = (CONFIG, INFO, VOCABULARY, STATISTICS, CACHE, METRICS)  # of a run
FOLDERS = ("checkpoints", TENSORBOARD)
MEAN = "distance to the mean CLIP feature"  # what a checkpoint states of the run's statistics
_FRAMES_LOOKED_AT = 3  # for what is odd in all of them
_TRAINING = threading.Lock()
ROOM = 64  # frames of a batch that may be more than there are: they repeat


@dataclass(frozen=True)
class TrainSummary:
    """Summary of `ovps train`.

    Attributes:
        run: its folder.
        frames: trained on.
        unlabelled_frames: left out.
        parameters: of the network.
        resumed_from: step that this call began at.
        step, total_steps: where it stopped, and where the run ends.
        seconds: of this call.
        losses: of the last update; empty if there was none.
    """

    run: Path
    frames: int
    unlabelled_frames: int
    parameters: int
    resumed_from: int
    step: int
    total_steps: int
    seconds: float
    losses: dict[str, float]


def train(options: TrainOptions) -> TrainSummary:
    """Train a run from its beginning, or from its last checkpoint, to its end.

    Under torchrun, processes share the work (`ovps.training.distributed`) and the folder of the run, and the first one
    writes it. A summary comes back in each.

    Raises:
        ConfigError: settings that cannot be used, or that differ from those the run was begun with; frames without
            labels, or none with a point of a base class.
        CacheError: no cache, or a damaged one.
        CheckpointError: a run or checkpoint that is damaged or of another architecture, or that another process
            trains; a full disk.
        TrainingError: a loss that is not finite; another process has gone; a loader process fails; this process is
            training another run.
        KeyboardInterrupt: from within a step, where the signal is listened to (`ovps.interrupt`), only after it, with a
            checkpoint.
    """
    begin = time.perf_counter()
    config = resolve(options)
    check_free(options.run, but="run")
    check_text(options.run)  # TensorBoard takes no other
    device = own_device(device_of(options.device))
    check_processes("threads", config.threads or 1, "threads")
    show_warnings(alone())
    with _alone(), torch_threads(config.threads), join(device) as processes, deterministic_algorithms():
        if processes.first and config.model.encoder.backend == sparse.default() != "minkowski":
            sparse.tell("minkowski", sparse.default())
        batches, info = plan(Store.open(options.cache), config, processes.count)
        if processes.first:
            show_warnings([*batches.store.warnings(), *_too_many_threads(config)])
            show_warnings(random_clip(batches.store.provenance, systems.get(config.system), config))
        with exclusive(options.run) if processes.first else nullcontext():
            return _train(options, config, batches, info, processes, begin)


@contextmanager
def _alone() -> Iterator[None]:
    """One training of this process at a time: several would draw from torch's one random generator, each in its turn.

    Raises:
        TrainingError: another one is under way, in another thread.
    """
    if not _TRAINING.acquire(blocking=False):
        raise TrainingError(
            "this process is training another run, and both would draw from one random generator",
            remedy="Train one run after the other, or each in a process of its own",
        )
    try:
        yield
    finally:
        _TRAINING.release()


def resolve(options: TrainOptions) -> TrainConfig:
    """Every setting: the config's, under the system's, under the options' own.

    Raises:
        ConfigError: no such config or system, settings that cannot be used, or a config that contradicts the system.
    """
    if {"steps", "epochs"} <= {override.partition("=")[0].strip() for override in options.overrides}:
        raise ConfigError("both steps and epochs are set", remedy="Set one: each says how long the run is")
    system = load_system(options.system)
    check_config(options.config, system)
    split = system.train_split if options.split is None else options.split
    config = load_config(
        options.config,
        (*system.overrides, *(() if split is None else (f"split={split}",)), *options.overrides),
    )
    check_naming(systems.get(config.system), config.classifier)
    return config


def _train(
    options: TrainOptions, config: TrainConfig, batches: Batches, info: RunInfo, processes: Processes, begin: float
) -> TrainSummary:
    run, total, device = options.run, info.total_steps, processes.device
    if processes.first:
        _check_places(run)
    system = systems.get(config.system)
    classes = training_classes(system, batches.store.vocabulary, info.classes)
    torch.manual_seed(config.seed)
    network = synchronise_norms(make_network(config, info), processes).to(device)
    optimiser = make_optimiser(network, config.optimiser)
    content = content_of(batches.store, batches.frames)
    if processes.as_first((run / LAST).is_file() and not options.restart):
        start = _resume(run, config, info, network, optimiser)
        if processes.first:
            save_vocabulary(batches.store.vocabulary, run / VOCABULARY)  # the same, as `_resume` found, if it is whole
            show_warnings([*changes(run, content), *lost_curves(run, start, total, load_settings(run)[0].log_interval)])
    else:
        start = 0
        if processes.first:
            if not options.restart:
                _check_no_checkpoint_is_lost(run)
            _check_labels(batches)
            show_warnings([*_repeated(batches), *_without_numbers(batches)])
            if config.data.grid is not None:  # that of the store was looked at when it was made
                show_warnings(_odd_grid(batches))
            measured = measure(batches.store, batches.frames, config.statistics_frames)
            if options.restart:  # what was there goes when there is something to take its place
                _clear(run)
            _begin(run, batches.store, content, measured)
    processes.meet()  # nobody reads the old settings any more, and the statistics are there
    statistics = load_statistics(run / STATISTICS)
    if processes.first:
        save_settings(run, config, info)

    stop = min(total, options.stop_after or total)
    objective = make_objective(system, config, classes.to(device), statistics.mean_l1, processes.mean)
    every = train_steps(
        network, optimiser, batches, objective, config, start=start, stop=stop, total=total, processes=processes
    )

    def save(name: str, step: int) -> None:
        about = origin(config, info) | {MEAN: statistics.mean_l1}
        save_checkpoint(run / name, architecture(config, info), about, step, network, optimiser)

    with finishing("this step") as asked:
        steps = _until(every, lambda: processes.any(asked()))
        if processes.first:
            last = _record(steps, run, config, start, stop, total, save)
        else:
            last = next(iter(deque(steps, maxlen=1)), None)
    if last is not None and last.step < stop:
        with kept(lambda: f"run {run} is kept at step {last.step} of {total}"):
            raise KeyboardInterrupt
    return TrainSummary(
        run=run,
        frames=len(batches.frames),
        unlabelled_frames=info.unlabelled_frames,
        parameters=sum(p.numel() for p in network.parameters()),
        resumed_from=start,
        step=last.step if last else start,
        total_steps=total,
        seconds=time.perf_counter() - begin,
        losses=last.losses if last else {},
    )


def _until(steps: Iterator[StepReport], asked: Callable[[], bool]) -> Iterator[StepReport]:
    """The steps up to the first after which one is asked to stop."""
    for report in steps:
        yield report
        if asked():
            return


def _record(
    steps: Iterator[StepReport],
    run: Path,
    config: TrainConfig,
    start: int,
    stop: int,
    total: int,
    save: Callable[[str, int], None],
) -> StepReport | None:
    """Let the steps happen, with metrics, checkpoints and progress; the last one, if there was any.

    The last one has a checkpoint, whether it is step number `stop` or the steps ended before. Whatever step has one has
    a line of metrics before it: curves that end before the checkpoint are lost ones (`lost_curves`).
    """
    last: StepReport | None = None
    logged, saved = False, [LAST]
    with MetricsLog(run, start) as metrics, progress("train", "steps", total, done=start) as counter:
        for last in steps:
            counter.show(last.step, _note(last))
            saved = _checkpoints_due(config, last.step, stop)
            logged = bool(saved) or last.step % config.log_interval == 0 or last.gradient_ratio is not None
            if logged:
                metrics.write(last.step, last.scalars())
            for name in saved:
                save(name, last.step)
        if last is not None and LAST not in saved:
            if not logged:
                metrics.write(last.step, last.scalars())
            save(LAST, last.step)
    return last


def plan(store: Store, config: TrainConfig, processes: int = 1) -> tuple[Batches, RunInfo]:
    """Plan a training: the batches of its steps, and the record of what they are made from."""
    provenance = store.provenance
    taxonomy = store.taxonomy
    split = load_split(config.split).of(taxonomy)
    classes = ClassSplit(taxonomy, split)
    if not classes.names:
        raise ConfigError(
            f"split {split.name} leaves no base class to train on", remedy="Name a split with fewer novel classes"
        )
    system = systems.get(config.system)
    needs_labels = system.needs_labels
    frames = training_frames(store, config.data.subsets, config.data.unlabelled_frames if needs_labels else "use")
    if config.data.batch_size > max(len(frames), ROOM):  # no order of the frames fills it
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size:,}, and there are {len(frames):,} frames to train on",
            remedy="Give a few frames at a time, as many as memory holds; --set accumulate=N adds up N batches",
        )
    grid = Grid.parse(config.data.grid or provenance.grid)
    info = RunInfo(
        ovps_version=ovps.__version__,
        torch_version=torch.__version__,
        dataset=provenance.dataset,
        dataset_version=provenance.dataset_version,
        taxonomy=taxonomy,
        split=split,
        grid=str(grid),
        cache_grid=provenance.grid,
        cache_features=FeatureSource.of(provenance),
        clip=ClipSource.of(provenance),
        vocabulary_sha256=store.info.vocabulary_sha256,
        frames=len(frames),
        frames_sha256=hash_tokens(ref.token for ref in frames),
        scenes=tuple(dict.fromkeys(ref.scene for ref in frames)),
        unlabelled_frames=sum(ref.subset in config.data.subsets for ref in store.frames) - len(frames),
        total_steps=config.total_steps(len(frames), processes),
        threads=torch.get_num_threads(),
        processes=processes,
        sweeps=provenance.sweeps,
    )
    batches = Batches(
        store,
        frames,
        grid,
        base=classes if needs_labels else None,
        seed=config.seed,
        data=config.data,
        augmentation=config.augmentation,
        proposals=config.loss.proposals if config.loss.weight("proposal") > 0 and system.learns_proposals else None,
        clusters=config.model.input_clusters,
    )
    return batches, info


def _check_places(run: Path) -> None:
    """Raise CheckpointError if a folder lies in the place of a file of the run, or a file in that of a folder."""
    wrong = [(run / name, "folder", "file") for name in (*FILES, LAST) if (run / name).is_dir()]
    wrong += [(run / name, "file", "folder") for name in FOLDERS if (run / name).is_file()]
    if wrong:
        path, there, wanted = wrong[0]
        raise CheckpointError(
            f"a {there} lies where a {wanted} of the run should be",
            path=path,
            remedy="Move it away, and run the same command again",
        )


def _check_no_checkpoint_is_lost(run: Path) -> None:
    """Raise CheckpointError if a run without a last checkpoint has been so far that it had one."""
    step = last_step(run) if (run / INFO).is_file() else 0
    if step == 0:
        return
    # at the interval itself a disk may have refused the first checkpoint
    if step > load_settings(run)[0].checkpoint_interval or any((run / LAST).parent.glob("step_*.pt")):
        raise CheckpointError(
            f"missing, and the run has been at step {step}",
            path=run / LAST,
            remedy="Restore it, or copy one of step_N.pt beside it in its place; to begin anew: --restart",
        )
    show_warnings([f"run {run} has been at step {step} and has no checkpoint: it begins anew"])


def _begin(run: Path, store: Store, content: CacheContent, statistics: ClipStatistics) -> None:
    """Write what a new run takes from the cache."""
    save_content(run, content)
    save_vocabulary(store.vocabulary, run / VOCABULARY)
    save_statistics(statistics, run / STATISTICS)


def _too_many_threads(config: TrainConfig) -> list[str]:
    """Warn of more threads than cores: those that wait for one another spin."""
    if config.threads is None or config.threads <= cores():
        return []
    return [
        f"threads is {config.threads}, and there are {counted(cores(), 'core')} for them: steps take many times as"
        f" long; with threads={cores()} they do not (two numbers of threads give different last bits)"
    ]


def _without_numbers(batches: Batches) -> list[str]:
    """Warn of base classes whose things have no numbers, where they are learned from."""
    return without_numbers(batches.store, batches.frames, batches.base.ids.tolist()) if batches.base else []


def _repeated(batches: Batches) -> list[str]:
    """Warn of batches that hold some frames more than once."""
    size, frames = batches.data.batch_size, len(batches.frames)
    if size <= frames:
        return []
    return [
        f"data.batch_size is {size}, and there are {counted(frames, 'frame')} to train on: a batch holds some twice"
    ]


def _odd_grid(batches: Batches) -> list[str]:
    """Warn of a grid of the network that does not fit the points of some frames."""
    some = batches.frames[:: -(-len(batches.frames) // _FRAMES_LOOKED_AT)]
    clouds = [batches.store.read(ref).xyz for ref in some]
    points = np.array([len(xyz) for xyz in clouds])
    voxels = sum(len(voxelise(xyz, batches.grid)[0]) for xyz in clouds)
    beyond = sum(batches.grid.beyond(xyz).sum() for xyz in clouds) / max(points.sum(), 1)
    return odd_grid(int(points.sum()), voxels, float(beyond), int(np.median(points)), "data.grid")


def _check_labels(batches: Batches) -> None:
    """Raise ConfigError if labels are to be learned from, and no frame has a point of a base class."""
    base, store = batches.base, batches.store
    if base is None or any(np.isin(store.objects(ref).classes, base.ids).any() for ref in batches.frames):
        return
    raise ConfigError(
        f"none of {len(batches.frames):,} frames to train on has a labelled point of a base class of split"
        f" {base.split.name}",
        path=store.path,
        remedy=f"Look at its labels (`ovps data check` of an own recording): the taxonomy {base.taxonomy.name} may not"
        " name their raw classes, and is then to be mended and the store made anew; or name another split",
    )


def _resume(run: Path, config: TrainConfig, info: RunInfo, network: nn.Module, optimiser: AdamW) -> int:
    """Put the last checkpoint into network and optimiser; the step it was made at.

    Raises:
        CheckpointError: damaged, or of another version, architecture or run; or the statistics are another run's.
        ConfigError: the run was begun with other settings, frames or CLIP features: going on would mix the two.
    """
    checkpoint = load_checkpoint(run / LAST, architecture(config, info))
    check_same(run, config, info)
    check_origin(checkpoint, origin(config, info), info.total_steps, run / LAST)
    _check_statistics(load_statistics(run / STATISTICS), checkpoint, run / STATISTICS)
    restore(checkpoint, network, optimiser, run / LAST)
    return checkpoint.step


def _check_statistics(found: ClipStatistics, checkpoint: Checkpoint, path: Path) -> None:
    """Raise CheckpointError if a run has not learned with these; a checkpoint of an earlier version does not say."""
    there = checkpoint.origin.get(MEAN, found.mean_l1)
    if there != found.mean_l1:
        raise CheckpointError(
            f"statistics of another run: {MEAN} {found.mean_l1:.6g}, the run was trained with {there:.6g}",
            path=path,
            remedy="Put the run's own back",
        )


def check_same(
    run: Path,
    config: TrainConfig,
    info: RunInfo,
    remedy: str = "Give the same settings to go on, another --out, or --restart to begin anew",
) -> None:
    """Raise ConfigError if a run was begun with other settings, frames or CLIP features than these."""
    old_config, old_info = load_settings(run)
    there, now = flat(old_config) | _comparable(old_info), flat(config) | _comparable(info)
    # a split is what it hides, not its name or its file's
    differing = [*differences(there, now, ignore=(*FREE, "split")), *content_differences(old_info, info)]
    if differing:
        raise ConfigError(f"the run was begun with other settings: {'; '.join(differing)}", path=run, remedy=remedy)


def _comparable(info: RunInfo) -> dict[str, Any]:
    """What must be the same for a run to go on exactly, besides what the store holds."""
    return {"processes": info.processes, "hidden classes": sorted(info.split.hidden)}


def content_differences(there: RunInfo, now: RunInfo) -> list[str]:
    """Name what a run learned from that is not what the store holds now: CLIP, class names, frames."""
    found = differences(flat(there.clip), flat(now.clip))
    if there.vocabulary_sha256 != now.vocabulary_sha256:
        found.append("class names: their embeddings are not those that the store has now")
    if there.frames_sha256 != now.frames_sha256:
        other = "others " if there.frames == now.frames else ""
        found.append(f"frames to train on: {there.frames:,} there, {now.frames:,} {other}in the store now")
    return found


def _checkpoints_due(config: TrainConfig, step: int, stop: int) -> list[str]:
    due = [LAST] if step == stop or step % config.checkpoint_interval == 0 else []
    keep = config.keep_interval and step % config.keep_interval == 0
    return [*due, f"checkpoints/step_{step}.pt"] if keep else due


def _clear(run: Path) -> None:
    """Remove what a run consists of, and nothing else that may lie in the folder."""
    for name in FILES:
        (run / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(run / name, ignore_errors=True)


def _note(report: StepReport) -> str:
    data, step = 1000 * report.data_seconds, 1000 * report.step_seconds
    return f"loss {report.losses['total']:.3f}  data {data:.0f} ms  step {step:.0f} ms"


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Deterministic algorithms where torch has them; a warning where it has none (some on the GPU)."""
    # cuBLAS has them only with this, and reads it when a process first uses it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    flags: Any = deterministic
    before, fill = torch.are_deterministic_algorithms_enabled(), flags.fill_uninitialized_memory
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    flags.fill_uninitialized_memory = False  # a debugging aid that costs a write of every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        flags.fill_uninitialized_memory = fill
