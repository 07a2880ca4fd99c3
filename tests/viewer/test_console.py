"""The console's pages in headless Chromium: they obey their own policy, fit their window and refresh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.conftest import node_folder as node_folder  # a fixture
from tests.support.console_browser import CONTRAST, STRUCTURE, WIDTHS, Browser, console_browser
from tests.support.offered import copied_case
from uair_node.cases import lifecycle
from uair_node.cases.tables import Case

pytestmark = pytest.mark.viewer

PAGES = (
    "/cases", "/cases/1", "/cases/1/patient", "/cases/1/accept", "/cases/1/findings", "/cases/1/add-lesion",
    "/cases/several/expire?case-1=on", "/queues", "/destinations",
    "/refused", "/checks", "/configuration", "/access",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(node_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose operator logged in by the form."""
    with (
        copied_case(node_folder, tmp_path_factory.mktemp("console") / "node") as case,
        console_browser(case.context, tmp_path_factory.mktemp("chromium")) as page,
    ):
        yield page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_contrast_and_structure(browser: Browser, scheme: str, width: str) -> None:
    browser.look(width, scheme)
    for path in PAGES:
        browser.open(path)
        across = browser.chromium.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert across <= 0, f"{path} is {across} px too wide"
        assert browser.chromium.evaluate(CONTRAST) == [], path
        assert browser.chromium.evaluate(STRUCTURE) == [], path
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
    assert any("Content Security Policy" in complaint for complaint in browser.chromium.complaints)


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
