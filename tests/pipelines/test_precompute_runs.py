"""Any sequence of runs of stage 1 over a changing data set ends where one run over the whole ends.

Frames are computed in no time here: by a stand-in that knows the token alone. Everything else is the real run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ovps.cache import codecs
from ovps.cache.cameras import row_of_camera
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.cache.where import storage_of
from ovps.cache.writer import EncodedFrame, create_store, encode_frame
from ovps.errors import DatasetError, FrameError
from ovps.frame import Camera, Frame
from ovps.geometry.cells import CellGrid
from ovps.taxonomy import load_taxonomy
from pipelines.precompute import PrecomputeOptions, precompute
from pipelines.precompute import stage as run_module
from pipelines.precompute import task as partition_module
from pipelines.precompute.task import Job
from tests.cache.test_round_trip import CLIP_DIM, ragged_frame
from tests.helpers.stores import same_frames
from tests.helpers.synthetic_store import provenance, vocabulary

SCENES = {"a": 4, "b": 2}
TOKENS = [f"{scene}{i}" for scene, count in SCENES.items() for i in range(count)]
CAMERA = Camera("FRONT", "image", 1, 1, np.eye(3), np.eye(4), 0)


@dataclass(frozen=True)
class World:
    """The data set as one run finds it.

    Attributes:
        frames: of each token: is it there, has it labels, can it be read.
        swapped: which subset the scenes belong to.
    """

    frames: dict[str, str]
    swapped: bool = False
    skip: bool = True
    partition_frames: int = 2

    def listed(self) -> list[Frame]:
        found: list[Frame] = []
        for scene in SCENES:
            there = [token for token in TOKENS if token[0] == scene and self.frames[token] != "absent"]
            subset = "train" if (scene == "a") != self.swapped else "val"
            for index, token in enumerate(there):
                state = self.frames[token]
                labels = None if state == "unlabelled" else "labels"
                path = "broken" if state == "broken" else "points"
                found.append(Frame("d", "v", subset, scene, token, index, 0, path, labels, (CAMERA,), np.eye(4)))
        return found


ALL_GOOD = World(dict.fromkeys(TOKENS, "good"))
worlds = st.builds(
    World,
    frames=st.fixed_dictionaries(
        {token: st.sampled_from(["good", "good", "unlabelled", "broken", "absent"]) for token in TOKENS}
    ),
    swapped=st.booleans(),
    skip=st.booleans(),
    partition_frames=st.integers(1, 3),
)


JOB = Job(
    out=Path(),
    dataset="d",
    encoder="e",
    weights=None,
    weights_sha256="0",
    device="cpu",
    upscale=1.0,
    grid="g",
    occlusion=None,
    codec="dense",
    state={},
    skip_bad_frames=False,
    dataroot=Path(),
    thumbnails=None,
)


def stand_in(frame: Frame) -> EncodedFrame | FrameError:
    if frame.points_path == "broken":
        return FrameError("cut off", path=frame.points_path, frame=frame.token)
    seed = TOKENS.index(frame.token)
    cached, features = ragged_frame(seed, seed, 9, 4, 2, 1.0, frame.labels_path is not None)
    cameras = tuple(row_of_camera(camera, 1, CellGrid(1, 1, 1.0), Path("/")) for camera in frame.cameras)
    cached = replace(
        cached,
        token=frame.token,
        scene=frame.scene,
        subset=frame.subset,
        index=frame.index,
        timestamp_us=frame.timestamp_us,
        global_from_lidar=frame.global_from_lidar,
        cameras=cameras,
    )
    return encode_frame(cached, features, codecs.get("dense"))


def open_store(job, provenance):
    create_store(job.out, provenance, load_taxonomy("nuscenes"), vocabulary(clip_dim=CLIP_DIM))
    return []


@pytest.fixture(scope="module", autouse=True)
def no_clip():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_module, "tools_of", lambda job: None)
        patch.setattr(partition_module, "computed", lambda frames, *others: (stand_in(frame) for frame in frames))
        patch.setattr(
            run_module,
            "prepare",
            lambda options, frames: (
                replace(JOB, out=storage_of(options.out), skip_bad_frames=options.on_error == "skip"),
                provenance(clip_dim=CLIP_DIM, codec="dense"),
            ),
        )
        patch.setattr(run_module, "open_store", open_store)
        yield


def precompute_world(world: World, out: Path) -> bool | None:
    """Run stage 1; False if it ended with an error that it may end with, None if it rightly refused to begin."""
    options = PrecomputeOptions(
        dataroot=out.parent,  # nothing is read there
        out=out,
        workers=0,
        on_error="skip" if world.skip else "stop",
        partition_frames=world.partition_frames,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "asked_for", lambda options: (world.listed(), []))
        patch.setattr(run_module, "oddities", lambda options, frames: ())
        try:
            summary = precompute(options)
        except DatasetError as error:
            refused = is_another_drive(error, world, out)
            assert refused or "broken" in world.frames.values()
            return None if refused else False
        assert {record.token for record in summary.quarantined} <= {t for t, s in world.frames.items() if s == "broken"}
        return True


def is_another_drive(error: DatasetError, world: World, out: Path) -> bool:
    """Whether a scene is refused rightly: the store has it, and none of the frames that the data set lists of it."""
    held = [ref for ref in Store.open(out).frames if f"scene {ref.scene!r}" in error.message]
    return bool(held) and {ref.token for ref in held}.isdisjoint(frame.token for frame in world.listed())


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "zarr"
    assert precompute_world(ALL_GOOD, out)
    return out


@pytest.mark.slow
@example(
    sequence=[
        World({token: "good" if token != "b0" else "absent" for token in TOKENS}, False, False, 1),
        World({token: "good" if token != "b1" else "absent" for token in TOKENS}, False, True, 1),
    ]
)
@example(  # labels came that could not be read, and went
    sequence=[
        World({token: "unlabelled" if token == "b0" else "good" for token in TOKENS}, False, True, 1),
        World({token: "broken" if token == "b0" else "good" for token in TOKENS}, False, True, 1),
        World({token: "unlabelled" if token == "b0" else "good" for token in TOKENS}, False, False, 1),
    ]
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(worlds, min_size=1, max_size=3))
def test_any_sequence_of_runs_ends_as_one_run(in_one_go, sequence):
    with TemporaryDirectory() as folder:
        out = Path(folder) / "zarr"
        before: dict[str, bool] = {}
        for world in sequence:
            listed = world.listed()
            if not listed:
                continue
            ended_well = precompute_world(world, out)
            assert verify_store(out) == []
            store = Store.open(out)
            now = {ref.token: store.read(ref) for ref in store.frames}
            labelled = {token: frame.label is not None for token, frame in now.items()}
            assert all(labelled.get(token, False) >= had for token, had in before.items()), "labels are kept"
            assert set(before) <= set(now), "no committed frame is dropped"
            if ended_well or (ended_well is False and world.skip):
                for frame in listed:
                    if world.frames[frame.token] != "broken":
                        assert (now[frame.token].subset, now[frame.token].index) == (frame.subset, frame.index)
                        assert labelled[frame.token] >= (frame.labels_path is not None)
            before = labelled
        assert precompute_world(ALL_GOOD, out)
        assert same_frames(out, in_one_go)
        assert precompute_world(ALL_GOOD, out)
