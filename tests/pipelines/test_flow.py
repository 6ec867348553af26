"""The way of frames through the encoder: beside an accelerator the same frames come out as one after another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated import DEVICE, plugged
from ovps.cache.writer import EncodedFrame
from ovps.clip.dense import dense_encoder
from ovps.clip.loading import load_clip
from ovps.clip.open_clip_encoder import OpenClipEncoder
from ovps.clip.protocol import AT_ONCE
from ovps.errors import ConfigError, FrameError, ProvenanceError, SetupError
from pipelines.precompute import PrecomputeOptions, executor, precompute
from pipelines.precompute.asked import frames_of
from pipelines.precompute.compute_frame import StageTimes, Tools
from pipelines.precompute.flow import ahead, computed
from pipelines.precompute.options import resolved
from pipelines.precompute.prepare import prepare
from pipelines.precompute.task import tools_of
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.helpers.stores import written

FRAMES = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mini_nuscenes(tmp_path_factory.mktemp("world"), scenes=1, frames=FRAMES, points=200)


def options_for(root, out, **changes) -> PrecomputeOptions:
    values = {"grid": "cylinder:60x45x8", "encoder": "demo", "weights": "random", "workers": 0, "codec": "cells"}
    return PrecomputeOptions.model_validate(
        values | {"dataroot": root, "out": out, "subsets": ("train",), "version": "v1.0-trainval"} | changes
    )


@pytest.fixture(scope="module")
def world(root, tmp_path_factory):
    """Frames, and the tools that compute them."""
    options = resolved(options_for(root, tmp_path_factory.mktemp("out") / "zarr"))
    frames = frames_of(options)
    return frames, tools_of(prepare(options, frames)[0])


@dataclass
class Wrapped:
    """An encoder that does something before it encodes."""

    inner: object
    before: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode(self, images):
        self.before(images)
        return self.inner.encode(images)


def with_encoder(tools: Tools, before) -> Tools:
    return replace(tools, encoder=Wrapped(tools.encoder, before))


def same(one, other) -> bool:
    return (
        one.row == other.row
        and one.arrays.keys() == other.arrays.keys()
        and all(one.arrays[name].tobytes() == other.arrays[name].tobytes() for name in one.arrays)
    )


@pytest.fixture(scope="module")
def one_by_one(world):
    return list(computed(*world, StageTimes()))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("cameras", [1, 6])
def test_threads_and_neighbours_change_no_bit(world, cameras, threads):
    frames, tools = world
    frames = [replace(frame, cameras=frame.cameras[:cameras]) for frame in frames]
    batches = []
    together = computed(frames, with_encoder(tools, lambda images: batches.append(len(images))), StageTimes(), threads)
    assert all(same(*pair) for pair in zip(together, computed(frames, tools, StageTimes()), strict=True))
    assert sum(batches) == FRAMES * cameras
    assert max(batches) == min(AT_ONCE, FRAMES * cameras)


def test_frames_are_read_while_the_encoder_is_waited_for(world, monkeypatch):
    frames, tools = world
    read = threading.Semaphore(0)
    image = type(tools.dataset).image

    def noted(self, camera):
        read.release()
        return image(self, camera)

    monkeypatch.setattr(type(tools.dataset), "image", noted)

    def until_two_frames_are_read(images):
        if passes.__next__() == 0:
            for _ in range(2 * 6):
                assert read.acquire(timeout=20), "nothing is read while the first frame is in the encoder"

    passes = count()
    made = list(computed(frames, with_encoder(tools, until_two_frames_are_read), StageTimes(), threads=2))
    assert [one.row.token for one in made] == [frame.token for frame in frames]


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("cameras", [1, 6])
def test_a_bad_frame_is_an_error_in_its_place(world, one_by_one, threads, cameras):
    """One whose file is missing, and one that the encoder refuses, also beside others."""
    frames, tools = world
    frames = [replace(frame, cameras=frame.cameras[:cameras]) for frame in frames]
    good = list(computed(frames, tools, StageTimes()))
    frames[1] = replace(frames[1], points_path="nowhere.bin")
    refused = tools.dataset.image(frames[3].cameras[0])

    def refuse(images):
        if any(np.array_equal(image, refused) for image in images):
            raise FrameError("of a colour that nobody has seen", remedy="Look at it")

    made = list(computed(frames, with_encoder(tools, refuse), StageTimes(), threads))
    assert [isinstance(one, FrameError) for one in made] == [False, True, False, True, False]
    assert [one.frame for one in made if isinstance(one, FrameError)] == [frames[1].token, frames[3].token]
    assert all(same(made[number], good[number]) for number in (0, 2, 4))


def test_no_room_on_the_accelerator(world):
    frames, tools = world

    def full(images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(SetupError, match=r"no room for 6 images with demo: CUDA out of memory(.|\n)*--upscale"):
        list(computed(frames, with_encoder(tools, full), StageTimes(), threads=2))


def test_nothing_goes_on_once_nobody_asks(world):
    frames, tools = world
    with closing(computed(frames, tools, StageTimes(), threads=2)) as made:
        next(made)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frame")]


def test_a_task_has_the_encoder_to_itself_and_gives_it_back(world):
    """The next one reads ahead until then; also when the first one fails."""
    frames, tools = world
    order = []

    def noted(name, fail=False):
        def encode(images):
            order.append(name)
            if fail:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return with_encoder(tools, encode)

    read = threading.Event()

    class Told(StageTimes):
        def stage(self, name):
            if name == "lift":
                read.set()
            return super().stage(name)

    with ThreadPoolExecutor(1) as other:
        with closing(computed(frames, noted("first"), StageTimes(), threads=2)) as first:
            next(first)
            second = other.submit(lambda: list(computed(frames[:2], noted("second"), Told(), threads=2)))
            assert read.wait(20), "the second task does not read ahead"
            assert len(list(first)) == FRAMES - 1
        assert all(isinstance(one, EncodedFrame) for one in second.result(20))
    assert order == ["first"] * FRAMES + ["second"] * 2
    with pytest.raises(SetupError) as kept:  # and its traceback with it
        list(computed(frames, noted("third", fail=True), StageTimes(), threads=2))
    assert len(list(computed(frames, tools, StageTimes(), threads=2))) == FRAMES
    assert kept.value


def test_a_task_that_fails_beside_an_accelerator_ends_the_others(monkeypatch):
    """None goes on behind the error that is told, and torch has its threads again."""
    done = []

    def task(job, number, on_frame):
        if number == 0:
            raise FrameError("of no use", remedy="Look at it")
        for frame in range(1000):
            on_frame(6)
            done.append(frame)
            time.sleep(0.01)

    monkeypatch.setattr(executor, "run_task", task)
    threads = torch.get_num_threads()
    with pytest.raises(FrameError, match="of no use"):
        list(executor.run_here(SimpleNamespace(device=DEVICE), [0, 1, 2], lambda images: None))
    assert len(done) < 100
    assert torch.get_num_threads() == threads


@given(st.lists(st.integers(), max_size=20), st.integers(1, 4), st.integers(1, 6))
def test_ahead_is_map_with_a_bound(things, threads, limit):
    begun = count()
    with ThreadPoolExecutor(threads) as pool:
        for taken, (result, thing) in enumerate(
            zip(ahead(pool, limit, lambda thing: (next(begun), 2 * thing)[1], things), things, strict=True)
        ):
            assert result == 2 * thing
            assert begun.__reduce__()[1][0] <= taken + limit


@pytest.mark.parametrize("workers", [None, 1])
def test_a_store_made_beside_an_accelerator_has_the_same_bytes(root, tmp_path, workers):
    """Repeated frames of a simulated one, in partitions of two, by threads, and by two tasks at a time in a worker."""
    changes = {"dataset": "repeated", "encoder": "simulated", "weights": None, "partition_frames": 2}
    with plugged(seconds=0.001, times=7):
        precompute(options_for(root, tmp_path / "plain", **changes))
        summary = precompute(options_for(root, tmp_path / "beside", **changes, device=DEVICE, workers=workers))
    assert (summary.frames, summary.partitions) == (7, 4)
    assert written(tmp_path / "beside") == written(tmp_path / "plain")


@pytest.mark.parametrize("images", [1, 4, 6])
def test_a_batch_is_filled_up_and_an_image_keeps_its_cells(images):
    clip = load_clip("demo")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 96, 160, 3), np.uint8)
    alone, together = (dense_encoder(clip, (160, 96), batch_size=size) for size in (1, AT_ONCE))
    sizes = []

    def features(batch):
        sizes.append(len(batch))
        return together._tower.features(batch)

    seen = replace(together, _tower=replace(together._tower, features=features))
    cells = seen.encode(pixels)
    assert sizes == [AT_ONCE]
    assert cells.shape[0] == images
    torch.testing.assert_close(cells, alone.encode(pixels), rtol=0, atol=2e-6)
    # whatever stands beside it, and in whatever place
    assert torch.equal(together.encode(pixels[:1]), cells[:1])


def test_more_gpus_than_there_are(root, tmp_path):
    with pytest.raises(ConfigError, match=r"--gpus 2, but 0 can be used with device cpu(.|\n)*Leave it out"):
        resolved(options_for(root, tmp_path / "zarr", gpus=2, device="cpu"))


def test_a_store_begun_on_a_gpu_is_not_completed_on_a_cpu(root, tmp_path, monkeypatch):
    precompute(options_for(root, tmp_path / "zarr", limit=1))
    monkeypatch.setattr(OpenClipEncoder, "precision", "bfloat16")
    with pytest.raises(ProvenanceError, match="precision 'float32' there, 'bfloat16' now"):
        precompute(options_for(root, tmp_path / "zarr"))
