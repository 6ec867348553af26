"""Tables read piece by piece, against the standard library's JSON of the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovps.datasets.nuscenes_rows import batches, read_rows
from ovps.errors import DatasetError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text('ab"{}[],:\\\n é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("}ab", max_size=2), inner, max_size=2),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(st.text('a}"', max_size=3), VALUES, max_size=4), max_size=6)


@settings(max_examples=60)
@given(ROWS, st.sampled_from([None, 0, 2]), st.integers(1, 60), st.booleans(), st.booleans())
def test_pieces_are_the_whole(tmp_path_factory, rows, indent, block, mark, windows):
    """Wherever it is cut: within texts, names, numbers and nested values."""
    path = tmp_path_factory.getbasetemp() / "scene.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=False)
    text = text.replace("\n", "\r\n") if windows else text
    path.write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
    read = [row for piece in batches(path, "", block) for row in piece]
    assert json.dumps(read) == json.dumps(json.loads(text))  # as text: NaN is not equal to itself


@pytest.mark.parametrize("block", [1, 7, 40, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        *('[{"token": "a"}', '[{"token": "a"},]', '[{"token": "a"} {"token": "b"}]', '[{"token": "a"}]]', "[", ""),
        *('[{"token": "a"}] []', '[{"token": "a}]', '[,{"token": "a"}]', '{"token": "a"}', '[[{"token": "a"}]', "null"),
        *('[{"token": "a"}, 1]', '[{"token": "a"}]}', "[" * 5000, '[{"token": ' + "9" * 5000 + "}]"),
    ],
)
def test_what_is_no_table_is_refused_wherever_it_is_cut(tmp_path, text, block):
    path = tmp_path / "scene.json"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_rows(path, {}, "Take it again", block=block)
    assert caught.value.path == str(path)
    assert caught.value.remedy == "Take it again"


def test_a_fault_far_on_is_told_by_its_line_and_row(tmp_path):
    path = tmp_path / "scene.json"
    rows = [{"token": f"{number}", "name": "x"} for number in range(100)]
    text = json.dumps(rows, indent=0)
    path.write_text(text.replace('"73"', "seventy-three"))
    with pytest.raises(DatasetError, match=f"line {text[: text.index(chr(34) + '73')].count(chr(10)) + 1}"):
        read_rows(path, {}, "", block=100)
    path.write_text(json.dumps([row | {"name": 1 if row["token"] == "73" else "x"} for row in rows]))
    with pytest.raises(DatasetError, match="row 73 of table scene has no usable name"):
        read_rows(path, {"name": str}, "", block=100)


def test_a_token_twice_in_rows_far_apart_that_nobody_asked_for(tmp_path):
    path = tmp_path / "scene.json"
    path.write_text(json.dumps([{"token": f"{number % 98}"} for number in range(100)]))
    with pytest.raises(DatasetError, match="has 2 tokens twice, the first is 0"):
        read_rows(path, {}, "", keep=lambda row: False, block=50)
