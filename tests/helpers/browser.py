"""Chromium without a window, driven by selenium; WebGL is SwiftShader's, on the CPU."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

NEEDED = "OVPS_BROWSER"  # set: no browser is a failure, as in CI
SIZE = (1300, 900)
PATIENCE_S = 90


@contextmanager
def chromium(offline: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser of its own profile; without one the test says so.

    Args:
        offline: no network at all.
    """
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        message = "no Chromium here: apt-get install chromium chromium-driver"
        pytest.fail(message) if os.environ.get(NEEDED) else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser)
    for flag in (
        "--headless=new",
        "--no-sandbox",  # root in a container
        "--disable-dev-shm-usage",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--force-device-scale-factor=1",
        f"--window-size={SIZE[0]},{SIZE[1]}",
        "--disable-background-networking",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        if offline:
            made.set_network_conditions(offline=True, latency=0, throughput=0)
        yield made
    finally:
        made.quit()


def text(driver: webdriver.Chrome) -> str:
    """All text of the page."""
    return str(driver.execute_script("return document.body ? document.body.innerText : ''"))


def until(what: Callable[[], object], message: Callable[[], object] = lambda: "") -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: it does not.
    """
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, message()
        time.sleep(0.1)


def shows(driver: webdriver.Chrome, *parts: str) -> None:
    """Wait for texts in the page."""
    until(lambda: all(part in text(driver) for part in parts), lambda: f"{parts} not in {text(driver)}")


def pixels(driver: webdriver.Chrome) -> NDArray[np.int64]:
    """What the window shows, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")).astype(np.int64)


def requests(driver: webdriver.Chrome) -> set[str]:
    """Addresses of everything that the page asked for."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = (e["params"] for e in events if e["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"))
    return {str(p["request"]["url"] if "request" in p else p["url"]) for p in sent}


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Errors in the console."""
    return [str(entry["message"]) for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def keep(driver: webdriver.Chrome, name: str) -> None:
    """Save a screenshot to look at, if OVPS_SCREENSHOTS names a folder."""
    if folder := os.environ.get("OVPS_SCREENSHOTS"):
        Path(folder, f"{name}.png").write_bytes(driver.get_screenshot_as_png())
