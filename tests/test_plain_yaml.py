"""YAML of users: as PyYAML reads it, but for aliases."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ovps import plain_yaml
from ovps.errors import ConfigError
from ovps.taxonomy import load_split, load_taxonomy

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_it_reads_as_pyyaml_does(value):
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    assert plain_yaml.loads(yaml.dump(value, Dumper=Dumper)) == value


@pytest.mark.parametrize("load", [load_taxonomy, load_split])
def test_an_alias_is_named_before_it_unpacks(load, tmp_path):
    letters = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(8 * ['*' + a])}]" for a, b in zip(letters, letters[1:], strict=False)]
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"(?s)an alias, \*a: write out what it stands for.*line 2"):
        load(str(file))
