"""A headless Chromium that is logged in at a running console, and rules for the console's pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tests.support.chromium import Chromium
from tests.support.console import OPERATOR, PASSWORD, console_site
from tests.support.ports import free_port, wait_until
from uair_node.console.app import make_app
from uair_node.context import Context

WIDTHS = {"wide": (1440, 900), "narrow": (390, 844)}


@dataclass
class Browser:
    """A browser that is logged in."""

    chromium: Chromium
    url: str
    context: Context

    def open(self, path: str) -> None:
        """Open a page and wait until it is complete."""
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

    def press(self, key: str, times: int = 1) -> None:
        """Press a key where the focus is."""
        for _ in range(times):
            self.chromium.press(key)


@contextmanager
def console_browser(context: Context, folder: Path) -> Iterator[Browser]:
    """Serve a node's console and log an operator in by the form; `folder` is the browser's own."""
    site = console_site(context)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(make_app(site.console), port=port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the console", 30.0)
    chromium = Chromium(folder)
    try:
        page = Browser(chromium, f"http://127.0.0.1:{port}", context)
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


CONTRAST = """
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
STRUCTURE = """
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
