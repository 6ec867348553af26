"""No JSON that is written holds what JSON does not know."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ovps import strict_json
from ovps.cache.info import store_info
from ovps.cache.layout import manifest_key
from ovps.cache.manifest import partitions, read_manifest
from ovps.cache.where import storage_of
from ovps.commands.shown import show
from ovps.errors import CorruptStoreError
from ovps.training.metrics import METRICS, MetricsLog, read_metrics
from tests.helpers.synthetic_store import write_synthetic_store

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@given(values)
def test_everything_comes_back_but_what_is_not_finite(value):
    def expected(x):
        if isinstance(x, dict):
            return {k: expected(v) for k, v in x.items()}
        if isinstance(x, list):
            return [expected(v) for v in x]
        return None if isinstance(x, float) and (math.isnan(x) or math.isinf(x)) else x

    assert json.loads(strict_json.dumps(value), parse_constant=refuse) == expected(value)


def test_summaries(capsys):
    class Summary(BaseModel):
        mean: float
        shares: dict[str, tuple[float, ...]]

    show(Summary(mean=math.nan, shares={"a": (0.5, math.inf)}), True)
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"mean": None, "shares": {"a": [0.5, None]}}


def test_curves_of_a_training(tmp_path):
    """A ratio of gradients is infinite where one of them vanishes."""
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"gradient_ratio": math.inf, "loss/total": 2.5})
        log.write(2, {"gradient_ratio": 0.5, "loss/total": 2.0})
    for _ in range(2):
        for line in (tmp_path / METRICS).read_text().splitlines():
            json.loads(line, parse_constant=refuse)
        first, second = read_metrics(tmp_path)
        assert math.isnan(first.pop("gradient_ratio"))
        assert (first, second["gradient_ratio"]) == ({"step": 1, "loss/total": 2.5}, 0.5)
        MetricsLog(tmp_path, 2).__exit__(None, None, None)  # a resumed run writes its lines anew


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_manifest_holds_none(tmp_path, value):
    """Nor is one of before read: where the codec's error is NaN, features are."""
    store = write_synthetic_store(tmp_path / "store", frames=1, points=60, subsets=("train",))
    (partition,) = partitions(storage_of(store))
    path = store / manifest_key(partition)
    table = pq.read_table(pa.BufferReader(path.read_bytes()))

    def spoil(record):
        if isinstance(record, dict):
            return {k: value if k == "codec_max_error" else spoil(v) for k, v in record.items()}
        return [spoil(r) for r in record] if isinstance(record, list) else record

    pq.write_table(pa.Table.from_pylist(spoil(table.to_pylist()), schema=table.schema.remove_metadata()), path)
    for read in (lambda: read_manifest(storage_of(store), partition), lambda: store_info(store)):
        with pytest.raises(CorruptStoreError, match=r"codec_max_error(.|\n)*finite(.|\n)*ovps precompute") as caught:
            read()
        assert caught.value.path == str(path)
