"""A training step from the cache, against the same step with CLIP run online on the six images (reference).

The limit: a step that reads nothing at all, with its batch in memory.

python -m benchmarks.bench_step
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.setting import FRAMES, cache, options, paired
from ovps.cache.reader import Store
from ovps.training.config import load_config
from ovps.training.data import training_frames
from ovps.training.objective import make_objective
from ovps.training.optimiser import make_optimiser
from ovps.training.order import Draw
from ovps.training.run import make_network
from ovps.training.sample import Batch, make_sample
from ovps.training.statistics import measure
from ovps.training.text import base_classes
from pipelines.precompute.frame import StageTimes, compute_frame
from pipelines.precompute.partition import tools_of
from pipelines.precompute.run import frames_of, prepare
from pipelines.train import plan

ROUNDS = 8


def main() -> None:
    path = cache()
    store = Store.open(path)
    config = load_config("driveworld", ("data.batch_size=1", "data.keep_mb=0"))
    torch.set_num_threads(2)
    refs = training_frames(store, ("train",))
    batches, info = plan(store, config)
    base = base_classes(store.vocabulary, batches.base)
    network = make_network(config, info).train()
    optimiser = make_optimiser(network, config.optimiser)
    mean_l1 = measure(store, refs, FRAMES).mean_l1
    objective = make_objective(config, base, mean_l1)
    kept = [store.read(ref) for ref in refs]

    wanted = options().resolved()
    frames = frames_of(wanted)
    job, _ = prepare(wanted, frames)
    tools = tools_of(replace(job, device="cpu"))

    def sample(frame, turn: int) -> Batch:
        draw = Draw(epoch=turn, frame=turn % FRAMES)
        return make_sample(
            frame, draw, seed=0, grid=batches.grid, augmentation=config.augmentation, base=batches.base, proposals=True
        )

    def step(batch: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        objective(network, batch, 0).total.backward()
        optimiser.step()

    def online(turn: int) -> None:
        compute_frame(frames[turn % FRAMES], tools, StageTimes())
        step(sample(kept[turn % FRAMES], turn))

    def cached(turn: int) -> None:
        step(sample(store.read(refs[turn % FRAMES]), turn))

    ready = [sample(frame, 0) for frame in kept]

    def limit(turn: int) -> None:
        step(ready[turn % FRAMES])

    reference, ours, ratio = paired(online, cached, ROUNDS)
    floor, _, over = paired(limit, cached, ROUNDS)
    print(f"encoder {store.provenance.encoder}, {torch.get_num_threads()} threads, one frame a step, {ROUNDS} pairs")
    print(f"CLIP online (reference)   {reference:7.3f} s a step")
    print(f"from the cache            {ours:7.3f} s a step: {ratio:.2f} times faster than online")
    print(f"batch in memory (limit)   {floor:7.3f} s a step: the cache takes {1 / over:.2f} times the limit")


if __name__ == "__main__":
    main()
