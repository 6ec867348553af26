"""The viewer as a person uses it: Chromium opens it, types, clicks, slides; pixels and texts are compared."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from ovps.cache.cameras import resized
from ovps.cache.reader import Store
from ovps.errors import CacheError
from ovps.report.colours import DIM
from ovps.viewer import colouring
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.offline import Shown, render_offline
from ovps.viewer.server import start_viewer
from ovps.viewer.view import View, paint
from ovps.viewer.words import Words
from tests.helpers.browser import chromium, complaints, keep, pixels, requests, shows, text, until
from tests.helpers.fake_text import FakeText
from tests.helpers.synthetic_store import write_synthetic_store

NEAR = 40  # of 255 in each channel: a colour seen through antialiasing


def images_of(store):
    """Reads grey images with a bright stripe."""

    def read(ref):
        image = np.full((120, 160, 3), 90, np.uint8)
        image[:, 40:60] = (250, 240, 60)
        return [(resized(camera, 160, 120), image) for camera in store.cameras(ref)]

    return read


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(write_synthetic_store(tmp_path_factory.mktemp("browser") / "zarr", frames=3, points=6000))


@pytest.fixture(scope="module")
def viewer(store):
    catalogue = Catalogue(store, store.frames, store.vocabulary, None, frozenset({2, 3}), images_of(store))
    words = Words(lambda: FakeText(store.vocabulary))
    started = start_viewer(catalogue, words, host="127.0.0.1", port=0, title="ovps: a <b>test</b>")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def driver():
    with chromium() as made:
        yield made


@pytest.fixture
def page(driver, viewer):
    """The page with the first frame of the first scene, and its visitor."""
    driver.get(viewer.url)
    driver.execute_script("localStorage.clear()")
    before = set(viewer.visitors)
    driver.get(viewer.url)
    until(lambda: set(viewer.visitors) - before)
    visitor = viewer.visitors[max(viewer.visitors)]
    shows(driver, "6,000 points")
    until(lambda: visitor.client.camera.image_width > 0)
    return visitor


def on_screen(visitor, xyz):
    """Pixels (M, 2) of points in the window, and their depths (M,)."""
    camera = visitor.client.camera
    w, x, y, z = camera.wxyz
    there = Rotation.from_quat([x, y, z, w]).inv().apply(xyz.astype(float) - camera.position)
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    middle = np.array([camera.image_width, camera.image_height]) / 2
    return there[:, :2] / there[:, 2:] * focal + middle, there[:, 2]


def in_sight(visitor, view, rows, count=40):
    """Points among `rows` that nothing covers, neither nearer points nor the panel: rows, and their pixels."""
    place, depth = on_screen(visitor, view.frame.xyz)
    width, height = visitor.client.camera.image_width, visitor.client.camera.image_height
    found = []
    for row in rows:
        u, v = place[row]
        near = np.hypot(*(place - place[row]).T) < 10
        clear = (depth[near] > depth[row] - 0.05).all()
        if clear and 330 < u < width - 420 and 20 < v < height - 20:  # clear of viser's notice and of the panel
            found.append(row)
    return np.array(found[:count]), np.round(place[found[:count]]).astype(int)


def looks(image, places, colours):
    """Share of places around which a pixel has the colour that is due."""
    hits = []
    for (u, v), colour in zip(places, colours, strict=True):
        patch = image[v - 1 : v + 2, u - 1 : u + 2].reshape(-1, 3)
        hits.append((np.abs(patch - np.asarray(colour, int)).max(axis=1) < NEAR).any())
    return float(np.mean(hits))


def field(driver, label):
    """The text input behind a label."""
    return driver.find_element(
        By.XPATH, f"//*[normalize-space(text())='{label}']/following::input[@type='text' or not(@type)][1]"
    )


def type_query(driver, words):
    box = field(driver, "Query")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(words or Keys.BACKSPACE)


def without_images(driver, visitor):
    driver.find_element(By.TAG_NAME, "body").send_keys("i")
    until(lambda: not visitor.cameras.value)


def test_points_have_their_colours_and_the_right_ones_change(driver, page, store):
    without_images(driver, page)
    view = page.catalogue.view(page.ref)
    truth = view.truth
    bus, car = (truth.palette.names.index(n) for n in ("bus", "car"))
    rows, places = in_sight(page, view, np.flatnonzero(np.isin(truth.entry, (bus, car))))
    assert {bus, car} == set(truth.entry[rows]), "neither hidden nor outside the window"
    expected = paint(view, "truth")[rows]
    until(lambda: looks(pixels(driver), places, expected) > 0.8, lambda: keep(driver, "truth"))

    type_query(driver, "bus")
    shows(driver, "“bus”:", "points reach 0.50", "bus (")
    until(lambda: page.colour.value == "query")
    relevance = view.relevance(page.question, of_segments=True)
    asked = colouring.by_relevance(relevance, 0.5)[rows]
    assert (asked[truth.entry[rows] == car] == np.array(DIM)).all()
    lit = truth.entry[rows] == bus
    seen = (view.frame.views > 0)[rows]
    assert (asked[lit & seen] != np.array(DIM)).any(axis=1).all()
    until(lambda: looks(pixels(driver), places, asked) > 0.8, lambda: keep(driver, "query"))
    keep(driver, "query")


def test_a_click_tells_of_the_segment_with_its_crops(driver, page):
    shows(driver, "click a segment")
    view = page.catalogue.view(page.ref)
    seen = np.isin(view.segments.segment, np.flatnonzero(view.pooled[1]))
    truck = view.truth.palette.names.index("truck")
    rows, places = in_sight(page, view, np.flatnonzero(seen & (view.truth.entry == truck)))
    assert len(rows)
    window = ActionChains(driver)
    window.w3c_actions.pointer_action.move_to_location(int(places[0][0]), int(places[0][1]))
    window.w3c_actions.pointer_action.click()
    window.perform()
    until(lambda: page.selected is not None, lambda: text(driver))
    assert page.selected == view.segments.segment[rows[0]]
    shows(driver, "truck", "pooled CLIP", "m away", f"ovps query --like {page.ref.token}:objects:{page.selected}")
    until(lambda: looks(pixels(driver), places[:1], [(255, 255, 255)]) == 1)
    keep(driver, "segment")


def test_the_slider_the_keys_and_a_reload(driver, page, viewer):
    shows(driver, "frame 0 of synthetic-0000", "Camera images")
    thumb = driver.find_elements(By.CSS_SELECTOR, "[role=slider]")[0]
    thumb.send_keys(Keys.ARROW_RIGHT)
    shows(driver, "frame 1 of synthetic-0000")
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys("n")
    shows(driver, "frame 2 of synthetic-0000")
    body.send_keys("n")  # the last one stays
    body.send_keys("p")
    shows(driver, "frame 1 of synthetic-0000")
    body.send_keys("c")
    until(lambda: "truth, instances" in driver.execute_script("return JSON.stringify(localStorage)"))
    driver.refresh()
    shows(driver, "frame 1 of synthetic-0000")
    until(lambda: viewer.visitors[max(viewer.visitors)].colour.value == "truth, instances")


def test_a_number_beside_a_slider_that_is_none_of_its_values(driver, page, viewer):
    shows(driver, "frame 0 of synthetic-0000")
    for typed, shown in (("99", "frame 2 of"), ("-5", "frame 0 of"), ("1", "frame 1 of")):
        box = next(
            b for b in driver.find_elements(By.CSS_SELECTOR, "input.mantine-NumberInput-input") if b.is_enabled()
        )
        box.send_keys(Keys.CONTROL + "a")
        box.send_keys(typed + Keys.ENTER)
        shows(driver, shown)
    assert "Error" not in text(driver)
    page.number.value = -5
    shows(driver, "frame 0 of")
    page._step(1)  # as the keys do: on from the frame that is shown
    shows(driver, "frame 1 of")


def test_two_people_look_at_frames_of_their_own(driver, page, viewer):
    driver.switch_to.new_window("tab")
    try:
        driver.get(viewer.url)
        until(lambda: len(viewer.visitors) >= 2)
        shows(driver, "frame 0 of")
        driver.find_element(By.TAG_NAME, "body").send_keys("n")
        shows(driver, "frame 1 of")
        assert page.ref.index == 0
    finally:
        driver.close()  # in the middle of what may still be on its way
        driver.switch_to.window(driver.window_handles[0])
    until(lambda: len(viewer.visitors) == 1)
    driver.find_element(By.TAG_NAME, "body").send_keys("n")
    shows(driver, "frame 1 of")


def test_words_that_say_nothing_are_answered_in_the_page(driver, page, capfd):
    for words, answer in (
        ("автобус", "reads nothing"),
        ("zebra", "nothing here reaches 0.50"),
        ("x" * 1200, "a query of 1,200 characters"),
        ("<img src=x onerror=alert(1)>", "“<img src=x onerror=alert(1)>”"),
    ):
        type_query(driver, words)
        shows(driver, answer)
    type_query(driver, "")
    until(lambda: page.question is None)
    type_query(driver, "bus")
    shows(driver, "“bus”:")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_nothing_is_loaded_from_elsewhere_and_the_console_is_quiet(driver, page, viewer):
    shows(driver, "a <b>test</b>")  # a title is text
    asked = requests(driver)
    assert asked
    own = (viewer.url, viewer.url.replace("http", "ws"), "data:", "blob:", "chrome:", "about:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert complaints(driver) == []


def test_a_store_that_is_deleted_is_told_and_the_server_lives_on(driver, viewer, tmp_path, capfd):
    copy = write_synthetic_store(tmp_path / "zarr", frames=4, points=6000, subsets=("train",))
    gone = Store.open(copy)
    catalogue = Catalogue(gone, gone.frames, gone.vocabulary, None, frozenset(), images_of(gone))
    other = start_viewer(catalogue, None, host="127.0.0.1", port=0, title="gone")
    try:
        driver.get(other.url)
        shows(driver, "frame 0 of synthetic-0000")
        until(lambda: catalogue.has(gone.frames[2]))  # read ahead, as far as that goes
        shutil.rmtree(copy)
        slider = driver.find_elements(By.CSS_SELECTOR, "[role=slider]")[0]
        slider.send_keys(Keys.END)
        shows(driver, "the store has gone", "Put it back")
        driver.find_element(By.TAG_NAME, "body").send_keys("p")
        shows(driver, "frame 2 of synthetic-0000")  # still in memory
        assert "Traceback" not in "".join(capfd.readouterr())
        with pytest.raises(CacheError):
            catalogue.view(gone.frames[3])
    finally:
        other.stop()


@pytest.mark.parametrize("runs", [1, 2])
def test_the_file_works_from_the_disk_without_a_network(store, tmp_path, runs):
    words = Words(lambda: FakeText(store.vocabulary))
    questions = [words.ask(q, ("object", "things"))[0] for q in ("bus", "</script><b>")]
    read = images_of(store)
    catalogue = Catalogue(store, store.frames, store.vocabulary, None, frozenset(), read)
    shown = []
    for ref in store.frames[:2]:
        view = View(store.read(ref), store.taxonomy, store.vocabulary, frozenset({2, 3}), None)
        shown.append(Shown([view] * runs, catalogue.pictures(ref)))
    file = tmp_path / "view.html"
    file.write_text(render_offline("street & <i>co</i>", ["one", "two"][:runs], shown, questions), encoding="utf-8")
    with chromium(offline=True) as driver:
        driver.get(file.as_uri())
        shows(driver, "street & <i>co</i>", "frame 0 of synthetic-0000", "6,000 points", "truth")
        colours = {tuple(c) for c in paint(shown[0].views[0], "truth").tolist()}
        until(lambda: _share(pixels(driver), colours) > 0.002)
        Select(driver.find_element(By.ID, "colour")).select_by_visible_text("query")
        until(lambda: driver.find_element(By.ID, "queryRow").is_displayed())
        lit = {tuple(c) for c in colouring.by_relevance(np.linspace(0, 1, 64), 0.0).tolist()}
        until(lambda: _share(pixels(driver), lit) > 0.0005)
        asked = pixels(driver)
        assert _share(asked, {DIM}) > 0.002
        threshold = driver.find_element(By.ID, "threshold")
        driver.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('input'))", threshold)
        until(lambda: _share(pixels(driver), lit) < _share(asked, lit))
        canvas = driver.find_element(By.ID, "canvas")
        _click_where(driver, canvas, pixels(driver), DIM)
        until(lambda: "points; labelled" in driver.find_element(By.ID, "segment").text)
        keep(driver, f"offline-{runs}")
        driver.find_element(By.TAG_NAME, "body").send_keys("n")
        shows(driver, "frame 1 of synthetic-0000")
        assert complaints(driver) == []
        assert {url.split(":")[0] for url in requests(driver)} <= {"file", "data", "blob"}


def _share(image, colours):
    """Share of pixels with one of some colours."""
    known = {r << 16 | g << 8 | b for r, g, b in colours}
    return float(np.isin(image[..., 0] << 16 | image[..., 1] << 8 | image[..., 2], list(known)).mean())


def _click_where(driver, canvas, image, colour):
    """Click a pixel of a colour whose neighbours have it too."""
    width = canvas.size["width"]
    same = (image[:, :width] == np.array(colour)).all(axis=2)
    solid = same[1:-1, 1:-1] & same[:-2, 1:-1] & same[2:, 1:-1] & same[1:-1, :-2] & same[1:-1, 2:]
    row, column = np.argwhere(solid)[len(np.argwhere(solid)) // 2] + 1
    middle = (canvas.size["width"] // 2, canvas.size["height"] // 2)
    ActionChains(driver).move_to_element_with_offset(
        canvas, int(column) - middle[0], int(row) - middle[1]
    ).click().perform()
