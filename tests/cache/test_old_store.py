"""Stores that were written once read as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovps.cache.info import store_info
from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from tests.cache.stores.make import digests

STORES = Path(__file__).parent / "stores" / "v2"


@pytest.mark.parametrize("codec", ["dense", "cells"])
def test_a_store_of_version_2(codec):
    store = STORES / codec
    assert verify_store(store) == []
    written = json.loads((STORES / f"{codec}.json").read_text())
    found = digests(store)
    assert found.keys() == written.keys()
    for token, frame in found.items():
        later = frame.keys() - written[token].keys()
        assert {name: frame[name] for name in written[token]} == written[token]
        assert {frame[name] for name in later} <= {"None"}  # what frames have learned since, a store of then has not
    opened = Store.open(store)
    assert opened.provenance.codec == codec
    assert opened.vocabulary.names[:3] == ("barrier", "bicycle", "bus")
    assert opened.taxonomy.by_id[4].name == "car"
    assert store_info(store).frames == 2
