import pytest

from ovps import shipped
from ovps.errors import ConfigError
from ovps.training.config import load_config


def test_shipped_configs_open_with_the_command_that_runs_them():
    from importlib import resources

    for name in shipped.names("train"):
        first = (resources.files("ovps") / "configs" / "train" / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith("# ovps ")
        assert f"--config {name} " in first


def test_nuscenes_is_the_full_scale_model():
    config = load_config("nuscenes")
    assert (config.epochs, config.model.queries, config.model.width, config.model.layers) == (40, 128, 256, 6)
    assert config.optimiser.milestones == pytest.approx((2 / 3, 8 / 9))
    assert config.total_steps(28_130) == 562_600
    assert config.total_steps(28_130, processes=8) == 562_600 // 8
    assert config.frames_per_step(8) == 16


def test_overrides_reach_nested_settings():
    config = load_config(
        "driveworld", ["optimiser.lr=1e-3", "model.encoder.channels=[8, 16]", "epochs=3", "threads=null"]
    )
    assert config.optimiser.lr == 1e-3
    assert config.model.encoder.channels == (8, 16)
    assert (config.epochs, config.steps, config.threads) == (3, None, None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=1", "optimiser.lr"),
        ("model.widht=8", "model.width"),
        ("lr=1", "optimiser.lr"),
        ("seeed=1", "seed"),
        ("zzzzzz=1", "Sections are: system, split"),
    ],
)
def test_an_unknown_setting_is_named_with_what_may_be_meant(override, expected):
    with pytest.raises(ConfigError) as caught:
        load_config("driveworld", [override])
    assert override.partition("=")[0] in caught.value.message
    assert expected in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimiser.lr=fast", "optimiser.lr"),
        ("model.width=-1", "model.width"),
        ("optimiser=3", "optimiser"),
        ("steps=null", "epochs or steps"),
        ("loss.voxel_form=softmax", "merge.masks"),
        ("seed", "--set key.sub=value"),
        ("seed=[", "seed"),
    ],
)
def test_a_value_that_does_not_fit_is_named(override, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config("driveworld", [override])


def test_a_list_is_not_too_short_where_its_items_are_wrong():
    with pytest.raises(ConfigError, match=r"model\.encoder\.channels\.0: .*integer") as error:
        load_config("driveworld", ["model.encoder.channels=[a]"])
    assert "at least" not in error.value.message
    with pytest.raises(ConfigError, match="at least 1 item"):
        load_config("driveworld", ["model.encoder.channels=[]"])


def test_a_file_of_the_users_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 5\nmodel: {width: 64, heads: 4}\n")
    assert load_config(str(path)).model.width == 64
    path.write_text("steps: 5\nmodel: {widht: 64, encoder: {chanels: [8]}}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml.*Did you mean model\.width") as caught:
        load_config(str(path))
    assert "model.widht, model.encoder.chanels" in caught.value.message
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping"):
        load_config(str(path))
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="driveworld, driveworld-kitti, nuscenes"):
        load_config(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("steps=true", "steps"),
        ("optimiser.lr=yes", "optimiser.lr"),
        ("merge.split_length=false", "merge.split_length"),
        ("model.encoder.channels=[8, on]", "model.encoder.channels"),
    ],
)
def test_yes_and_no_are_no_numbers(override, name):
    with pytest.raises(ConfigError, match=rf"{name}: a number is asked for, not yes or no"):
        load_config("driveworld", [override])
    assert load_config("driveworld", ["merge.split=no"]).merge.split is False


def test_a_mapping_changes_what_it_names_and_nothing_else():
    one_by_one = load_config("driveworld", ["loss.voxel_weight=0.1", "model.encoder.blocks=2"])
    for override in ("loss={voxel_weight: 0.1}", "loss={}", "loss.proposals={}"):
        settings = [override, "loss.voxel_weight=0.1", "model={encoder: {blocks: 2}}"]
        assert load_config("driveworld", settings) == one_by_one
    with pytest.raises(ConfigError, match=r"unknown setting loss\.voxel_wieght"):
        load_config("driveworld", ["loss={voxel_wieght: 0.1}"])
