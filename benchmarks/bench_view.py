"""The viewer: a new frame against the network alone; turning points against a bare viser page of as many, the limit.

Seconds of CPU say what a busy machine cannot blur: of this process for a frame, of the browser for a drawn one.
Chromium draws with SwiftShader, on the CPU: with a graphics card other things count.

python -m benchmarks.bench_view --cache zarr/driveworld --run runs/driveworld --dataset-root data/driveworld
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import viser
from selenium import webdriver

from ovps.viewer.answers import answer_of
from ovps.viewer.catalogue import Catalogue
from ovps.viewer.server import Visitor, start_viewer
from ovps.viewer.view import paint
from pipelines.look import open_catalogue
from pipelines.options import ViewOptions
from pipelines.view import write_html
from tests.helpers.browser import chromium, shows, until

SIZES = ((1280, 720), (640, 400))
FRAMES, SECONDS = 6, 6

_TURN = """
const [seconds, done] = arguments;
const canvas = document.querySelector("canvas[data-engine]") || document.querySelector("canvas");
const middle = canvas.getBoundingClientRect().height / 2, begin = performance.now();
const send = (kind, to, x) => to.dispatchEvent(new PointerEvent(kind, {
  pointerId: 1, pointerType: "mouse", isPrimary: true, bubbles: true, clientX: x, clientY: middle,
  button: kind === "pointermove" ? -1 : 0, buttons: kind === "pointerup" ? 0 : 1,
}));
canvas.setPointerCapture = () => {};
let frames = 0, x = 100;
send("pointerdown", canvas, x);
requestAnimationFrame(function step() {
  frames += 1; x += 3; send("pointermove", canvas, x);
  const passed = (performance.now() - begin) / 1000;
  if (passed < seconds) { requestAnimationFrame(step); return; }
  send("pointerup", canvas, x); done([frames, passed]);
});
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--dataset-root", type=Path)
    options = ViewOptions(**vars(parser.parse_args()))
    catalogue = open_catalogue(options, options.dataset_root)
    viewer = start_viewer(catalogue, None, host="127.0.0.1", port=0, title="bench")
    try:
        with chromium() as browser, tempfile.TemporaryDirectory() as folder:
            browser.set_script_timeout(300)
            browser.get(viewer.url)
            shows(browser, " points, ")
            visitor = next(iter(viewer.visitors.values()))
            _frames(visitor, catalogue)
            file = Path(folder, "view.html")
            write_html(ViewOptions(**vars(options) | {"frames": ("0",)}), file)
            _turning(browser, visitor, viewer.url, file.as_uri())
    finally:
        viewer.stop()


def _frames(visitor: Visitor, catalogue: Catalogue) -> None:
    """Print what a frame costs that was not read ahead, and one that was."""
    visitor._read_ahead = lambda ref, back: None  # type: ignore[method-assign]
    session, refs = catalogue.session, catalogue.scenes[visitor.scene.value][1 : FRAMES + 1]

    def alone(number: int) -> None:
        frame = catalogue.store.read(refs[number - 1])
        if session:
            answer_of(session, frame)

    def step(number: int) -> None:
        visitor.number.value = number
        until(lambda: visitor.ref == refs[number - 1])
        with visitor._turn:  # its images are drawn
            pass

    print(
        f"a frame of {len(catalogue.view(refs[0]).frame.xyz):,} points, seconds of CPU of the server and by the clock"
    )
    catalogue.forget()
    for name, action in (("reading and the network alone", alone), ("a new frame", step), ("one that is kept", step)):
        times = [_seconds(action, number) for number in range(1, len(refs) + 1)]
        print(f"{name:32} {median(cpu for cpu, _ in times):6.3f} {median(wall for _, wall in times):6.2f}")


def _turning(browser: webdriver.Chrome, visitor: Visitor, live: str, file: str) -> None:
    """Print frames a second while the points are turned."""
    assert visitor.ref is not None
    view = visitor.catalogue.view(visitor.ref)
    bare = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    bare.initial_camera.position, bare.initial_camera.look_at = (-26, 0, 19.0), (5, 0, 0.0)
    bare.scene.add_point_cloud("/points", view.frame.xyz, paint(view, visitor.catalogue.colourings[0]), point_size=0.07)
    empty = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    pages = (
        ("viser, no points", f"http://127.0.0.1:{empty.get_port()}/?fixedDpr=1", True),
        ("viser, the points (reference)", f"http://127.0.0.1:{bare.get_port()}/?fixedDpr=1", True),
        ("ovps view, without images", f"{live}/?fixedDpr=1", False),
        ("ovps view, with images", f"{live}/?fixedDpr=1", True),
        ("ovps view --html", file, True),
    )
    for width, height in SIZES:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        print(f"turning, {width} x {height}: frames a second, and milliseconds of the browser's CPU a frame")
        for name, url, images in pages:
            browser.get(url)
            time.sleep(4)
            if url.startswith(live) and not images:
                browser.find_element("tag name", "body").send_keys("i")
                time.sleep(1)
            browser.execute_async_script(_TURN, 1)
            before = _cpu_of(browser)
            frames, seconds = browser.execute_async_script(_TURN, SECONDS)
            print(f"{name:32} {frames / seconds:6.1f} {1000 * (_cpu_of(browser) - before) / frames:6.0f}", flush=True)
    bare.stop()
    empty.stop()


def _cpu_of(browser: webdriver.Chrome) -> float:
    """Seconds of CPU that all processes of a browser have had."""
    assert browser.service.process is not None
    total = 0.0
    for process in psutil.Process(browser.service.process.pid).children(recursive=True):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _seconds(action: Callable[[int], object], number: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    action(number)
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
