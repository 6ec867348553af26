"""The beginning of a report, and what went wrong, against the counts that PQ is made of; the page in a browser."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from selenium.webdriver.common.by import By

from ovps.evaluation.comparison import Spread
from ovps.evaluation.panoptic_quality import PanopticCounts
from ovps.report.mistakes import NOTHING, RIGHT, WRONG, draw_mistake, find_mistakes
from ovps.report.opening import best_view, opening, verdict
from ovps.report.pictures import FrameView, Labels
from ovps.taxonomy import load_taxonomy
from pipelines.evaluate import evaluate
from pipelines.report import frame_view, report
from tests.helpers.browser import chromium, complaints, keep, pixels, requests, until
from tests.pipelines.test_report import fake_camera, fake_frames
from tests.pipelines.untrained import LOOSE, untrained

TAXONOMY = load_taxonomy("nuscenes")
CAR, BUS, TREE = (TAXONOMY.by_name[name].id for name in ("car", "bus", "vegetation"))


def view_of(true, predicted, cameras=(), xyz=None, scene="s"):
    """A frame of (class, instance) pairs for each point."""
    (a, b), (c, d) = np.transpose(true), np.transpose(predicted)
    points = np.tile(np.array([0, 9, 0], np.float32), (len(a), 1)) if xyz is None else xyz
    return FrameView("t", scene, 0, points, Labels(a, b), Labels(c, d), list(cameras), "run")


pairs = st.lists(st.tuples(st.sampled_from([0, CAR, BUS, TREE]), st.integers(0, 2)), min_size=1, max_size=4)


@given(pairs, pairs, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_missed_is_what_pq_counts_as_missed(true, predicted, seed):
    rng = np.random.default_rng(seed)
    of_point = [np.array(of)[np.sort(rng.integers(0, len(of), 120))] for of in (true, predicted)]
    view = view_of(*of_point)
    counts = PanopticCounts.empty()
    labels = (view.true.semantic, view.true.instance, view.predicted.semantic, view.predicted.instance)
    counts.add(*labels, min_points=TAXONOMY.min_points)
    found = find_mistakes([view], TAXONOMY)
    assert found.missed == counts.fn.sum()
    for class_id in (CAR, BUS, TREE):
        assert sum(k.segments for k in found.kinds if k.true == class_id) == counts.fn[class_id]
    for kind in found.kinds:
        called = view.predicted.semantic[kind.rows]
        assert (called == kind.called).sum() == np.bincount(called).max()
        assert set(view.true.semantic[kind.rows].tolist()) == {kind.true}


def test_segments_of_true_stuff_are_those_that_are_scored():
    """As in SemanticKITTI, where road and lane marking are two segments of one class."""
    taxonomy = load_taxonomy("semantickitti")
    raw = np.repeat(np.array([40, 60], np.uint32), 60)
    frame = SimpleNamespace(token="t", scene="s", index=0, xyz=np.zeros((120, 3), np.float32), label=raw)
    nothing = Labels(np.zeros(120, np.uint8), np.zeros(120, np.uint32))
    found = find_mistakes([frame_view(frame, taxonomy, nothing, [])], taxonomy)
    assert (found.segments, found.missed) == (2, 2)


def test_kinds_of_mistakes_say_what_something_was_called():
    true = [(BUS, 1)] * 40 + [(BUS, 2)] * 20 + [(CAR, 1)] * 30 + [(CAR, 2)] * 30 + [(TREE, 0)] * 20
    called = [(CAR, 7)] * 40 + [(CAR, 8)] * 20 + [(CAR, 9)] * 60 + [(0, 0)] * 20
    found = find_mistakes([view_of(true, called)], TAXONOMY)
    said = {(card.true, card.fault): card.about for card in found.cards}
    assert set(said) == {
        ("bus", "called car"),
        ("car", "right name, wrong outline"),
        ("vegetation", "not labelled"),
    }
    assert said["bus", "called car"] == "2 of 2 segments; this one has 40 points, 9 m away"
    assert found.missed == found.segments == 5


@pytest.mark.parametrize("with_camera", [True, False])
def test_a_mistake_is_drawn_by_what_its_points_are_called(with_camera):
    xyz = np.array([[x, 9, z] for x in np.linspace(-1, 1, 12) for z in np.linspace(-1, 1, 9)], np.float32)
    called = [(BUS, 1)] * 36 + [(CAR, 2)] * 48 + [(0, 0)] * 24
    cameras = [(fake_camera(), np.zeros((180, 320, 3), np.uint8))] if with_camera else []
    (kind,) = find_mistakes([view_of([(BUS, 1)] * 108, called, cameras, xyz)], TAXONOMY).kinds
    assert (kind.true, kind.called, len(kind.rows)) == (BUS, CAR, 108)
    url = draw_mistake(kind)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(int)
    assert picture.shape[1] == 480
    assert abs(picture.shape[0] - 360) < 3
    across = {}
    for colour in (RIGHT, WRONG, NOTHING):
        near = np.abs(picture - colour).max(axis=2) < 70
        assert near.any()
        across[colour] = np.flatnonzero(near.any(axis=0)).mean()
    assert across[RIGHT] < across[WRONG] < across[NOTHING]  # left to right, as they stand


def test_the_picture_is_chosen_by_labels_alone():
    few, many = [(CAR, 1)] * 30 + [(BUS, 1)] * 30, [(TREE, 0)] * 30 + [(BUS, 1)] * 30
    nothing, all_right = [(0, 0)] * 60, many
    cameras = [(fake_camera(), np.zeros((180, 320, 3), np.uint8))]
    novel = frozenset({BUS, TREE})
    for predicted in (nothing, all_right):
        views = [view_of(few, few, cameras, scene="few"), view_of(many, predicted, cameras, scene="many")]
        assert best_view(views, TAXONOMY, novel) is views[1]
        begun = opening(views, TAXONOMY, novel)
        assert begun.caption.startswith("many, frame 0, CAM_<FRONT>")
        assert [name for name, _ in begun.legend[0]] == ["bus", "vegetation"]
        assert [caption for _, _, caption in begun.pictures] == ["labels", "run"]
    above = opening([replace(views[0], cameras=[])], TAXONOMY, novel)
    assert "from above" in above.caption
    assert opening([], TAXONOMY, novel) is None


def test_the_sentence_says_the_result_and_its_caveat():
    pq = {"all": 0.49, "base": 0.479, "novel": Spread(0.521, 0.011, 3)}
    said = verdict("ovps", 60, pq, ["bus", "traffic_cone"], 0.097, {"pfc": 0.161, "none": None}, "it was trained once")
    assert said == (
        "ovps reaches a PQ of 49.0 on 60 frames: 47.9 on classes that it was taught, and 52.1 ± 1.1 on those that it"
        " never saw a label of (bus, traffic cone), where pfc has 16.1 and chance is 9.7; but it was trained once."
    )
    taught = verdict("closed_set", 60, pq, ["bus"], None, {}, "", taught=["bus"])
    assert "47.9 on base classes, and 52.1 ± 1.1 on the novel ones, which it was taught too (bus)" in taught
    other = verdict("ovps", 60, pq, ["bus", "traffic_cone"], None, {}, "", taught=["traffic_cone"], hidden=["truck"])
    assert "47.9 on base classes (without labels of truck)" in other
    assert "the novel ones, of which it was taught traffic cone (bus, traffic cone)" in other
    none = verdict("openscene", 60, pq, ["bus"], None, {}, "", unlabelled=True)
    assert "47.9 on base classes, and 52.1 ± 1.1 on novel ones, of neither of which it saw a label (bus)" in none
    assert verdict("all", 1, {"all": 0.5}, [], None, {}, "") == "all reaches a PQ of 50.0 on 1 frames."


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    run, cache = untrained(folder)
    evaluate(run, cache, merge=LOOSE)
    return report(
        run,
        cache,
        out=folder / "report.html",
        count=2,
        frames=fake_frames(cache),
        read_image=lambda camera: np.full((180, 320, 3), 90, np.uint8),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_runs_over_the_edge_and_nothing_is_fetched(page, scheme):
    with chromium(offline=True) as driver:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page.as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        order = [heading.text for heading in driver.find_elements(By.TAG_NAME, "h2")]
        parts = ("Panoptic quality", "What went wrong most", "Turn it yourself", "Training")
        assert sorted(parts, key=order.index) == list(parts)
        sentence, table = (driver.find_element(By.CSS_SELECTOR, s) for s in (".verdict", "table"))
        assert driver.find_element(By.TAG_NAME, "img").location["y"] < sentence.location["y"] < table.location["y"]
        assert (pixels(driver)[:20, :20].mean() < 80) == (scheme == "dark")
        keep(driver, f"report-{scheme}")
        scene = driver.find_element(By.TAG_NAME, "iframe")
        driver.execute_script("arguments[0].scrollIntoView()", scene)
        driver.switch_to.frame(scene)
        until(lambda: "points" in driver.find_element(By.ID, "about").text)
        driver.switch_to.default_content()
        until(lambda: (np.ptp(pixels(driver)[:400], axis=2) > 60).sum() > 20)  # coloured points
        keep(driver, f"report-scene-{scheme}")
        assert complaints(driver) == []
        assert {url.split(":")[0] for url in requests(driver)} <= {"file", "data", "blob", "about"}
