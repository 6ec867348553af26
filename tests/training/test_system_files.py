"""Systems are changes to a config: the shipped ones fit every config, and what is wrong in one's own is named."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from ovps import shipped
from ovps.errors import ConfigError
from ovps.training.config import flat, load_config, stated_settings
from ovps.training.system_files import IDENTITY, load_system
from pipelines.train import TrainOptions, resolve


def options(**changes):
    return TrainOptions(cache=Path("cache"), out=Path("run"), **changes)


@pytest.mark.parametrize("name", shipped.names("systems"))
def test_shipped_systems_open_with_their_command(name):
    lines = (resources.files("ovps") / "configs" / "systems" / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith(("# ovps train --cache ./zarr --config driveworld", "# ovps experiment run ablation"))
    assert name in lines[0]
    assert lines[1].startswith("# ")
    assert load_system(name).description


@pytest.mark.parametrize("name", shipped.names("systems"))
@pytest.mark.parametrize("config", shipped.names("train"))
def test_every_system_fits_every_config(config, name):
    found, system = resolve(options(config=config, system=name)), load_system(name)
    plain = load_config(config, [*system.overrides, *([f"split={system.train_split}"] if system.train_split else [])])
    assert found == plain
    added = changed(found, load_config(config)) == {"model.cluster_queries", "classifier.classes"}
    own = added and found.model.cluster_queries > 0 and found.classifier.classes == "per_mask"
    assert own == (name in ("ovps", "no_synonyms", "no_occlusion", "random_clip"))


@pytest.mark.parametrize("name", shipped.names("systems"))
def test_a_system_is_the_same_with_every_config(tmp_path, name):
    """Configs hold scale and schedule: what a system is does not hang on which one it is trained with."""
    own = tmp_path / "own.yaml"
    own.write_text("steps: 5\nmodel: {width: 64, heads: 4}\n")
    found = [flat(resolve(options(config=config, system=name))) for config in (*shipped.names("train"), str(own))]
    assert all(set(IDENTITY) <= set(values) for values in found)
    assert len({tuple(str(values[key]) for key in IDENTITY) for values in found}) == 1


def test_ovps_is_not_published_with_a_config_of_ones_own(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("steps: 5\n")
    full, paper = (resolve(options(config=str(own), system=name)).loss for name in ("ovps", "published"))
    ours = ("coverage", "exclusion", "proposal")
    assert all(full.weight(term) > 0 for term in ours)
    assert not any(paper.weight(term) for term in ours)
    assert full.part_weights["proposal_dice"] > paper.part_weights["proposal_dice"] == 0


@pytest.mark.parametrize("config", shipped.names("train"))
def test_shipped_configs_leave_to_systems_what_systems_are(config):
    assert not set(IDENTITY) & set(stated_settings(config))


def test_a_config_that_contradicts_the_system_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("steps: 5\nloss: {terms: [object, voxel]}\nmodel: {fusion: true}\n")
    with pytest.raises(ConfigError, match=r"(?s)loss\.terms is \['object', .*own\.yaml.*the system names what"):
        resolve(options(config=str(own)))
    assert resolve(options(config=str(own), system="published")).loss.terms == ("object", "voxel")
    mine = tmp_path / "mine.yaml"  # what the remedy says
    mine.write_text("settings: {loss.terms: [object]}\n")
    own.write_text("steps: 5\n")
    assert resolve(options(config=str(own), system=str(mine))).loss.terms == ("object",)


def changed(one, other) -> set[str]:
    ours, theirs = flat(one), flat(other)
    return {name for name in ours if ours[name] != theirs[name]}


def test_what_the_systems_are():
    def of(name):
        return resolve(options(system=name))

    assert [of(n).model.fusion for n in ("closed_set", "pfc", "openscene", "minus_fusion", "ovps")] == [False] * 4 + [
        True
    ]
    assert [of(n).system for n in ("closed_set", "pfc", "openscene", "ovps")] == [
        "closed_set",
        "queries",
        "voxels",
        "queries",
    ]
    long, short = of("closed_set_long"), of("closed_set")
    assert long.steps > short.steps
    assert long.model_copy(update={"steps": short.steps, "keep_interval": short.keep_interval}) == short
    for name in ("closed_set", "pfc", "plus_fusion", "plus_head"):
        assert of(name).loss.terms == ()
    steps = ("pfc", "plus_fusion", "plus_head", "plus_object", "published")  # each differs from the last in one part
    assert [of(n).classifier.classes for n in steps] == ["ensemble", "ensemble", "unified", "unified", "unified"]
    assert [of(n).loss.terms for n in steps] == [(), (), (), ("object",), ("object", "voxel")]
    ours = {"coverage", "exclusion", "proposal"}
    masks, clusters, names = {"loss.terms", "model.cluster_queries"}, {"model.cluster_queries"}, {"classifier.classes"}
    assert changed(of("ovps"), of("published")) == masks | names
    assert changed(of("pfc_masks"), of("pfc")) == masks
    assert changed(of("ovps"), of("minus_clusters")) == changed(of("plus_clusters"), of("pfc")) == clusters
    assert changed(of("ovps"), of("unified_head")) == changed(of("ovps"), of("minus_head")) == names
    assert (of("ovps").classifier.classes, of("unified_head").classifier.classes) == ("per_mask", "unified")
    assert changed(of("ovps"), of("minus_ground")) == {"loss.proposals.at_ground"}
    assert (of("ovps").loss.proposals.at_ground, of("minus_ground").loss.proposals.at_ground) == (True, False)
    assert of("minus_clusters").model.cluster_queries == of("pfc").model.cluster_queries == 0
    assert set(of("ovps").loss.terms) - set(of("published").loss.terms) == ours
    assert set(of("pfc_masks").loss.terms) == ours - {"coverage"}
    terms = {"coverage": {"coverage"}, "exclusion": {"exclusion"}, "proposals": {"proposal"}, "object": {"object"}}
    for name, less in (terms | {"voxel": {"voxel", "coverage"}}).items():
        assert changed(of("ovps"), of(f"minus_{name}")) == {"loss.terms"}
        assert set(of("ovps").loss.terms) - set(of(f"minus_{name}").loss.terms) == less
    forms = [(of(f"form_{f}").merge.masks, of(f"form_{f}").loss.voxel_form) for f in ("normalised", "softmax")]
    assert forms == [("sigmoid_normalised",) * 2, ("softmax",) * 2]


def test_config_then_system_then_the_users_own():
    assert resolve(options(system="closed_set")).split == "all"
    assert resolve(options(system="closed_set", split="b11n5")).split == "b11n5"
    found = resolve(options(system="pfc", overrides=("loss.voxel_weight=0.2",)))
    assert (found.loss.voxel_weight, found.loss.terms) == (0.2, ())
    assert resolve(options(system="pfc", overrides=("loss.terms=[object]",))).loss.weight("object") > 0


def test_a_system_of_the_users_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("settings: {model.encoder.channels: [8, 16], steps: 7}")
    found = resolve(options(config="nuscenes", system=str(path)))
    assert (load_system(str(path)).name, found.model.encoder.channels) == ("mine", (8, 16))
    assert (found.steps, found.epochs) == (7, None)


def test_systems_build_on_each_other(tmp_path):
    (tmp_path / "first.yaml").write_text("base: closed_set\nsettings: {model.width: 64, model.heads: 4}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\nvocabulary: single\nsettings: {steps: 7}\n")
    system = load_system(str(tmp_path / "second.yaml"))
    assert (system.name, system.train_split, system.vocabulary) == ("second", "all", "single")
    assert [system.settings[k] for k in ("system", "model.width", "steps")] == ["closed_set", 64, 7]
    assert system.changes == load_system("closed_set").changes + 3
    assert load_system("ovps").changes == load_system("no_synonyms").changes == 0
    (tmp_path / "first.yaml").write_text("base: second.yaml\n")
    with pytest.raises(ConfigError, match=r"(?s)circle: .*second\.yaml -> .*first\.yaml -> .*second\.yaml"):
        load_system(str(tmp_path / "second.yaml"))


def test_nested_settings_of_a_system_are_those_of_dotted_names(tmp_path):
    (tmp_path / "mine.yaml").write_text("settings: {loss: {voxel_weight: 0.1}, model: {encoder: {blocks: 2}}}\n")
    system = load_system(str(tmp_path / "mine.yaml"))
    assert system.settings == load_system("ovps").settings | {"loss.voxel_weight": 0.1, "model.encoder.blocks": 2}
    (tmp_path / "mine.yaml").write_text("settings: {loss: {voxel_wieght: 0.1}}\n")
    with pytest.raises(ConfigError, match=r"unknown setting loss\.voxel_wieght"):
        load_system(str(tmp_path / "mine.yaml"))


def test_a_base_that_is_not_there_is_told_of_the_file_that_names_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: ovsp\n")
    with pytest.raises(ConfigError, match=r"its base .ovsp. is no system.*published") as error:
        load_system(str(tmp_path / "mine.yaml"))
    assert error.value.path == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {model.fusoin: false}", r"model\.fusoin.*mine\.yaml.*model\.fusion"),
        ("settings: {split: all}", r"does not set split.*mine\.yaml.*`train_split`"),
        ("settings: {seed: 5}", r"does not set seed.*mine\.yaml.*`seeds`"),
        ("settings: {optimiser.lr: -1}", r"optimiser\.lr.*mine\.yaml.*Mend the value"),
        ("settings: {merge.score: yes}", r"merge\.score: a number.*mine\.yaml"),
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


def test_a_file_of_other_settings_is_not_called_as_a_shipped_system(tmp_path):
    path = tmp_path / "pfc.yaml"
    path.write_text("base: pfc\n")
    assert load_system(str(path)).settings == load_system("pfc").settings
    path.write_text("base: pfc\nsettings: {model.queries: 7}\n")
    with pytest.raises(ConfigError, match=r"a system called pfc, as one that ovps ships.*pfc\.yaml.*name of its own"):
        load_system(str(path))
    assert load_system(str(path.rename(tmp_path / "pfc_7.yaml"))).settings["model.queries"] == 7
