"""The page of a segmentation in headless Chromium: turned, cut and chosen with nothing but keys."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_config import codes
from tests.console.conftest import studies_folder as studies_folder  # a fixture
from tests.support.console_browser import CONTRAST, STRUCTURE, WIDTHS, Browser, console_browser
from tests.support.studies import node_in

pytestmark = pytest.mark.viewer

PAGE = "/cases/2/segmentation"
STATUS = "document.querySelector('#solid-status').textContent"
_EDGE = 6  # pixels where the focus is marked
SLICE = "document.querySelector('#slice-picture img').getAttribute('src')"


@pytest.fixture(scope="module")
def browser(studies_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with (
        node_in(studies_folder) as context,
        console_browser(context, tmp_path_factory.mktemp("chromium")) as page,
    ):
        yield page


def _open(browser: Browser, query: str = "") -> None:
    """Open the page and wait until the solid is drawn."""
    browser.open(PAGE + query)
    browser.chromium.wait_for(f"{STATUS}.startsWith('Seen from')", "the solid")


def _stage(browser: Browser) -> np.ndarray:
    """The pixels of the 3-D view, `(Y, X, 3)`, once they are painted."""
    box = browser.chromium.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {"
        " const r = document.querySelector('#solid').getBoundingClientRect();"
        " done({x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}) })))"
    )
    data = browser.chromium.command(
        "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**box, "scale": 1}
    )["data"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)
    return picture[_EDGE:-_EDGE, _EDGE:-_EDGE]


def _changed(first: np.ndarray, other: np.ndarray) -> float:
    return float((abs(first - other) > 30).any(axis=-1).mean())


def _of_hue(picture: np.ndarray, colour: codes.Colour) -> int:
    """Count the pixels that have a colour's hue."""
    wanted = np.array(colour.rgb) / max(colour.rgb)
    bright = picture.max(axis=-1)
    hue = picture / np.maximum(bright, 1)[..., None]
    return int(((abs(hue - wanted) < 0.2).all(axis=-1) & (bright > 60)).sum())


def test_arrows_turn_the_solid_and_signs_zoom(browser: Browser) -> None:
    browser.look("wide", "light")
    _open(browser)
    browser.chromium.evaluate("document.querySelector('#solid').focus()")
    assert browser.chromium.evaluate(STATUS) == "Seen from the front."
    front = _stage(browser)
    assert (front.max(axis=-1) > 40).mean() > 0.1, "something is drawn"
    assert _of_hue(front, codes.lesion_colour(1)) > 100
    seen = [front]
    for key, times, words in (
        ("ArrowRight", 9, "Seen from the right."),
        ("ArrowDown", 3, "Seen from the right, 30° from above."),
        ("Home", 1, "Seen from the front."),
    ):
        browser.press(key, times)
        browser.chromium.wait_for(f"{STATUS} === {words!r}", words, 20.0)
        seen.append(_stage(browser))
    assert all(_changed(*pair) > 0.02 for pair in pairwise(seen))
    assert _changed(seen[-1], front) < 0.01, "the same again"
    browser.press("+", 3)
    nearer = _stage(browser)
    assert _of_hue(nearer, codes.lesion_colour(1)) > 1.5 * _of_hue(front, codes.lesion_colour(1))
    browser.press("-", 3)
    assert _changed(_stage(browser), front) < 0.01
    assert browser.chromium.complaints == []


def test_up_and_down_go_through_the_slices(browser: Browser) -> None:
    browser.look("wide", "dark")
    _open(browser, "?slice=12")
    page = browser.chromium
    before = _stage(browser)
    page.evaluate("document.querySelector('#slice').focus()")
    browser.press("ArrowUp", 3)
    page.wait_for(f"{SLICE} === '/cases/2/rounds/2/0/slices/15.jpg'", "three slices up", 20.0)
    assert page.evaluate("document.querySelector('#slice-picture img').naturalWidth") == 640
    browser.press("ArrowDown")
    page.wait_for(f"{SLICE}.endsWith('/14.jpg')", "one down", 20.0)
    assert "slice=14" in page.evaluate("location.search")
    assert (abs(_stage(browser) - before) > 60).any(), "the solid shows where the slice lies"
    assert page.complaints == []


def test_digits_choose_what_is_shown_and_exported(browser: Browser) -> None:
    browser.look("wide", "light")
    _open(browser)
    accepted = _stage(browser)
    page = browser.chromium
    page.evaluate("document.querySelector('summary').focus()")
    browser.press("4")
    page.evaluate("document.querySelector('#solid').focus()")
    assert page.evaluate("document.querySelector('[aria-current][data-k]').dataset.k") == "0", "elsewhere"
    browser.press("4")
    page.wait_for("document.querySelector('#solid').ariaLabel.includes('candidate 4')", "candidate 4", 20.0)
    page.wait_for(f"{SLICE}.includes('/rounds/2/4/')", "its slice", 20.0)
    assert page.evaluate("document.querySelector('[aria-current][data-k]').dataset.k") == "4"
    links = page.evaluate(
        "[...document.querySelectorAll('a[data-export]')].map((a) => a.getAttribute('href'))"
    )
    assert links == [f"/cases/2/rounds/2/4/export/{form}" for form in ("nifti", "stl", "glb", "dicom")]
    smaller = _stage(browser)
    assert _of_hue(smaller, codes.lesion_colour(1)) < 0.8 * _of_hue(accepted, codes.lesion_colour(1))
    page.evaluate("document.querySelector('input[data-value=\"2\"]').click()")
    assert _of_hue(_stage(browser), codes.lesion_colour(1)) < 30, "hidden by its box"
    assert page.complaints == []


def test_everything_is_reached_by_the_tab_key(browser: Browser) -> None:
    browser.look("wide", "light")
    _open(browser)
    browser.chromium.evaluate("document.querySelector('#view a').focus()")
    wanted, met = {"solid", "slice", "export"}, set()
    for _ in range(60):
        browser.press("Tab")
        met.add(
            browser.chromium.evaluate(
                "document.activeElement.id || document.activeElement.closest('section')?.id"
            )
        )
    assert wanted <= met


def test_less_motion_is_honoured(browser: Browser) -> None:
    _open(browser)
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.chromium.command("Emulation.setEmulatedMedia", features=[feature])
    said = browser.chromium.evaluate(
        "new Promise((done) => { document.querySelector('[data-view=back]').click();"
        f" requestAnimationFrame(() => requestAnimationFrame(() => done({STATUS}))) }})"
    )
    assert said == "Seen from the back."


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_contrasts_and_is_structured(browser: Browser, scheme: str, width: str) -> None:
    browser.look(width, scheme)
    _open(browser)
    browser.chromium.evaluate("document.querySelector('details').open = true")
    across = browser.chromium.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert across <= 0, f"{across} px too wide"
    assert browser.chromium.evaluate(CONTRAST) == []
    assert browser.chromium.evaluate(STRUCTURE) == []
    assert browser.chromium.complaints == []


def test_without_webgl_a_still_is_shown(browser: Browser) -> None:
    page = browser.chromium
    script = page.command(
        "Page.addScriptToEvaluateOnNewDocument",
        source="HTMLCanvasElement.prototype.getContext = () => null",
    )["identifier"]
    try:
        browser.open(PAGE)
        page.wait_for(f"{STATUS}.includes('no WebGL')", "the sentence", 20.0)
        page.evaluate("document.querySelector('#solid').focus()")
        browser.press("3")
        still = "document.querySelector('#solid img')"
        page.wait_for(
            f"{still}.src.endsWith('/2/3/solid.jpg') && {still}.naturalWidth > 50", "the still", 10.0
        )
        assert page.complaints == []
    finally:
        page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_without_javascript_links_choose(browser: Browser) -> None:
    page = browser.chromium
    page.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(browser.url + f"{PAGE}?round=1&candidate=3&slice=9")
        loaded = (
            "[...document.querySelectorAll('.stage img')].every((i) => i.complete && i.naturalWidth > 50)"
        )
        page.wait_for(f"document.querySelectorAll('.stage img').length === 2 && {loaded}", "two stills", 20.0)
        assert page.evaluate(SLICE) == "/cases/2/rounds/1/3/slices/9.jpg"
        assert "With JavaScript it can be turned" in page.evaluate(STATUS)
    finally:
        page.command("Emulation.setScriptExecutionDisabled", value=False)
