"""Things found by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ovps import plugins
from ovps.errors import ConfigError, SetupError
from ovps.plugins import Registry

GROUP = "ovps.datasets"
NUSCENES = "ovps.datasets.nuscenes:DATASET"
OURS, NONE = Registry(GROUP, {"nuscenes": NUSCENES}), Registry(GROUP, {})


@pytest.fixture
def installed(monkeypatch):
    """Pretend that other packages bring these, name and place."""

    def pretend(*points: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, GROUP) for name, value in points]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == GROUP else [])

    return pretend


def test_a_built_in_thing_cannot_be_replaced(installed):
    installed(("nuscenes", "json:dumps"), ("mine", "json:loads"))
    assert OURS.get("nuscenes").name == "nuscenes"
    assert OURS.names() == ("nuscenes", "mine")
    assert NONE.get("mine") is __import__("json").loads


def test_an_unknown_name_lists_what_there_is(installed):
    installed(("mine", "json:loads"))
    with pytest.raises(ConfigError, match=r"no dataset named 'yours'.*nuscenes, mine.*ovps\.datasets"):
        OURS.get("yours")


@pytest.mark.parametrize("value", ["nowhere.at.all:THING", "json:nothing"])
def test_what_cannot_be_loaded_says_from_where(installed, value):
    installed(("mine", value))
    with pytest.raises(SetupError, match=f"mine of ovps.datasets cannot be loaded from {value}"):
        NONE.get("mine")


def test_one_name_in_two_packages_is_ambiguous(installed):
    installed(("mine", "json:loads"), ("mine", "json:dumps"))
    with pytest.raises(SetupError, match=r"json:dumps, json:loads.*Uninstall"):
        NONE.get("mine")
    installed(("mine", "json:loads"), ("mine", "json:loads"))  # seen twice on the path: no two things
    assert NONE.get("mine")


def test_a_thing_must_bear_the_name_it_is_found_by(installed):
    installed(("mine", NUSCENES))
    with pytest.raises(SetupError, match=r"mine of ovps\.datasets calls itself 'nuscenes'"):
        NONE.get("mine")
