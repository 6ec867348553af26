"""Taxonomies and splits: the shipped ones against the devkit, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovps.errors import ConfigError
from ovps.taxonomy import Taxonomy, load_split, load_taxonomy
from tests.helpers.mini_nuscenes import VERSION

SMALL = {
    "name": "small",
    "min_points": 5,
    "instance_divisor": 10,
    "classes": [
        {"id": 3, "name": "car", "kind": "thing", "color": [1, 2, 3], "synonyms": ["car"]},
        {"id": 200, "name": "road", "kind": "stuff", "color": [4, 5, 6], "synonyms": ["road", "street"]},
    ],
    "raw_to_id": {7: 3, 8: 3, 1: 200},
}


def test_nuscenes_equals_the_devkit(mini_nuscenes):
    from nuscenes.eval.panoptic.utils import PanopticClassMapper
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.color_map import get_colormap

    mapper = PanopticClassMapper(NuScenes(VERSION, str(mini_nuscenes), verbose=False))
    taxonomy = load_taxonomy("nuscenes")
    assert {c.name: c.id for c in taxonomy.classes if c.kind == "thing"} == mapper.things
    assert {c.name: c.id for c in taxonomy.classes if c.kind == "stuff"} == mapper.stuff
    assert {raw: taxonomy.raw_to_id.get(raw, 0) for raw in range(32)} == mapper.fine_idx_2_coarse_idx_mapping
    assert {c.name: c.color for c in taxonomy.classes} == {n: mapper.coarse_colormap[n] for n in taxonomy.by_name}
    assert taxonomy.raw_names == dict(enumerate(get_colormap()))
    assert (taxonomy.min_points, taxonomy.instance_divisor) == (15, 1000)
    assert taxonomy.submission == "nuscenes"


def test_no_synonym_means_two_classes():
    words = [s for c in load_taxonomy("nuscenes").classes for s in c.synonyms]
    assert len(words) == len(set(words))


def test_decode_by_example():
    taxonomy = Taxonomy.model_validate(SMALL)
    # car 1, car 1 of raw class 8, car without a number, road, road with a number, unknown, beyond the table
    raw = np.array([71, 81, 70, 10, 12, 55, 9_990], np.uint32)
    semantic, instance = taxonomy.decode(raw)
    assert semantic.dtype == np.uint8
    assert instance.dtype == np.uint32
    assert semantic.tolist() == [3, 3, 3, 200, 200, 0, 0]
    assert instance.tolist() == [71, 81, 70, 0, 0, 0, 0]
    assert [len(a) for a in taxonomy.decode(np.zeros(0, np.uint32))] == [0, 0]


@given(arrays(np.uint32, st.integers(0, 50), elements=st.integers(0, 40_000)))
def test_decode_equals_the_obvious_loop(raw):
    taxonomy = load_taxonomy("nuscenes")
    semantic, instance = taxonomy.decode(raw)
    for value, found_class, found_instance in zip(raw.tolist(), semantic.tolist(), instance.tolist(), strict=True):
        wanted = taxonomy.raw_to_id.get(value // 1000, 0)
        thing = wanted != 0 and taxonomy.by_id[wanted].kind == "thing"
        assert (found_class, found_instance) == (wanted, value if thing else 0)


@pytest.mark.parametrize(
    ("name", "taxonomy", "base", "novel"),
    [
        ("b12n4", "nuscenes", 12, 4),
        ("b11n5", "nuscenes", 11, 5),
        ("b10n6", "nuscenes", 10, 6),
        ("b14n5", "semantickitti", 14, 5),
        ("b12n7", "semantickitti", 12, 7),
        ("all", "nuscenes", 16, 0),
        ("all", "semantickitti", 19, 0),
    ],
)
def test_shipped_splits(name, taxonomy, base, novel):
    taxonomy = load_taxonomy(taxonomy)
    split = load_split(name).of(taxonomy)
    assert (split.name, split.taxonomy) == (name, taxonomy.name)
    assert len(split.base_ids(taxonomy)) == base
    assert len(split.novel_ids(taxonomy)) == novel
    assert sorted(split.base_ids(taxonomy) + split.novel_ids(taxonomy)) == sorted(taxonomy.by_id)


# lists of CVMI-Lab/PLA, tools/cfgs/nuscenes_models/sparseunet_clip_base{12,10}_caption.yaml, which count from 0
PLA = {
    "pla_b12n3": ([0, 1, 2, 3, 4, 8, 9, 10, 12, 13, 14, 15], [5, 6, 7], [11]),
    "pla_b10n5": ([1, 2, 3, 4, 8, 9, 10, 13, 14, 15], [0, 5, 6, 7, 12], [11]),
}


@pytest.mark.parametrize("name", PLA)
def test_the_splits_of_pla_are_those_of_its_configs(name):
    taxonomy = load_taxonomy("nuscenes")
    split = load_split(name).of(taxonomy)
    base, novel, ignored = PLA[name]
    assert [i - 1 for i in split.base_ids(taxonomy)] == base
    assert sorted(i - 1 for i in split.novel_ids(taxonomy)) == novel
    assert set(split.hidden_ids(taxonomy)) == {i + 1 for i in novel + ignored}
    assert [c.id - 1 for c in split.scored(taxonomy).classes] == sorted(base + novel)


def test_points_of_a_class_that_is_left_out_are_unlabelled_and_all_others_as_they_were():
    taxonomy = load_taxonomy("nuscenes")
    left = taxonomy.without(["other_flat", "car"])
    raw = (np.array(sorted(taxonomy.raw_to_id))[:, None] * 1000 + [0, 7]).reshape(-1)
    semantic, instance = taxonomy.decode(raw)
    out = np.isin(semantic, [taxonomy.by_name[n].id for n in ("other_flat", "car")])
    assert out.any()
    found, number = left.decode(raw)
    np.testing.assert_array_equal(found, np.where(out, 0, semantic))
    np.testing.assert_array_equal(number, np.where(out, 0, instance))
    assert "car" not in left.by_name
    assert "car" in taxonomy.by_name
    kitti = load_taxonomy("semantickitti")
    assert len(kitti.without(["road"]).id_to_raw) == len(kitti.id_to_raw) - 1
    assert kitti.without([]) is kitti


def test_a_class_is_novel_or_ignored(tmp_path):
    (tmp_path / "split.yaml").write_text("{name: mine, novel: [car, bus], ignored: [bus]}")
    with pytest.raises(ConfigError, match="bus cannot be novel and ignored"):
        load_split(str(tmp_path / "split.yaml"))
    (tmp_path / "split.yaml").write_text("{name: mine, novel: [car], ignored: [tram]}")
    with pytest.raises(ConfigError, match="names tram"):
        load_split(str(tmp_path / "split.yaml")).base_ids(load_taxonomy("nuscenes"))


def test_a_split_of_another_taxonomy_is_refused():
    with pytest.raises(ConfigError, match="split b12n4 is of taxonomy nuscenes, the cache of semantickitti"):
        load_split("b12n4").of(load_taxonomy("semantickitti"))


def test_the_hash_of_the_nuscenes_taxonomy_is_that_of_the_stores_there_are():
    """A field that a taxonomy has got since, and does not use, must not make its stores strangers."""
    assert load_taxonomy("nuscenes").sha256 == "e3dabe0d7ac7727efc38cd92ab73461bd47d965b60b0fadee33d553e0826cf4e"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class_modulus": 65536}, "instance_divisor or class_modulus"),
        ({"instance_divisor": None}, "instance_divisor or class_modulus"),
        ({"id_to_raw": {3: 10, 9: 11}}, "id_to_raw"),
        ({"submission": "semantickitti"}, "no raw class that raw_to_id takes back"),
    ],
)
def test_a_taxonomy_says_how_labels_are_encoded_and_written(changes, told):
    with pytest.raises(ValueError, match=told):
        Taxonomy.model_validate(SMALL | changes)


def test_ids_of_the_paper_split():
    taxonomy = load_taxonomy("nuscenes")
    assert {taxonomy.by_id[i].name for i in load_split("b12n4").novel_ids(taxonomy)} == {
        *("bus", "pedestrian", "motorcycle", "vegetation")
    }


def test_ones_own_files(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    taxonomy = load_taxonomy(str(path))
    assert (taxonomy.thing_ids, taxonomy.stuff_ids) == ((3,), (200,))
    assert taxonomy.submission is None
    (tmp_path / "split.yaml").write_text("{name: mine, taxonomy: small, novel: [road]}")
    split = load_split(str(tmp_path / "split.yaml"))
    assert (split.base_ids(taxonomy), split.novel_ids(taxonomy)) == ((3,), (200,))


def test_unknown_class_in_a_split(tmp_path):
    (tmp_path / "split.yaml").write_text("{name: mine, taxonomy: nuscenes, novel: [bus, tram]}")
    split = load_split(str(tmp_path / "split.yaml"))
    with pytest.raises(ConfigError, match=r"split mine names tram.*Its classes are: barrier") as caught:
        split.base_ids(load_taxonomy("nuscenes"))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("load", [load_taxonomy, load_split])
def test_unknown_names_and_missing_files(load, tmp_path):
    with pytest.raises(ConfigError, match="named 'kitty'"):
        load("kitty")
    with pytest.raises(ConfigError, match="no such file") as caught:
        load(str(tmp_path / "gone.yaml"))
    assert caught.value.path == str(tmp_path / "gone.yaml")
    assert caught.value.remedy


@pytest.mark.parametrize("content", [b"[1, 2]", b"name: [", b"name: x", b"\xff\xfe\x00", b""])
@pytest.mark.parametrize("load", [load_taxonomy, load_split])
def test_files_that_are_something_else(load, content, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a valid") as caught:
        load(str(path))
    assert caught.value.path == str(path)


def _class(**change):
    return SMALL["classes"][0] | change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": [_class(), _class(name="van")]}, "share"),
        ({"classes": [_class(), _class(id=4)]}, "share"),
        ({"raw_to_id": {1: 5}}, "no class has"),
        ({"raw_to_id": {-1: 3}}, "greater than or equal to 0"),
        ({"classes": [_class(id=0)]}, "greater than 0"),
        ({"classes": [_class(id=256)]}, "less than 256"),
        ({"classes": [_class(kind="tree")]}, "thing"),
        ({"classes": [_class(synonyms=[])]}, "at least 1"),
        ({"typo": 1}, "typo: no such field"),
        ({"classes": [_class(color=(0, 256, 0))]}, r"classes\.0\.color\.1: .*less than or equal to 255"),
        ({"classes": [_class(color=(0, 0, -1))]}, "greater than or equal to 0"),
        ({"classes": 3}, r"classes: expected a list, as in \[a, b\] \(file"),
        ({"classes": [_class(), _class(id=4, name="Car", synonyms=["van"])]}, "share"),
        ({"classes": [_class(name="fire_truck"), _class(id=4, name="Fire truck", synonyms=["x"])]}, "share"),
        ({"classes": [_class(), _class(id=4, name="van", synonyms=["van", "Car"])]}, "synonym of both car and van"),
        ({"classes": [_class(synonyms=["car", " "])]}, "without a letter"),
        ({"submission": "kitti"}, "nuscenes"),
        ({"submission": "nuscenes"}, "up to 64"),
    ],
)
def test_senseless_taxonomies(change, reason, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(SMALL | change))
    with pytest.raises(ConfigError, match=reason):
        load_taxonomy(str(path))


def test_an_unknown_split_is_named_once_and_the_known_ones_once():
    with pytest.raises(ConfigError) as caught:
        load_split("foo")
    assert str(caught.value).count("foo") == 1
    assert str(caught.value).count("b12n4") == 1


def test_a_split_of_other_classes_is_not_called_as_a_shipped_one(tmp_path):
    shipped = load_split("b12n4")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(shipped.model_dump(mode="json")))
    assert load_split(str(path)) == shipped
    path.write_text("{name: b12n4, taxonomy: nuscenes, novel: [trailer]}")
    with pytest.raises(
        ConfigError, match=r"a split called b12n4, as one that ovps ships.*mine\.yaml.*`name` of its own"
    ):
        load_split(str(path))


def test_faults_of_a_split_are_in_plain_words(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, taxonomy: nuscenes, novel: trailer}")
    with pytest.raises(ConfigError) as caught:
        load_split(str(path))
    assert caught.value.message == "not a valid split: novel: expected a list, as in [a, b]"


def test_taxonomies_that_differ_in_looks_alone_read_labels_alike():
    one = load_taxonomy("nuscenes")
    looks = [c.model_copy(update={"color": (1, 2, 3), "synonyms": (f"a {c.name}",)}) for c in one.classes]
    assert one.reads_labels_as(one.model_copy(update={"classes": tuple(looks), "min_points": 3}))
    assert not one.reads_labels_as(one.model_copy(update={"raw_to_id": {**one.raw_to_id, 99: 1}}))
    assert not one.reads_labels_as(load_taxonomy("semantickitti"))
