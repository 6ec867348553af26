"""From nothing to a picture: the street, the run that ships, the page, and the same again."""

from __future__ import annotations

import ast
import json
import shutil
import tomllib
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import ovps
from driveworld import demo_run
from ovps.cache.reader import Store
from ovps.errors import CheckpointError, ConfigError, VocabularyError
from ovps.inference.session import open_session
from ovps.model import sparse
from ovps.training.run import load_run
from ovps.training.run_files import load_settings
from pipelines import demo as module
from pipelines.demo import SUBSET, demo
from pipelines.options import DemoOptions
from tests.helpers.browser import chromium, complaints, keep, pixels, requests, shows, until
from tools.notebook import executed

WORDS = "fire engine, person on a bicycle, lorry, child, tree:stuff=tree|bush, road:stuff, house:stuff, pavement:stuff"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def made(folder):
    return demo(DemoOptions(out=folder, words=WORDS, frames=1, seed=7, open=False))


def labels(folder, token):
    """Names of the entries, and what every point is called."""
    entries = json.loads((folder / "about.json").read_text())["entries"]
    with np.load(folder / "labels" / SUBSET / f"{token}.npz") as arrays:
        return [entry["name"] for entry in entries], arrays["entry"].copy()


def test_the_run_that_ships_is_whole_small_and_says_where_it_comes_from():
    known = demo_run.provenance()
    assert known.command.startswith(
        ("make reproduce", "ovps train --cache zarr/driveworld --config driveworld --split b12n4")
    )
    config, info = load_settings(demo_run.folder())
    assert info.total_steps == known.step == config.steps
    assert set(demo_run.HASHED) == set(known.sha256)
    assert sum(path.stat().st_size for path in demo_run.folder().iterdir() if path.is_file()) <= 8e6
    for group, percent in known.pq["float32"].items():
        assert abs(known.pq["float16"][group] - percent) < 0.2


def test_a_wheel_holds_every_file_of_the_packages():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [name.rstrip("*") for name in tool["packages"]["find"]["include"]]
    assert {"ovps", "driveworld"} <= set(packages)
    for package in packages:
        patterns = tool["package-data"].get(package, [])
        packed = {path for pattern in ["**/*.py", *patterns] for path in (ROOT / package).glob(pattern)}
        there = {path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert there <= packed, f"package-data of {package} leaves out {there - packed}"


def test_most_points_of_the_street_have_their_class_and_trees_their_word(made):
    session = open_session(made.run, str(made.cache))
    assert session.run.finished
    assert set(made.novel) == {"bus", "pedestrian", "motorcycle", "vegetation"}
    store = Store.open(str(made.cache))
    (ref,) = store.frames
    assert ref.subset == SUBSET
    semantic, _ = store.taxonomy.decode(store.read(ref).label)
    submitted = np.load(made.predictions[0] / "panoptic" / SUBSET / f"{ref.token}_panoptic.npz")["data"]
    labelled = semantic > 0
    assert (submitted // 1000 == semantic)[labelled].mean() > 0.7  # 0.84 measured
    names, entry = labels(made.predictions[1], ref.token)
    tree = entry == names.index("tree")
    vegetation = semantic == next(c.id for c in store.taxonomy.classes if c.name == "vegetation")
    assert (tree & vegetation).sum() > 0.5 * max(tree.sum(), vegetation.sum())


def test_the_page_shows_both_vocabularies_without_a_network(made):
    with chromium(offline=True) as driver:
        driver.get(made.page.as_uri())
        shows(
            driver,
            "A street that no training saw",
            "the data set's classes",
            "your words",
            "driveable surface",
            "lorry",
        )
        legend = driver.find_element(By.ID, "legend").text
        assert legend.index("the data set's classes") < legend.index("manmade") < legend.index("your words")
        assert legend.index("your words") < legend.index("house")
        until(lambda: len(np.unique(pixels(driver).reshape(-1, 3), axis=0)) > 20)
        keep(driver, "demo")
        Select(driver.find_element(By.ID, "colour")).select_by_visible_text("query")
        Select(driver.find_element(By.ID, "query")).select_by_visible_text("tree")
        until(lambda: "below the threshold" in driver.find_element(By.ID, "legend").text)
        assert "your words" not in driver.find_element(By.ID, "legend").text  # one legend for both
        keep(driver, "demo-query")
        assert complaints(driver) == []
        assert {url.split(":")[0] for url in requests(driver)} <= {"file", "data", "blob"}


def test_the_notebook_runs_as_it_stands_through_the_public_api_alone(made, folder, monkeypatch):
    text = (ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8")
    assert len(text) < 400_000
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    nodes = [node for cell in code for node in ast.walk(ast.parse("".join(cell["source"])))]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"pathlib", "matplotlib.pyplot", "numpy", "ovps", "ovps.vocabulary"}
    monkeypatch.chdir(folder.parent)
    assert folder.name == "demo"
    again = [cell for cell in executed(notebook)["cells"] if cell["cell_type"] == "code"]

    def kinds(cells):
        return [[output["output_type"] for output in cell["outputs"]] for cell in cells]

    assert kinds(again) == kinds(code)  # what is shown on the page was run, and its errors would be seen here
    assert sum(kind == "display_data" for shown in kinds(code) for kind in shown) == 3
    scores = "".join(again[-1]["outputs"][0]["text"])
    expected = ovps.score(ovps.load_run(made.run), ovps.open_store(made.cache))
    assert f"{100 * expected.groups['novel'].pq:5.1f}" in scores


def test_again_with_other_words_makes_only_what_is_other_and_torch_alone_says_the_same(made, folder, monkeypatch):
    (ref,) = Store.open(str(made.cache)).frames
    before = {path: path.stat().st_mtime_ns for path in (*made.data.rglob("*.jpg"), *made.cache.rglob("*.parquet"))}
    with np.load(made.predictions[0] / "panoptic" / SUBSET / f"{ref.token}_panoptic.npz") as arrays:
        first = arrays["data"].copy()
    monkeypatch.setattr(sparse, "installed", lambda name: False)  # no MinkowskiEngine
    again = demo(DemoOptions(out=folder, words="</script><b>lamp post, tree:stuff", frames=1, seed=7, open=False))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert labels(again.predictions[1], ref.token)[0] == ["</script><b>lamp post", "tree"]
    page = again.page.read_text()
    assert "lamp post" in page
    assert "</script><b>" not in page  # words are data, also where they end a script
    assert "fire engine" not in page
    with np.load(again.predictions[0] / "panoptic" / SUBSET / f"{ref.token}_panoptic.npz") as arrays:
        assert (arrays["data"] == first).mean() > 0.999


def test_what_is_in_the_way_is_told_before_it_is_harmed(made, folder, tmp_path):
    with pytest.raises(ConfigError, match="frames 1 instead of 2"):
        demo(DemoOptions(out=folder, words=WORDS, frames=2, seed=7, open=False))
    with pytest.raises(ConfigError, match="store"):
        demo(DemoOptions(out=made.cache / "demo", frames=1, open=False))
    with pytest.raises(VocabularyError):
        demo(DemoOptions(out=tmp_path / "new", words=" , ", open=False))
    assert not (tmp_path / "new").exists()
    other = tmp_path / "other"
    shutil.copytree(made.run, other)
    info = json.loads((other / "run.json").read_text()) | {"frames": 3}
    (other / "run.json").write_text(json.dumps(info))
    with pytest.raises(ConfigError, match="another run"):
        demo_run.unpack(other)


@pytest.mark.parametrize("name", [demo_run.WEIGHTS, demo_run.PROVENANCE])
@pytest.mark.parametrize("damage", ["gone", "half"])
def test_a_damaged_package_is_told_and_nothing_is_written(tmp_path, name, damage):
    shipped = tmp_path / "shipped"
    shutil.copytree(demo_run.folder(), shipped, ignore=shutil.ignore_patterns("__pycache__"))
    if damage == "gone":
        (shipped / name).unlink()
    else:
        (shipped / name).write_bytes((shipped / name).read_bytes()[:400])
    with pytest.raises(CheckpointError) as told:
        demo_run.unpack(tmp_path / "run", shipped)
    assert name in str(told.value.path)
    assert "Install the package again" in told.value.remedy
    assert not (tmp_path / "run").exists()


def test_unpacked_it_is_a_run_like_any_other(tmp_path):
    known = demo_run.unpack(tmp_path / "run")
    assert demo_run.unpack(tmp_path / "run") == known
    run = load_run(tmp_path / "run")
    assert run.step == known.step
    assert {str(p.dtype) for p in run.network.parameters()} == {"torch.float32"}
    assert demo_run.pack(tmp_path / "run", tmp_path / "packed") == known.sha256


@pytest.mark.parametrize("desktop", [True, False])
def test_a_browser_is_opened_where_there_is_a_desktop(tmp_path, monkeypatch, desktop):
    asked = []
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url) or True)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0") if desktop else monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert module._open(tmp_path / "demo.html") is desktop
    assert asked == ([(tmp_path / "demo.html").as_uri()] if desktop else [])
