"""The OHIF viewer and a private Orthanc behind one origin, and a reader's actions on the viewer's page.

This module has the small web server in between, and the places to click. OHIF is the published build (npm
``@ohif/app``, folder ``dist``) as ``scripts/install-peers.sh`` unpacks it. Its only change is the
configuration file that every site writes for itself.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.support.chromium import Chromium
from tests.support.ports import wait_until
from tests.support.server import absent, peers_folder

DICOMWEB = "/dicom-web"
_SAVE_TRIES = 4
_START_S = 180.0  # the viewer is compiled by the browser, while others share the processors
_POSITION = r"document.body?.innerText.match(/\((\d+)\/\d+\)/)"
_ENTRY = "[data-cy=study-browser-thumbnail-no-image]"
_CONFIGURATION = "/app-config.js"
_PASSED_ON = ("Accept", "Content-Type", "Host")
_PASSED_BACK = ("Content-Type", "Content-Encoding")


def need_ohif() -> Path:
    """Return the folder of the built viewer, or end the test by `absent`."""
    folder = peers_folder() / "ohif" / "package" / "dist"
    if not (folder / "index.html").is_file():
        absent("not installed: OHIF (npm package @ohif/app)")
    return folder


class Ohif:
    """OHIF on a free loopback port, with `archive_url`'s DICOMweb behind the same origin.

    Parameters
    ----------
    archive_url
        Root of the archive, below which ``/dicom-web`` answers.

    Attributes
    ----------
    url
        Origin of viewer and DICOMweb, no slash at its end.
    """

    def __init__(self, archive_url: str) -> None:
        handler = partial(_Handler, archive=urlsplit(archive_url).netloc, directory=str(need_ohif()))
        self._server = _QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def study_url(self, study_instance_uid: str, mode: str = "viewer") -> str:
        """Return the address that opens a study, in the basic viewer or in mode ``segmentation``."""
        return f"{self.url}/{mode}?{urlencode({'StudyInstanceUIDs': study_instance_uid})}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True)
class Candidate:
    """A segmentation series in the viewer's list: its name and the middle of its entry in CSS pixels."""

    name: str
    x: float
    y: float


class OhifPage:
    """The viewer's page as a reader uses it: by mouse and wheel, and by its visible content."""

    def __init__(self, browser: Chromium, ohif: Ohif) -> None:
        self.browser = browser
        self._ohif = ohif
        self._introduced = False

    def open_study(self, study_instance_uid: str, mode: str = "viewer") -> None:
        """Open a study again and return when its first image is drawn."""
        self.leave()
        self.browser.open(self._ohif.study_url(study_instance_uid, mode))
        self.browser.wait_for(
            f"{_POSITION} && document.querySelector('canvas') !== null",
            "OHIF to show the study",
            timeout_s=_START_S,
        )
        if mode == "viewer":
            self._end_tour()

    def leave(self) -> None:
        """Show an empty page, so that the viewer draws nothing while rounds are computed."""
        self.browser.open("about:blank")

    def candidates(self, count: int = 4) -> list[Candidate]:
        """Wait until the study list has `count` segmentations, and return them in the order of the list."""
        entries = f"[...document.querySelectorAll('{_ENTRY}')]"
        self.browser.wait_for(f"{entries}.length >= {count}", f"{count} segmentations in the list")
        found = self.browser.evaluate(
            f"""{entries}.map(entry => {{
                const box = entry.getBoundingClientRect();
                const name = entry.querySelector('[data-cy=series-description-label]').innerText.trim();
                return [name, box.x + box.width / 2, box.y + box.height / 2];
            }})"""
        )
        return [Candidate(*entry) for entry in found]

    def load(self, name: str) -> None:
        """Double-click a segmentation and confirm the question whether to open it."""
        self.candidates()
        self.browser.evaluate(
            f"[...document.querySelectorAll('{_ENTRY} [data-cy=series-description-label]')]"
            f".find(one => one.innerText.trim() === {json.dumps(name)}).scrollIntoView({{block: 'center'}})"
        )
        (candidate,) = [candidate for candidate in self.candidates() if candidate.name == name]
        self.browser.click(candidate.x, candidate.y, count=2)
        self._press("Yes")
        self.browser.wait_for(
            "!/Do you want to open this/.test(document.body.innerText)", "the question to be gone"
        )

    def scroll_to(self, position: int) -> None:
        """Turn the wheel over the image until the slice at `position`, 1-based from the top, is shown."""
        left, top, width, height = self.canvas()
        x, y = left + width / 2, top + height / 2
        wait_until(lambda: self._turned(x, y, position), f"slice {position} to be shown")

    def position(self) -> int:
        """Return the 1-based position, from the top, of the slice that is shown."""
        found = self.browser.wait_for(f"{_POSITION}?.[1]", "the slice's position")
        return int(found)

    def paint(self, points: Sequence[tuple[float, float]]) -> None:
        """Paint the active segment with the brush along points in pixels (segmentation mode)."""
        self._click_on("document.querySelector('[data-cy=Brush-btn]')", "the brush")
        self.browser.drag(points)

    def store_segmentation(self, name: str | None = None) -> None:
        """Store the active segmentation in the archive by the viewer's menu (segmentation mode).

        `name` becomes the Series Description of a new series; None keeps the viewer's proposal.
        """
        self._click_on("document.querySelector('[data-cy^=segmentation-collapsed-more-btn]')", "the menu")
        for words in ("Export", "DICOM SEG"):
            self._click_on(_having("[role=menuitem]", words), f"the menu's entry {words}")
        if name is not None:
            self._name_new_series(name)
        self._save()

    def measure(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a length between two points in pixels, and let the viewer track it (basic viewer)."""
        self._click_on("document.querySelector('[data-cy=Length-btn]')", "the tool for lengths")
        self.browser.wait_for(
            "document.querySelector('[data-tool=Length]')?.dataset.active === 'true'", "the tool to be active"
        )
        self.browser.drag([start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), end])
        self.browser.wait_for("services.measurementService.getMeasurements().length > 0", "the length")
        self._press("Yes")  # track measurements for this series

    def store_report(self, name: str) -> None:
        """Store the tracked measurements as a report with this Series Description (basic viewer)."""
        create = f"{_having('button', 'Create SR')} !== undefined"
        if not self.browser.evaluate(create):
            self._click_on("document.querySelector('[data-cy=trackedMeasurements-btn]')", "the panel")
        self._press("Create SR")
        self._name_new_series(name)
        self._save()

    def _name_new_series(self, name: str) -> None:
        """Choose a new series in the dialog for storing, and type its name."""
        self._click_on("document.querySelector('[role=dialog] [role=combobox]')", "the list of series")
        entry = _having("[role=option]", "Create new series")
        # By keys, since a long list has this entry, its first, above the page's edge.
        self.browser.wait_for(f"{entry} !== undefined", "the list of series to open")
        self.browser.press("Home")
        self.browser.wait_for(f"document.activeElement === {entry}", "the entry for a new series")
        self.browser.press("Enter")
        self.browser.wait_for(f"{entry} === undefined", "the list of series to close")
        field = "document.querySelector('[role=dialog] input:enabled')"
        self._click_on(field, "the field for the name")
        self.browser.evaluate(f"{field}.select()")
        self.browser.command("Input.insertText", text=name)

    def _save(self) -> None:
        """Press Save until the dialog closes, since a list that still fades out can catch a click."""
        for _ in range(_SAVE_TRIES):
            self._press("Save")
            with suppress(TimeoutError):
                self.browser.wait_for("!document.querySelector('[role=dialog]')", "the dialog to close", 15)
                return
        raise TimeoutError("the dialog of storing stayed open")

    def canvas(self) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the image area in pixels."""
        box = self.browser.evaluate(
            """(() => {
                const box = document.querySelector('[data-viewportid] canvas').getBoundingClientRect();
                return [box.x, box.y, box.width, box.height];
            })()"""
        )
        left, top, width, height = (round(value) for value in box)
        return left, top, width, height

    def side_marker(self) -> str:
        """Return the letter at the image's left edge, which names a direction of the patient."""
        letter: str = self.browser.evaluate(
            "document.querySelector('.left-mid.orientation-marker').innerText.trim()"
        )
        return letter

    def steady_picture(self) -> bytes:
        """Return the page as PNG when two pictures in a row are the same."""
        pictures = [self.browser.screenshot()]

        def steady() -> bool:
            pictures.append(self.browser.screenshot())
            return pictures[-1] == pictures[-2]

        wait_until(steady, "the picture to stand still")
        return pictures[-1]

    def _turned(self, x: float, y: float, position: int) -> bool:
        """Turn the wheel by the missing steps; return True if the slice was shown already."""
        missing = position - self.position()
        if missing:
            self.browser.wheel(x, y, missing)
        return not missing

    def _end_tour(self) -> None:
        """Close the introduction for new users, which covers the page."""
        if not self._introduced:
            self._press("Skip all")
            self._introduced = True

    def _press(self, words: str) -> None:
        self._click_on(_having("button", words), f"the button {words}")

    def _click_on(self, element: str, what: str) -> None:
        """Click in the middle of an element (a JavaScript expression) when it is there and does not move."""
        middle = (
            f"(() => {{ const box = {element}?.getBoundingClientRect();"
            " return box && [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        places = [self.browser.wait_for(middle, what)]

        def still() -> bool:
            places.append(self.browser.wait_for(middle, what))
            return bool(places[-1] == places[-2])

        wait_until(still, f"{what} to stand still")
        self.browser.click(*places[-1])


def _having(selector: str, words: str) -> str:
    """Return the JavaScript expression of the first element whose text is exactly `words`."""
    return f"[...document.querySelectorAll('{selector}')].find(one => one.innerText.trim() === '{words}')"


def _configuration() -> bytes:
    """Return the viewer's configuration: one data source, this origin's DICOMweb."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "archive",
        "configuration": {
            "friendlyName": "Archive",
            "name": "archive",
            "qidoRoot": DICOMWEB,
            "wadoRoot": DICOMWEB,
            "wadoUriRoot": DICOMWEB,
            "qidoSupportsIncludeField": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    settings = {
        "name": "tests",
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showCPUFallbackMessage": False,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "archive",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(settings)};".encode()


class _QuietServer(ThreadingHTTPServer):
    """A server that logs no error about connections that the browser drops when it leaves a page."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    """Serves the viewer's files and passes DICOMweb requests on to the archive."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, archive: str, directory: str) -> None:
        self._archive = archive
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(f"{DICOMWEB}/"):
            self._hand_on()
        elif path == _CONFIGURATION:
            self._answer(200, {"Content-Type": "text/javascript"}, _configuration())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"  # the viewer's own routes
            super().do_GET()

    def do_POST(self) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        connection = http.client.HTTPConnection(self._archive, timeout=60.0)
        try:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        back = {name: value for name, value in answer.getheaders() if name in _PASSED_BACK}
        self._answer(answer.status, back, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log no requests, since they fill a test's output."""
