"""Systems are changes to a config: the shipped ones fit every config, and what is wrong in one's own is named."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from ovps.errors import ConfigError
from ovps.training.config import configs, flat, load_config
from ovps.training.systems import load_system, systems
from pipelines.train import TrainOptions, resolve


def options(**changes):
    return TrainOptions(Path("cache"), Path("run"), **changes)


@pytest.mark.parametrize("name", systems())
def test_shipped_systems_open_with_their_command(name):
    lines = (resources.files("pipelines") / "configs" / "systems" / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith(("# ovps train --cache ./zarr --config driveworld", "# ovps experiment run ablation"))
    assert name in lines[0]
    assert lines[1].startswith("# ")
    assert load_system(name).description


@pytest.mark.parametrize("name", systems())
@pytest.mark.parametrize("config", configs())
def test_every_system_fits_every_config(config, name):
    found, system = resolve(options(config=config, system=name)), load_system(name)
    plain = load_config(config, [*system.overrides, *([f"split={system.train_split}"] if system.train_split else [])])
    assert found == plain
    assert (found == load_config(config)) == (
        name in ("ovps", "form_sigmoid", "no_synonyms", "no_occlusion", "random_clip")
    )


def changed(one, other) -> set[str]:
    ours, theirs = flat(one), flat(other)
    return {name for name in ours if ours[name] != theirs[name]}


def test_what_the_systems_are():
    def of(name):
        return resolve(options(system=name))

    assert [of(n).model.fusion for n in ("closed_set", "pfc", "openscene", "minus_fusion", "ovps")] == [False] * 4 + [
        True
    ]
    assert [of(n).model.head for n in ("closed_set", "pfc", "openscene", "ovps")] == [
        "learned",
        "text",
        "voxel",
        "text",
    ]
    long, short = of("closed_set_long"), of("closed_set")
    assert long.steps > short.steps
    assert long.model_copy(update={"steps": short.steps, "keep_interval": short.keep_interval}) == short
    for name in ("closed_set", "pfc", "plus_fusion", "plus_head"):
        assert (of(name).loss.object_weight, of(name).loss.voxel_weight) == (0, 0)
        assert (of(name).loss.exclusion_weight, of(name).loss.proposal_weight) == (0, 0)
    steps = ("pfc", "plus_fusion", "plus_head", "plus_object", "published")  # each differs from the last in one part
    assert [of(n).classifier.classes for n in steps] == ["ensemble", "ensemble", "unified", "unified", "unified"]
    assert [of(n).loss.object_weight > 0 for n in steps] == [False, False, False, True, True]
    assert [of(n).loss.voxel_weight > 0 for n in steps] == [False, False, False, False, True]
    ours = ("loss.coverage_weight", "loss.exclusion_weight", "loss.proposal_weight")
    assert changed(of("ovps"), of("published")) == set(ours)
    assert changed(of("pfc_masks"), of("pfc")) == set(ours[1:])
    for term, name in zip(ours, ("coverage", "exclusion", "proposals"), strict=True):
        assert changed(of("ovps"), of(f"minus_{name}")) == {term}
    assert [of(f"form_{f}").merge.masks for f in ("sigmoid", "normalised", "softmax")] == [
        *("sigmoid", "sigmoid_normalised", "softmax"),
    ]


def test_config_then_system_then_the_users_own():
    assert resolve(options(system="closed_set")).split == "all"
    assert resolve(options(system="closed_set", split="b11n5")).split == "b11n5"
    found = resolve(options(system="pfc", overrides=("loss.voxel_weight=0.2",)))
    assert (found.loss.voxel_weight, found.loss.object_weight) == (0.2, 0)


def test_a_system_of_the_users_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("settings: {model.encoder.channels: [8, 16], steps: 7}")
    found = resolve(options(config="nuscenes", system=str(path)))
    assert (load_system(str(path)).name, found.model.encoder.channels) == ("mine", (8, 16))
    assert (found.steps, found.epochs) == (7, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {model.fusoin: false}", r"model\.fusoin.*mine\.yaml.*model\.fusion"),
        ("setings: {}", r"setings.*mine\.yaml.*docs/systems\.md"),
        ("vocabulary: none", r"vocabulary.*mine\.yaml"),
        ("- 1", r"not a valid system.*mine\.yaml"),
        ("a: [", r"not a valid system.*mine\.yaml"),
    ],
)
def test_what_is_wrong_in_a_system_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_system(str(path))


def test_an_unknown_system_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"no system 'p'.*closed_set, .*pfc"):
        load_system("p")
