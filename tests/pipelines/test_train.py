import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from ovps import shipped
from ovps.batch.loader import training_frames
from ovps.cache.reader import Store
from ovps.errors import CacheError, CheckpointError, ConfigError, CorruptStoreError, TrainingError, counted
from ovps.geometry.grid import Grid, voxelise
from ovps.machine import cores
from ovps.training.cache_content import content_of
from ovps.training.config import flat
from ovps.training.files import exclusive
from ovps.training.metrics import METRICS, read_metrics
from ovps.training.run import load_run
from ovps.training.run_files import INFO, LAST, load_settings
from ovps.training.system_files import load_system
from pipelines.train import TrainOptions, train
from tests.helpers.synthetic_store import write_synthetic_store
from tests.training.relabel import relabelled_store
from tests.training.small import SMALL, classes, same_bits, small_run, weights

COARSE = "cylinder:12x9x3"  # voxels large enough to hold points of many classes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic_store(tmp_path_factory.mktemp("train") / "store")


def test_two_lengths_of_a_run_are_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="both steps and epochs"):
        small_run(store, tmp_path / "run", "epochs=1", "steps=5")


def test_a_program_that_trains_is_left_as_it_was(store, tmp_path):
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        small_run(store, tmp_path / "run", "steps=1", f"threads={threads + 1}")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.get_num_threads() == threads


def test_interrupted_anywhere_a_run_ends_in_the_same_bits(store, tmp_path):
    # 3 frames per pass and 2 passes per step over 4 frames: steps end in the middle of an epoch; dropout draws numbers
    settings = ("steps=7", "data.batch_size=3", "accumulate=2", "model.dropout=0.1")
    straight = small_run(store, tmp_path / "straight", *settings)
    assert (straight.resumed_from, straight.step) == (0, 7)
    assert small_run(store, tmp_path / "pieces", *settings, stop_after=1).step == 1
    assert small_run(store, tmp_path / "pieces", *settings, stop_after=4).resumed_from == 1
    last = small_run(store, tmp_path / "pieces", *settings)
    assert (last.resumed_from, last.step) == (4, 7)
    assert same_bits(weights(tmp_path / "straight"), weights(tmp_path / "pieces"))

    def curve(run):
        return [{k: v for k, v in line.items() if "seconds" not in k} for line in read_metrics(tmp_path / run)]

    assert curve("straight") == curve("pieces")


def test_a_killed_run_goes_on_from_its_last_checkpoint(store, tmp_path, monkeypatch):
    """Killed between checkpoints: steps after the last one are done again, and their metrics replaced."""
    settings = ("steps=5", "checkpoint_interval=2")
    small_run(store, tmp_path / "straight", *settings)

    from pipelines import train as module

    def killed(*args, **kwargs):
        for report in module_steps(*args, **kwargs):
            yield report
            if report.step == 3:
                raise KeyboardInterrupt

    module_steps = module.train_steps
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_steps", killed)
        with pytest.raises(KeyboardInterrupt):
            small_run(store, tmp_path / "killed", *settings)
    assert [line["step"] for line in read_metrics(tmp_path / "killed")] == [1, 2, 3]
    assert small_run(store, tmp_path / "killed", *settings).resumed_from == 2
    assert [line["step"] for line in read_metrics(tmp_path / "killed")] == [1, 2, 3, 4, 5]
    assert same_bits(weights(tmp_path / "straight"), weights(tmp_path / "killed"))


def test_a_run_is_trained_by_one_process_at_a_time_and_a_process_trains_one_run(store, tmp_path, monkeypatch):
    from pipelines import train as module

    with exclusive(tmp_path / "run"):
        for more in ({}, {"restart": True}):
            with pytest.raises(CheckpointError, match=r"another process.*Wait until it ends"):
                small_run(store, tmp_path / "run", "steps=3", **more)

    whole = module.train_steps

    def beside_another(*args, **kwargs):
        for report in whole(*args, **kwargs):
            yield report
            with pytest.raises(TrainingError, match=r"this process is training another run.*one run after the other"):
                small_run(store, tmp_path / "other", "steps=3")

    monkeypatch.setattr(module, "train_steps", beside_another)
    assert small_run(store, tmp_path / "run", "steps=3").step == 3
    monkeypatch.undo()
    assert not (tmp_path / "other").exists()
    assert small_run(store, tmp_path / "run", "steps=3").resumed_from == 3  # the locks ended with the training


def test_workers_do_not_change_the_weights(store, tmp_path):
    small_run(store, tmp_path / "none", "steps=3")
    small_run(store, tmp_path / "one", "steps=3", "data.workers=1")
    assert same_bits(weights(tmp_path / "none"), weights(tmp_path / "one"))


def damaged(*arguments):
    raise CorruptStoreError("not the bytes that were written")


def test_a_finished_run_is_left_alone_and_restart_begins_anew(store, tmp_path, capsys):
    small_run(store, tmp_path, "steps=2", "keep_interval=1")
    content = (tmp_path / "checkpoints/last.pt").read_bytes()
    (tmp_path / "notes.txt").write_text("the user's own")
    (tmp_path / METRICS).write_bytes((tmp_path / METRICS).read_bytes()[:-9])
    capsys.readouterr()
    again = small_run(store, tmp_path, "steps=2", "keep_interval=1")
    assert (again.resumed_from, again.step, again.losses) == (2, 2, {})
    assert f"warning: the curves of {tmp_path / METRICS} end at step 1" in capsys.readouterr().err
    assert (tmp_path / "checkpoints/last.pt").read_bytes() == content
    assert weights(tmp_path, "step_1")["step"] == 1
    for name in ("content_of", "measure"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"pipelines.train.{name}", damaged)
            with pytest.raises(CorruptStoreError):
                small_run(store, tmp_path, "steps=1", restart=True)
    assert (tmp_path / "checkpoints/last.pt").read_bytes() == content
    anew = small_run(store, tmp_path, "steps=1", restart=True)
    assert anew.resumed_from == 0
    assert not (tmp_path / "checkpoints/step_2.pt").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_folder_in_place_of_a_file_of_a_run_is_told_before_anything_is_removed(store, tmp_path):
    small_run(store, tmp_path, "steps=1")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    for name, there in (("statistics.safetensors", "folder"), (LAST, "folder"), ("tensorboard", "file")):
        (tmp_path / name).rename(tmp_path / "aside")
        (tmp_path / name).mkdir() if there == "folder" else (tmp_path / name).touch()
        for restart in (False, True):
            with pytest.raises(CheckpointError, match=f"a {there} lies where a .*{name}.*Move it away"):
                small_run(store, tmp_path, "steps=1", restart=restart)
        (tmp_path / name).rmdir() if there == "folder" else (tmp_path / name).unlink()
        (tmp_path / "aside").rename(tmp_path / name)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_the_loss_goes_down(store, tmp_path):
    summary = small_run(store, tmp_path, "steps=60", "checkpoint_interval=100", "optimiser.lr=3e-3")
    lines = read_metrics(tmp_path)
    first, last = (np.mean([line["loss/total"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < 0.5 * first
    assert lines[-1]["loss/last/voxel"] < lines[0]["loss/last/voxel"]
    assert summary.losses["total"] == lines[-1]["loss/total"]


@pytest.mark.parametrize("name", shipped.names("train"))
def test_every_config_trains_two_steps(store, tmp_path, name):
    """The full models as they are; only length, workers, threads, the log and the data are the suite's."""
    settings = (
        "data.subsets=[train]",
        "split=b12n4",
        "steps=2",
        "data.workers=0",
        "threads=1",
        "keep_interval=0",
        "gradient_interval=0",
    )
    summary = train(TrainOptions(cache=store, out=tmp_path, config=name, overrides=settings))
    assert summary.step == 2
    assert np.isfinite(summary.losses["total"])
    assert load_run(tmp_path).step == 2


@pytest.mark.parametrize("name", shipped.names("systems"))
def test_every_system_trains_two_steps(store, tmp_path, name):
    summary = small_run(store, tmp_path, "steps=2", system=name)
    assert summary.step == 2
    assert np.isfinite(summary.losses["total"])
    config = load_run(tmp_path).config
    small = {setting.partition("=")[0] for setting in SMALL}
    for key, value in load_system(name).settings.items():
        assert key in small or flat(config)[key] == value
    assert config.split == (load_system(name).train_split or "b12n4")


# Label hygiene

BASE = classes()
NOVEL = BASE.split.novel_ids(BASE.taxonomy)


def deleted(raw, semantic, rng):
    return np.where(np.isin(semantic, NOVEL), 0, raw)


def permuted(raw, semantic, rng):
    """bus -> pedestrian -> motorcycle -> vegetation -> bus; things get an instance, stuff none."""
    other = {3: 2_001, 7: 21_001, 6: 30_000, 16: 16_001}
    return np.array([other.get(int(s), int(r)) for r, s in zip(raw, semantic, strict=True)])


def scattered(raw, semantic, rng):
    """Points of novel classes, and two fifths of all others, each become one of any novel class and instance."""
    any_novel = rng.choice([2_001, 2_002, 16_001, 15_003, 21_001, 30_000], len(raw))
    return np.where(np.isin(semantic, NOVEL) | (rng.random(len(raw)) < 0.4), any_novel, raw)


def shuffled(raw, semantic, rng):
    """Each point of a novel class on its own becomes one of any novel class and instance, or unlabelled."""
    any_novel = rng.choice([0, 16_007, 15_003, 2_001, 21_001, 30_000], len(raw))
    return np.where(np.isin(semantic, NOVEL), any_novel, raw)


@pytest.fixture(scope="module")
def mixed(store, tmp_path_factory):
    """A store whose voxels are full of several novel classes, and a run on it."""
    folder = tmp_path_factory.mktemp("hygiene")
    relabelled_store(store, folder / "store", scattered)
    small_run(folder / "store", folder / "run", "steps=5", f"data.grid={COARSE}")
    return folder


@pytest.mark.parametrize("relabel", [deleted, permuted, shuffled])
def test_novel_labels_do_not_change_a_bit(tmp_path, mixed, relabel):
    relabelled_store(mixed / "store", tmp_path / "store", relabel, seed=1)
    small_run(tmp_path / "store", tmp_path / "run", "steps=5", f"data.grid={COARSE}")
    assert same_bits(weights(mixed / "run"), weights(tmp_path / "run"))
    for name in ("statistics.safetensors", "vocabulary.safetensors", "run.json"):
        assert (mixed / "run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_hygiene_is_tested_where_it_could_fail(mixed):
    """Base has a voxel while novel points are counted by class, and loses it once they are one kind."""
    opened = Store.open(mixed / "store")
    contested = 0
    for frame in map(opened.read, training_frames(opened, ("train",))):
        semantic, _ = BASE.taxonomy.decode(frame.label)
        _, point_voxel = voxelise(frame.xyz, Grid.parse(COARSE))
        counts = np.zeros((point_voxel.max() + 1, 17), int)
        np.add.at(counts, (point_voxel, semantic), 1)
        of_novel, of_base = counts[:, list(NOVEL)], counts[:, BASE.ids].max(axis=1)
        contested += int(((of_novel.max(axis=1) < of_base) & (of_base < of_novel.sum(axis=1))).sum())
    assert contested > 10


def test_base_labels_do_change_the_weights(tmp_path, mixed):
    def truck_to_car(raw, semantic, rng):
        return np.where(semantic == 10, 17_009, raw)

    relabelled_store(mixed / "store", tmp_path / "store", truck_to_car)
    small_run(tmp_path / "store", tmp_path / "run", "steps=5", f"data.grid={COARSE}")
    assert not same_bits(weights(mixed / "run")["network"], weights(tmp_path / "run")["network"])


def test_validation_frames_do_not_change_a_bit(tmp_path):
    """Stores with the same training frames and other validation frames."""
    both = write_synthetic_store(tmp_path / "both", frames=2)
    alone = write_synthetic_store(tmp_path / "alone", frames=2, subsets=("train",))
    small_run(both, tmp_path / "a", "steps=3")
    small_run(alone, tmp_path / "b", "steps=3")
    assert same_bits(weights(tmp_path / "a"), weights(tmp_path / "b"))


# Errors


def test_resuming_with_another_architecture_names_the_checkpoint(store, tmp_path):
    small_run(store, tmp_path, "steps=2")
    with pytest.raises(CheckpointError, match=r"model\.width: 32 there, 64 now.*last\.pt"):
        small_run(store, tmp_path, "steps=2", "model.width=64")
    with pytest.raises(CheckpointError, match="base_classes"):
        small_run(store, tmp_path, "steps=2", split="b11n5")


def test_resuming_with_other_settings_names_them(store, tmp_path):
    small_run(store, tmp_path, "steps=3", stop_after=1)
    for setting, named in (
        ("optimiser.lr=0.1", r"optimiser\.lr"),
        ("seed=3", "seed: 0 there, 3 now"),
        ("steps=9", "steps"),
        ("loss.proposals.gap=0.7", r"loss\.proposals\.gap: 0\.5 there, 0\.7 now"),
    ):
        with pytest.raises(ConfigError, match=named):
            small_run(store, tmp_path, "steps=3", setting)
    other = write_synthetic_store(tmp_path / "other", frames=3)
    with pytest.raises(ConfigError, match=r"frames to train on: \d+ there, \d+ (others )?in the store now"):
        small_run(other, tmp_path, "steps=3")
    assert small_run(store, tmp_path, "steps=3", "log_interval=2", "merge.score=0.2").step == 3
    assert load_run(tmp_path).config.merge.score == 0.2


def test_a_damaged_checkpoint_stops_the_run_and_stays(store, tmp_path):
    small_run(store, tmp_path, "steps=3", stop_after=1)
    path = tmp_path / "checkpoints/last.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.pt.*--restart"):
        small_run(store, tmp_path, "steps=3")
    assert path.stat().st_size == 5000
    assert small_run(store, tmp_path, "steps=3", restart=True).step == 3


def test_a_loss_that_is_no_number_names_step_and_frames(store, tmp_path):
    small_run(store, tmp_path, "steps=4", "checkpoint_interval=1", "optimiser.lr=1e30", stop_after=1)
    with pytest.raises(TrainingError, match=r"step 2 gave .*frame synthetic-0000-\d+, synthetic-0000-\d+"):
        small_run(store, tmp_path, "steps=4", "checkpoint_interval=1", "optimiser.lr=1e30")
    assert weights(tmp_path)["step"] == 1


def test_a_full_disk_stops_the_run_and_it_goes_on_later(store, tmp_path):
    small_run(store, tmp_path / "straight", "steps=3")
    small_run(store, tmp_path / "run", "steps=3", stop_after=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        for run in ("run", "new"):
            with pytest.raises(CheckpointError, match=r"(?s)File too large.*last\.pt.*Raise the limit.*again"):
                small_run(store, tmp_path / run, "steps=3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for run in ("run", "new"):
        small_run(store, tmp_path / run, "steps=3")
        assert same_bits(weights(tmp_path / "straight"), weights(tmp_path / run))


def test_a_device_that_is_not_there(store, tmp_path):
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        small_run(store, tmp_path, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            small_run(store, tmp_path, device="cuda")


def test_caches_that_cannot_be_trained_on(store, tmp_path):
    with pytest.raises(CacheError, match="no cache here"):
        small_run(tmp_path / "none", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no frames of test; it has train, val"):
        small_run(store, tmp_path / "run", "data.subsets=[test]")
    with pytest.raises(ConfigError, match=r"1 of 1 frames of train have no labels .*`ovps precompute` again$"):
        small_run(write_synthetic_store(tmp_path / "unlabelled", labelled=False, frames=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    """A store of 4 frames of train of which the last two have no labels; and one that ends before them."""
    folder = tmp_path_factory.mktemp("partly")
    write_synthetic_store(folder / "store", subsets=("train",), frames=2)
    write_synthetic_store(folder / "labelled", subsets=("train",), frames=2)
    write_synthetic_store(folder / "other", subsets=("train",), frames=4, labelled=False)
    for source in (folder / "other" / "partitions").glob("synthetic-0000.000002-*.zarr"):
        shutil.copytree(source, folder / "store" / "partitions" / source.name)
    shutil.copy(folder / "other" / "manifest" / "synthetic-0000.000002.parquet", folder / "store" / "manifest")
    return folder


def test_frames_without_labels_are_told_before_the_first_step(partly, tmp_path):
    with pytest.raises(ConfigError, match=r"2 of 4 frames of train have no labels .*data\.unlabelled_frames=skip"):
        small_run(partly / "store", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # the other remedy is to add labels and to precompute again: a store that has them all
    summary = small_run(partly / "store", tmp_path / "run", "data.unlabelled_frames=skip")
    assert (summary.frames, summary.unlabelled_frames) == (2, 2)
    assert load_run(tmp_path / "run").info.unlabelled_frames == 2
    small_run(partly / "labelled", tmp_path / "labelled")
    assert same_bits(weights(tmp_path / "run")["network"], weights(tmp_path / "labelled")["network"])


def test_a_system_that_learns_from_no_label_needs_none(partly, tmp_path):
    summary = small_run(partly / "store", tmp_path / "run", system="openscene")
    assert (summary.frames, summary.unlabelled_frames) == (4, 0)
    write_synthetic_store(tmp_path / "labelled", subsets=("train",), frames=4)
    small_run(tmp_path / "labelled", tmp_path / "all", system="openscene")
    assert same_bits(weights(tmp_path / "run"), weights(tmp_path / "all"))


def test_one_voxel_alone_can_be_normalised(store, tmp_path):
    summary = small_run(store, tmp_path, "data.grid=cylinder:1x1x1", "data.batch_size=1", "model.encoder.norm=batch")
    assert summary.step == 4
    assert np.isfinite(summary.losses["total"])
    assert np.isfinite(weights(tmp_path)["network"]["encoder.out.weight"]).all()


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("cylinder:1x1x1", "points share a voxel on average: give a finer data.grid"),
        ("cylinder:30x30x8:rho=0..50,z=50..54", "of the points lie beyond the grid's range and stand in its border"),
        ("cylinder:30x30x8", None),
        ("null", None),
    ],
)
def test_a_grid_of_the_network_that_does_not_fit_the_points_is_told(store, tmp_path, capsys, grid, says):
    small_run(store, tmp_path, f"data.grid={grid}", "steps=1", "model.encoder.norm=layer")
    told = [line for line in capsys.readouterr().err.splitlines() if "grid" in line]
    assert len(told) == (says is not None)
    assert all(says in line for line in told)


def test_more_threads_than_cores_are_told_and_far_more_refused(store, tmp_path, capsys):
    """A config of a server, in a container."""
    there = cores()
    small_run(store, tmp_path / "some", f"threads={there + 1}", "steps=1")
    assert f"threads is {there + 1}, and there are {counted(there, 'core')} for them" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"threads 1000 are more threads than this machine can run.*at most \d+"):
        small_run(store, tmp_path / "many", "threads=1000", "steps=1")


def test_batches_that_hold_frames_twice_are_told(store, tmp_path, capsys):
    small_run(store, tmp_path / "many", "data.batch_size=5", "steps=1", "model.encoder.norm=layer")
    assert "data.batch_size is 5, and there are 4 frames" in capsys.readouterr().err
    small_run(store, tmp_path / "few", "data.batch_size=4", "steps=1", "model.encoder.norm=layer")
    assert "data.batch_size" not in capsys.readouterr().err


def test_splits_that_cannot_be_trained_on(store, tmp_path):
    split = tmp_path / "mine.yaml"
    split.write_text("{name: mine, taxonomy: nuscenes, novel: [tram]}")
    with pytest.raises(ConfigError, match="names tram"):
        small_run(store, tmp_path / "run", split=str(split))
    split.write_text("{name: mine, taxonomy: kitti, novel: []}")
    with pytest.raises(ConfigError, match="taxonomy kitti"):
        small_run(store, tmp_path / "run", split=str(split))
    split.write_text("{name: mine, taxonomy: nuscenes, novel: [car]}")
    small_run(store, tmp_path / "run", "steps=1", split=str(split))
    split.unlink()
    assert load_run(tmp_path / "run").split.novel == ("car",)


WITHOUT_CLIP = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        for blocked in ("open_clip", "timm", "ovps.clip", "ovps.datasets", "driveworld", "nuscenes"):
            if name == blocked or name.startswith(blocked + "."):
                raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from pipelines.train import TrainOptions, train
store, out, *settings = sys.argv[1:]
assert train(TrainOptions(cache=Path(store), out=Path(out), overrides=tuple(settings))).step == 2
from ovps.training.run import load_run
from ovps.training.system_files import load_system
load_run(Path(out))
try:
    import open_clip
except ImportError:
    print("trained without CLIP")
"""


def test_training_needs_neither_clip_nor_data_sets(store, tmp_path):
    moved = shutil.copytree(store, tmp_path / "moved")  # and nothing beside the store
    settings = [*(s for s in SMALL if not s.startswith("steps")), "steps=2"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLIP, str(moved), str(tmp_path / "run"), *settings],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "trained without CLIP" in done.stdout, done.stderr


def test_a_checkpoint_that_was_lost_is_told(store, tmp_path):
    run = tmp_path / "run"
    small_run(store, run, "steps=4", "checkpoint_interval=2", "keep_interval=2", stop_after=3)
    curve = (run / METRICS).read_bytes()
    (run / LAST).unlink()  # step_2.pt is there
    with pytest.raises(CheckpointError, match=r"has been at step 3.*step_N\.pt") as caught:
        small_run(store, run, "steps=4", "checkpoint_interval=2", "keep_interval=2")
    assert caught.value.path == str(run / LAST)
    assert (run / METRICS).read_bytes() == curve
    shutil.copy(run / "checkpoints/step_2.pt", run / LAST)
    assert small_run(store, run, "steps=4", "checkpoint_interval=2", "keep_interval=2").resumed_from == 2
    for file in (LAST, "checkpoints/step_2.pt", "checkpoints/step_4.pt"):
        (run / file).unlink()
    with pytest.raises(CheckpointError, match="has been at step 4"):
        small_run(store, run, "steps=4", "checkpoint_interval=2", "keep_interval=2")
    assert small_run(store, run, "steps=4", restart=True).resumed_from == 0


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(store, tmp_path, capsys):
    small_run(store, tmp_path, "steps=2", "log_interval=1")
    (tmp_path / LAST).unlink()  # as after a kill at step 2 of the interval
    assert small_run(store, tmp_path, "steps=2", "log_interval=1").resumed_from == 0
    assert "has been at step 2 and has no checkpoint: it begins anew" in " ".join(capsys.readouterr().err.split())


def test_run_json_that_was_lost_is_told(store, tmp_path):
    small_run(store, tmp_path, "steps=1")
    (tmp_path / INFO).unlink()
    for use in (lambda: small_run(store, tmp_path, "steps=1"), lambda: load_settings(tmp_path)):
        with pytest.raises(CheckpointError, match="missing, and without it") as caught:
            use()
        assert caught.value.path == str(tmp_path / INFO)
    assert small_run(store, tmp_path, "steps=1", restart=True).step == 1


@pytest.mark.parametrize("part", ["features", "labels"])
def test_a_run_that_goes_on_with_other_content_is_told(tmp_path, capsys, part):
    store = write_synthetic_store(tmp_path / "zarr", frames=2)
    small_run(store, tmp_path / "run", "steps=3", stop_after=1)
    assert small_run(store, tmp_path / "run", "steps=3", stop_after=2).resumed_from == 1
    assert "other files" not in capsys.readouterr().err
    content = json.loads((tmp_path / "run/cache.json").read_text())
    (tmp_path / "run/cache.json").write_text(json.dumps(content | {f"{part}_sha256": "0" * 64}))
    assert small_run(store, tmp_path / "run", "steps=3").resumed_from == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{part} of the store lie in other files than when the run began" in told


def test_a_run_does_not_go_on_with_another_codec(tmp_path):
    one, other = (write_synthetic_store(tmp_path / codec, frames=2, codec=codec) for codec in ("cells", "dense"))
    small_run(one, tmp_path / "run", "steps=2", stop_after=1)
    with pytest.raises(ConfigError, match="codec 'cells' there, 'dense' now"):
        small_run(other, tmp_path / "run", "steps=2")
    assert small_run(one, tmp_path / "run", "steps=2").resumed_from == 1


def test_what_a_run_began_with_is_the_bytes_and_not_the_names_of_folders(tmp_path):
    one, again, other = (
        write_synthetic_store(tmp_path / name, frames=2, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    found = [content_of(opened, opened.frames) for opened in map(Store.open, (one, again, other))]
    assert found[0] == found[1]
    assert found[0].features_sha256 != found[2].features_sha256
    assert found[0].labels_sha256 != found[2].labels_sha256
