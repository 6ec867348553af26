"""YAML of users: as PyYAML reads it, unless it unpacks to too much."""

from __future__ import annotations

import itertools
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ovps import plain_yaml
from ovps.errors import ConfigError
from ovps.taxonomy import load_split, load_taxonomy
from ovps.training.config import load_config

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_it_reads_as_pyyaml_does(value):
    text = yaml.dump([value, value])  # lists and dicts become aliases
    assert plain_yaml.loads(text) == yaml.safe_load(text) == [value, value]


@pytest.mark.parametrize("text", ["", "# nothing", "&a [*a]", "a: &a {b: *a}"])
def test_nothing_and_what_holds_itself(text):
    if "*" not in text:
        assert plain_yaml.loads(text) is None
        return
    with pytest.raises(yaml.YAMLError, match="unpack to more than"):
        plain_yaml.loads(text)


@pytest.mark.parametrize("load", [load_taxonomy, load_split])
def test_a_bomb_is_told_before_it_unpacks(load, tmp_path):
    letters = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(8 * ['*' + a])}]" for a, b in itertools.pairwise(letters)]
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="its aliases unpack to more than 1,000,000 values: write out"):
        load(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("novel: [a]\nname: x\nnovel: [b]", "novel is named twice, in line 1 and in line 3"),
        ("raw_to_id: {10: 1, 11: 1, 10: 2}", "10 is named twice, in line 1 and in line 1"),
        ("a:\n- b: 1\n  b: 2", "b is named twice, in line 2 and in line 3"),
    ],
)
def test_a_key_that_is_named_twice_is_told(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        plain_yaml.loads(text)


def test_a_key_of_a_mapping_that_is_merged_may_be_named_again():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a"
    assert plain_yaml.loads(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("010", 10), ("-007", -7), ("0x1F", 31), ("1_000", 1000), ("1:30", "1:30"), ("12:30:45", "12:30:45")],
        *[("0100.5", 100.5), ("1:30.5", "1:30.5"), ("4.5e-4", 4.5e-4), (".5", 0.5), ("-.inf", -math.inf), ("+3", 3)],
        *[("08", "08"), (".", "."), ("-.", "-."), ("1.5e3", "1.5e3"), ("0o17", "0o17")],  # text, as PyYAML writes it
    ],
)
def test_numbers_are_decimal(text, value):
    """In PyYAML 010 is eight, and 1:30 is ninety. What it writes is read as it was."""
    assert plain_yaml.loads(f"[{text}]") == [value]
    assert plain_yaml.loads(yaml.safe_dump([text, value])) == [text, value]
    assert load_config("driveworld", ["seed=010"]).seed == 10


@pytest.mark.parametrize("text", ["2024-02-30", "!!int x", '!!int ""', "!!float y", "!!bool maybe", "!!timestamp x"])
def test_a_value_that_is_none_is_no_yaml(text):
    with pytest.raises(yaml.YAMLError):
        plain_yaml.loads(f"a: {text}")
