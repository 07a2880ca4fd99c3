"""The console's pages in headless Chromium: they obey their own policy, fit their window and refresh."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from tests.console.conftest import node_folder as node_folder  # a fixture
from tests.support.chromium import Chromium
from tests.support.console import OPERATOR, PASSWORD, console_site
from tests.support.offered import copied_case
from tests.support.ports import free_port, wait_until
from uair_node.cases import lifecycle
from uair_node.cases.tables import Case
from uair_node.console.app import make_app
from uair_node.context import Context

pytestmark = pytest.mark.viewer

PAGES = (
    "/cases", "/cases/1", "/cases/1/patient", "/cases/1/accept", "/queues", "/destinations", "/refused",
    "/checks", "/configuration", "/access",
)  # fmt: skip
WIDTHS = {"wide": (1440, 900), "narrow": (390, 844)}


@dataclass
class Browser:
    """A browser that is logged in."""

    chromium: Chromium
    url: str
    context: Context

    def open(self, path: str) -> None:
        """Open a page and wait until it is whole."""
        self.chromium.open(self.url + path)
        where = f"location.href === {self.url + path!r} && document.readyState === 'complete'"
        self.chromium.wait_for(where, f"the page {path}", 30.0)

    def look(self, width: str, scheme: str) -> None:
        """Choose window and colour scheme."""
        across, down = WIDTHS[width]
        self.chromium.command(
            "Emulation.setDeviceMetricsOverride", width=across, height=down, deviceScaleFactor=1, mobile=False
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.chromium.command("Emulation.setEmulatedMedia", features=[feature])


@pytest.fixture(scope="module")
def browser(node_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose operator logged in by the form."""
    with copied_case(node_folder, tmp_path_factory.mktemp("console") / "node") as case:
        site = console_site(case.context)
        port = free_port()
        options = uvicorn.Config(make_app(site.desk), port=port, log_config=None, access_log=False)
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_until(lambda: server.started, "the console", 30.0)
        chromium = Chromium(tmp_path_factory.mktemp("chromium"))
        try:
            page = Browser(chromium, f"http://127.0.0.1:{port}", case.context)
            page.open("/login")
            chromium.evaluate(
                f"document.querySelector('#name').value = {OPERATOR!r};"
                f"document.querySelector('#password').value = {PASSWORD!r};"
                "document.querySelector('main form').submit()"
            )
            chromium.wait_for("location.pathname === '/cases'", "the login")
            chromium.command("Log.enable")
            yield page
        finally:
            chromium.close()
            server.should_exit = True
            thread.join(10.0)


_CONTRAST = """
(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const paper = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('.hidden, .skip, option')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(paper(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([e.tagName, e.className, e.textContent.trim().slice(0, 30), ratio]);
  }
  return poor;
})()
"""
"""Texts whose contrast is below 4.5 : 1 (WCAG 2.2, 1.4.3)."""
_STRUCTURE = """
(() => {
  const wrong = [];
  for (const name of ['header', 'main', 'footer', 'h1'])
    if (document.querySelectorAll(name).length !== 1) wrong.push(`not one ${name}`);
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, meter'))
    if (!e.labels.length) wrong.push(`no label: ${e.id}`);
  for (const e of document.querySelectorAll('a, button'))
    if (!(e.textContent.trim() || e.getAttribute('aria-label'))) wrong.push('a link without a name');
  for (const e of document.querySelectorAll('img')) if (!e.alt) wrong.push('a picture without words');
  for (const e of document.querySelectorAll('table')) {
    if (!e.caption) wrong.push('a table without caption');
    if (!e.querySelector('th')) wrong.push('a table without headers');
  }
  for (const e of document.querySelectorAll('.state'))
    if (!/[a-z]{2,}/i.test(e.textContent)) wrong.push('a state by colour alone');
  return wrong;
})()
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_contrast_and_structure(browser: Browser, scheme: str, width: str) -> None:
    browser.look(width, scheme)
    for path in PAGES:
        browser.open(path)
        across = browser.chromium.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert across <= 0, f"{path} is {across} px too wide"
        assert browser.chromium.evaluate(_CONTRAST) == [], path
        assert browser.chromium.evaluate(_STRUCTURE) == [], path
        assert browser.chromium.complaints == [], path


def test_nothing_runs_that_a_sender_wrote(browser: Browser) -> None:
    """A patient's name with markup, and a script that the policy must stop even if it got into a page."""
    browser.open("/cases/1/patient")
    assert browser.chromium.evaluate("document.querySelectorAll('main img, main script').length") == 0
    browser.chromium.evaluate(
        "{ const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s) }"
    )
    assert browser.chromium.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in one for one in browser.chromium.complaints)


def test_deeds_are_confirmed_and_told(browser: Browser) -> None:
    """With the headers that a browser really sends with a form."""
    page = browser.chromium
    browser.look("narrow", "light")
    browser.open("/cases/1")
    for name, said in (("none-fits", "Round 1 of case 1 is answered"), ("cancel", "Case 1 is cancelled")):
        page.evaluate(f"document.querySelector('.actions a[href$={name}]').click()")
        page.wait_for(f"location.pathname.endsWith('{name}')", "the question")
        page.wait_for("document.querySelector('main form button') !== null", "its button")
        page.evaluate("document.querySelector('main form button').click()")
        page.wait_for("document.querySelector('.notice.good') !== null", "the answer")
        assert said in page.evaluate("document.querySelector('.notice.good').textContent")
    assert "FAILED" in page.evaluate("document.querySelector('.heading').textContent")


def test_a_case_page_refreshes_itself_unless_somebody_is_in_it(browser: Browser) -> None:
    browser.look("wide", "light")
    browser.open("/cases/1")
    assert "EXPIRED" not in browser.chromium.evaluate("document.querySelector('#live').textContent")
    with browser.context.database.transaction() as session:
        lifecycle.expire(session, session.get_one(Case, 1), actor="test", reason="closed")
    refresh = (
        "{ htmx.ajax('GET', location.pathname + '?refresh=1',"
        " {source: '#live', target: '#live', select: '#live', swap: 'outerHTML'}); null }"
    )
    shows = "document.querySelector('#live').textContent.includes('EXPIRED')"
    browser.chromium.evaluate("document.querySelector('#live a').focus()")
    browser.chromium.evaluate(refresh)
    assert not browser.chromium.evaluate(f"new Promise((r) => setTimeout(() => r({shows}), 300))")
    browser.chromium.evaluate("document.activeElement.blur()")
    browser.chromium.evaluate("document.querySelector('.pictures').kept = true")
    browser.chromium.evaluate(refresh)
    browser.chromium.wait_for(shows, "the refresh")
    assert browser.chromium.evaluate("document.querySelector('.pictures').kept"), "not fetched again"


def test_reading_works_without_javascript(browser: Browser) -> None:
    browser.chromium.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.chromium.open(browser.url + "/cases?search=ACC-1")
        text = "document.body ? document.body.textContent : ''"
        browser.chromium.wait_for(f"({text}).includes('1 case found')", "the list")
        assert browser.chromium.evaluate("document.querySelectorAll('tbody tr').length") == 1
    finally:
        browser.chromium.command("Emulation.setScriptExecutionDisabled", value=False)
