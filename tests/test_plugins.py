"""Things found by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Protocol

import pytest

from ovps import plugins, systems
from ovps.batch.loader_workers import _Parcels
from ovps.doctor import examine
from ovps.errors import ConfigError, SetupError
from ovps.plugins import Registry

GROUP = "ovps.datasets"
NUSCENES = "ovps.datasets.nuscenes:DATASET"


class Anything(Protocol):
    """Asks for nothing."""


OURS, NONE = Registry(GROUP, Anything, {"nuscenes": NUSCENES}), Registry(GROUP, Anything, {})


@pytest.fixture
def installed(monkeypatch):
    """Pretend that other packages bring these, name and place."""

    def pretend(*points: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, GROUP) for name, value in points]
        monkeypatch.setattr(plugins, "entry_points", lambda **asked: EntryPoints(found).select(**asked))

    return pretend


def test_a_built_in_thing_cannot_be_replaced(installed):
    installed(("nuscenes", "json:dumps"), ("mine", "json:loads"))
    message = r"nuscenes of ovps\.datasets is in several packages: json \(json:dumps\), ovps \(ovps\..*all but ovps"
    with pytest.raises(SetupError, match=message):
        OURS.get("nuscenes")
    assert OURS.names() == ("nuscenes", "mine")
    assert NONE.get("mine") is __import__("json").loads
    installed(("mine", "json:loads"))
    assert OURS.get("nuscenes").name == "nuscenes"


def test_an_unknown_name_lists_what_there_is(installed):
    installed(("mine", "json:loads"))
    with pytest.raises(ConfigError, match=r"no dataset named 'yours'.*nuscenes, mine.*ovps\.datasets"):
        OURS.get("yours")


@pytest.mark.parametrize("value", ["nowhere.at.all:THING", "json:nothing"])
def test_what_cannot_be_loaded_says_from_where(installed, value):
    installed(("mine", value))
    with pytest.raises(SetupError, match=f"mine of ovps.datasets cannot be loaded from {value}") as error:
        NONE.get("mine")
    package = value.partition(":")[0].partition(".")[0]
    assert error.value.remedy == f"Mend the package {package}, or uninstall it"


@pytest.mark.parametrize(
    ("code", "raised"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("raise SystemExit(0)", "SystemExit: 0")],
)
def test_a_module_that_raises_when_it_is_imported_is_told(installed, tmp_path, monkeypatch, code, raised):
    module = f"raises_{len(code)}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(("mine", f"{module}:THING"))
    with pytest.raises(SetupError, match=f"from {module}:THING: {raised}"):
        NONE.get("mine")


class Quits:
    """Batches of a store whose codec ends by sys.exit."""

    def __getitem__(self, number):
        exec(compile("raise SystemExit(0)", "quits.py", "exec"), {"__name__": "quits.codec"})


def test_what_ends_in_a_loader_process_is_told(installed):
    installed(("mine", "quits.codec:CODEC"))
    told = _Parcels(Quits())[0]
    assert str(told) == "quits has raised SystemExit: 0 (file quits.py:1). Mend the package quits"


def test_doctor_loads_what_other_packages_bring(installed, tmp_path):
    installed(("sound", "ovps.datasets.nuscenes:DATASET"), ("gone", "nowhere.at.all:THING"), ("nuscenes", "json:dumps"))
    checks = {check.name: check for check in examine(str(tmp_path)).checks}
    assert checks["gone of ovps.datasets"].status == checks["nuscenes of ovps.datasets"].status == "problem"
    assert "No module named 'nowhere'" in checks["gone of ovps.datasets"].found
    assert "calls itself 'nuscenes'" in checks["sound of ovps.datasets"].found
    assert not examine(str(tmp_path)).healthy


def test_one_name_in_two_packages_is_ambiguous(installed):
    installed(("mine", "json:loads"), ("mine", "json:dumps"))
    with pytest.raises(SetupError, match=r"json \(json:dumps\), json \(json:loads\)\. Uninstall all but one"):
        NONE.get("mine")
    installed(("mine", "json:loads"), ("mine", "json:loads"))  # seen twice on the path: no two things
    assert NONE.get("mine")


def test_what_a_script_adds_is_looked_at_as_what_a_package_brings(tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text("class System: pass\nSYSTEM = System()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(systems.BUILT_IN, "mine", "of_mine:SYSTEM")
    with pytest.raises(SetupError, match=r"mine of ovps\.systems lacks .*needs_labels.*Mend the package of_mine"):
        systems.get("mine")


def test_a_thing_must_bear_the_name_it_is_found_by(installed):
    installed(("mine", NUSCENES))
    with pytest.raises(SetupError, match=r"mine of ovps\.datasets calls itself 'nuscenes'"):
        NONE.get("mine")


def test_what_is_installed_is_looked_for_once_on_a_path(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda **group: asked.append(group) or EntryPoints())
    for place in ("one", "two"):
        monkeypatch.syspath_prepend(str(tmp_path / place))
        for _ in range(3):
            OURS.get("nuscenes")
    assert asked == [{"group": GROUP}] * 2
