"""The project on the device against the project on the CPU, part by part, then whole runs.

Every part is given the same input twice: on the CPU with one thread, and on the device; where the device is the CPU
itself, with two threads. Differences are relative lengths, unless the name says otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ovps.batch.loader import Batches, training_frames
from ovps.batch.sample import Batch
from ovps.batch.statistics import measure
from ovps.cache.reader import Store
from ovps.inference.predict_frame import predict_frame
from ovps.losses.total import LossTerms, loss_terms
from ovps.model.class_text import ClassText
from ovps.model.inputs import LayerOutput
from ovps.model.network import Network
from ovps.model.panoptic import MergeConfig, merge
from ovps.model.unclaimed import add_proposals
from ovps.systems.queries import SYSTEM
from ovps.training.checkpoint import load_checkpoint
from ovps.training.config import TrainConfig, load_config
from ovps.training.network import make_network
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from ovps.training.run import architecture
from ovps.training.run_files import LAST, load_settings
from pipelines.evaluate import evaluate
from pipelines.precompute import precompute
from pipelines.train import TrainOptions, plan, train
from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import Setting, apart
from tools.gpu_check.world import small_options

SMALL = ("steps=6", "log_interval=1", "gradient_interval=2", "checkpoint_interval=100", "data.keep_mb=200", "threads=1")
TINY = (
    *("model.encoder.channels=[8,16]", "model.width=32", "model.queries=24", "model.layers=1", "model.ffn=64"),
    *("data.grid=cylinder:60x90x12", "steps=4"),
)
SYSTEMS = ("ovps", "pfc", "openscene", "closed_set")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Case:
    """One batch, and a network with its objective to put it through.

    Attributes:
        network: on the CPU, as it was drawn.
        names: of the base classes.
    """

    setting: Setting
    store: Store
    config: TrainConfig
    batches: Batches
    network: Network
    base: ClassText
    names: tuple[str, ...]
    mean_l1: float
    batch: Batch

    @classmethod
    def of(cls, setting: Setting, cache: Path) -> Case:
        store = Store.open(cache)
        config = load_config("driveworld", (*settings_of(setting), "data.batch_size=1"))
        batches, info = plan(store, config)
        torch.manual_seed(0)
        network = make_network(config, info)
        assert isinstance(network, Network)
        base = SYSTEM.training_classes(store.vocabulary, info.classes)
        mean_l1 = measure(store, training_frames(store, ("train",)), 2).mean_l1
        return cls(setting, store, config, batches, network, base, info.classes.names, mean_l1, batches[0])

    def both(self, compute: Callable[[str], T]) -> tuple[T, T]:
        """On the CPU, and on the device."""
        with threads(1):
            reference = compute("cpu")
        with threads(2 if not self.setting.on_gpu else 1):
            return reference, compute(self.setting.device)

    def network_on(self, device: str) -> Network:
        return copy.deepcopy(self.network).to(device)


def settings_of(setting: Setting) -> tuple[str, ...]:
    return (*SMALL, *TINY) if setting.tiny else SMALL


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(setting: Setting, recorder: Recorder) -> None:
    cache = setting.work / "zarr" / "small"
    precompute(small_options(setting, cache))
    with recorder.guarded("codecs"):
        codecs(setting, recorder, cache)
    case = Case.of(setting, cache)
    parts = (encoder, whole_network, losses, merging, training_steps, half_precision, prediction)
    for part in parts:
        with recorder.guarded(part.__name__.replace("_", " ")):
            part(case, recorder)
    with recorder.guarded("exact resume"):
        resume(setting, recorder, cache)
    for system in SYSTEMS:
        with recorder.guarded(f"{system} trained and scored"):
            whole_run(setting, recorder, cache, system)


def codecs(setting: Setting, recorder: Recorder, cache: Path) -> None:
    """CLIP features of the device against those of the CPU, and of the two codecs against each other."""
    stores = {"device": Store.open(cache)}
    for name, changes in {"cpu": {"device": "cpu"}, "dense": {"codec": "dense"}}.items():
        out = setting.work / "zarr" / f"small-{name}"
        precompute(small_options(setting, out, **changes))
        stores[name] = Store.open(out)
    frames = {name: [store.read(ref) for ref in store.frames] for name, store in stores.items()}
    clip = {name: torch.from_numpy(np.concatenate([f.clip for f in all_])) for name, all_ in frames.items()}
    words = {name: torch.from_numpy(store.vocabulary.embeddings) for name, store in stores.items()}
    # TF32 is torch's default in convolutions on a GPU
    recorder.add("CLIP features in the cache", apart(clip["device"], clip["cpu"]), tolerance=5e-3)
    recorder.add("text embeddings", apart(words["device"], words["cpu"]), tolerance=1e-3)
    recorder.add("codec cells against dense", apart(clip["device"], clip["dense"]), tolerance=2e-3)


def encoder(case: Case, recorder: Recorder) -> None:
    voxels = case.batch.voxels

    def compute(device: str) -> list[Tensor]:
        part = case.network_on(device).encoder
        out = part(voxels.coords.to(device), voxels.features.to(device))
        out.square().mean().backward()
        return [out, *(p.grad for p in part.parameters() if p.grad is not None)]

    reference, ours = case.both(compute)
    recorder.add("encoder", apart(ours[0], reference[0]), tolerance=1e-4, note=f"{len(voxels.coords)} voxels")
    recorder.add("encoder, gradient", apart(flat(ours[1:]), flat(reference[1:])), tolerance=1e-3)


def whole_network(case: Case, recorder: Recorder) -> None:
    def compute(device: str) -> list[LayerOutput]:
        with torch.no_grad():
            return case.network_on(device)(case.batch.voxels.to(device))

    reference, ours = case.both(compute)
    recorder.add("network, first masks", apart(ours[0].mask_logits[0], reference[0].mask_logits[0]), tolerance=1e-3)
    # a logit next to 0 may fall on either side, and the attention of the layers sees it
    recorder.add("network, last masks", apart(ours[-1].mask_logits[0], reference[-1].mask_logits[0]), tolerance=1e-2)
    last = apart(ours[-1].class_embedding, reference[-1].class_embedding)
    recorder.add("network, last class embeddings", last, tolerance=1e-2)


def losses(case: Case, recorder: Recorder) -> None:
    """Of the same outputs: every part, and the gradients of all outputs."""
    with torch.no_grad():
        outputs = case.network(case.batch.voxels)

    def compute(device: str) -> tuple[LossTerms, list[Tensor]]:
        leaves: list[Tensor] = []

        def leaf(tensor: Tensor) -> Tensor:
            leaves.append(tensor.detach().to(device).requires_grad_())
            return leaves[-1]

        moved = [
            LayerOutput(
                leaf(o.class_embedding),
                [leaf(m) for m in o.mask_logits],
                None if o.position_logits is None else [leaf(m) for m in o.position_logits],
            )
            for o in outputs
        ]
        batch, network = case.batch.to(device), case.network_on(device)
        base = case.base.to(device)
        terms = loss_terms(
            moved, batch.voxels, batch.targets, network.class_logits, base, case.mean_l1, case.config.loss
        )
        terms.total.backward()
        return terms, [t.grad for t in leaves if t.grad is not None]

    (reference, there), (ours, here) = case.both(compute)
    names = list(reference.parts)
    one, two = (torch.stack([terms.parts[n] for n in names]).cpu() for terms in (ours, reference))
    worst = int(((one - two).abs() / two.abs().clamp(min=1e-6)).argmax())
    far = float((one[worst] - two[worst]).abs() / two[worst].abs().clamp(min=1e-6))
    recorder.add("losses, the worst part", far, tolerance=1e-4, note=names[worst])
    recorder.add("losses, gradient of all outputs", apart(flat(here), flat(there)), tolerance=1e-3)


def merging(case: Case, recorder: Recorder) -> None:
    """True segments twice as masks, with noise: winners, duplicates, pieces and proposals, voxel by voxel."""
    voxels, targets = case.batch.voxels, case.batch.targets[0]
    random = torch.Generator().manual_seed(0)
    true = targets.voxel_segment == torch.arange(len(targets.segment_class))[:, None]
    masks = torch.cat([true, true])
    logits = torch.where(masks, 3.0, -3.0) + torch.randn(masks.shape, generator=random)
    text = ClassText.of(case.store.vocabulary, ())
    probability = torch.rand(len(masks), len(text), generator=random)
    config = MergeConfig(score=0.3, overlap=0.2, duplicate=0.5)

    def compute(device: str) -> Tensor:
        words = ClassText.of(case.store.vocabulary, ()).to(device)
        on = voxels.to(device)
        merged = merge(probability.to(device), logits.to(device), words.is_thing, on.position, config)
        clip = (on.clip, on.clip_valid)
        more = add_proposals(merged, *clip, words, on.position, config.proposals)
        found = (merged.voxel_class, merged.voxel_instance, more.voxel_class, more.voxel_instance)
        return torch.stack(found).cpu()

    reference, ours = case.both(compute)
    segments = len(torch.unique(reference[:2], dim=1).T)
    different = float((reference != ours).any(dim=0).double().mean())
    recorder.add(
        "merge and proposals, share of voxels that differ", different, tolerance=1e-3, note=f"{segments} segments"
    )


def training_steps(case: Case, recorder: Recorder) -> None:
    """Loss and gradient of a first step, and the loss after some more."""
    updates = 1 if case.setting.tiny else 3

    def compute(device: str) -> tuple[float, Tensor, float]:
        network = case.network_on(device).train()
        objective = make_objective(SYSTEM, case.config, case.base.to(device), case.mean_l1)
        optimiser, batch = make_optimiser(network, case.config.optimiser), case.batch.to(device)
        seen: list[float] = []
        gradient = torch.zeros(0)
        for step in range(updates + 1):
            optimiser.zero_grad(set_to_none=True)
            total = objective(network, batch, step).total
            total.backward()
            seen.append(float(total.detach()))
            if step == 0:
                gradient = flat([p.grad for p in network.parameters() if p.grad is not None])
            optimiser.step()
        return seen[0], gradient, seen[-1]

    (first, gradient, last), (our_first, our_gradient, our_last) = case.both(compute)
    recorder.add("training step, loss", abs(our_first - first) / first, tolerance=1e-3, note=f"{first:.4f} on the CPU")
    recorder.add("training step, gradient", apart(our_gradient, gradient), tolerance=3e-2)
    recorder.add(
        f"loss after {updates} updates", abs(our_last - last) / last, tolerance=3e-2, note=f"{last:.4f} on the CPU"
    )


def half_precision(case: Case, recorder: Recorder) -> None:
    """bf16 on the device against float32 on the device."""
    device = case.setting.device
    batch, found = case.batch.to(device), []
    for precision in ("float32", "bf16"):
        network = case.network_on(device).train()
        config = case.config.model_copy(update={"precision": precision})
        terms = make_objective(SYSTEM, config, case.base.to(device), case.mean_l1)(network, batch, 0)
        terms.total.backward()
        gradient = flat([p.grad for p in network.parameters() if p.grad is not None])
        found.append((float(terms.total.detach()), gradient))
    (plain, gradient), (half, half_gradient) = found
    recorder.add("bf16, loss against float32", abs(half - plain) / plain, tolerance=5e-2)
    recorder.add("bf16, gradient against float32", apart(half_gradient, gradient), tolerance=0.3)


def prediction(case: Case, recorder: Recorder) -> None:
    """Labels of points by an untrained network, thresholds so low that it says something, with every variant."""
    config = case.config.merge.model_copy(update={"score": 0.0, "mask": 0.02, "overlap": 0.0})

    def compute(device: str) -> np.ndarray:
        network = case.network_on(device).eval()
        classes = ClassText.of(case.store.vocabulary, case.names).to(device)
        found = predict_frame(
            SYSTEM, network, case.batch.voxels.to(device), classes, config, case.config.classifier, SYSTEM.variants
        )
        return np.stack([found.labels.entry, *(v.entry for v in found.variants.values())])

    reference, ours = case.both(compute)
    different = float((reference != ours).mean())
    recorder.add("prediction, share of points that differ", different, tolerance=2e-2)


def resume(setting: Setting, recorder: Recorder, cache: Path) -> None:
    """A run stopped in the middle and resumed, against one that was not, and against that one made again.

    MinkowskiEngine numbers coarse voxels on a GPU in the order in which its threads come, so there two runs may differ
    in their last bits: then a resumed one may differ as much, and no more.
    """
    runs = setting.work / "runs"
    options = TrainOptions(
        cache=cache, out=runs / "whole", overrides=settings_of(setting), device=setting.device, restart=True
    )
    train(options)
    train(options.model_copy(update={"out": runs / "again"}))
    half = 2 if setting.tiny else 3
    train(options.model_copy(update={"out": runs / "resumed", "stop_after": half}))
    train(options.model_copy(update={"out": runs / "resumed", "restart": False}))
    whole, again, resumed = (weights(runs / name) for name in ("whole", "again", "resumed"))
    noise, far = apart(again, whole), apart(resumed, whole)
    recorder.add("same run twice", noise, note="bit for bit" if torch.equal(whole, again) else "other last bits")
    exact = torch.equal(whole, resumed)
    note = "bit for bit" if exact else f"{far / noise:.1f} times what the same run twice differs by" if noise else ""
    recorder.add("resumed run", far, tolerance=3 * noise, note=note)


def whole_run(setting: Setting, recorder: Recorder, cache: Path, system: str) -> None:
    """Two steps and an evaluation through the doors that a user takes."""
    out = setting.work / "runs" / f"smoke-{system}"
    overrides = (*settings_of(setting), "steps=2")
    train(TrainOptions(cache=cache, out=out, system=system, overrides=overrides, device=setting.device, restart=True))
    result = evaluate(out, cache, device=setting.device)
    recorder.add(f"{system} trained and scored", ok=True, note=f"{result.seconds:.1f} s for the scores")


def weights(run: Path) -> Tensor:
    """All floating-point weights of a run's last checkpoint as one vector."""
    config, info = load_settings(run)
    state = load_checkpoint(run / LAST, architecture(config, info)).network
    return flat([t for t in state.values() if t.is_floating_point()])


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().cpu().flatten() for t in tensors])
