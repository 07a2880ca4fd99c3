"""Write the picture of the console's page of a segmentation to docs/images.

The page shows a phantom that the engine segmented, after two rounds and the acceptance. `make picture` runs
this script. It needs Chromium and takes some minutes.
"""

from __future__ import annotations

import base64
import io
import tempfile
import time
from pathlib import Path

from PIL import Image

from dicom_config.model import Verb
from tests.support.console_browser import WIDTHS, Browser, console_browser
from tests.support.intake import received
from tests.support.offered import do_work
from tests.support.studies import node_in
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.artifacts import load_candidates
from uair_node.work.performer import perform
from workers.compute.computer import Computer
from workers.demo.reader import score
from workers.demo.series import Input, phantom_input

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "console-segmentation.jpg"
MOST_BYTES = 150_000
HEIGHT, SCALE = 1220, 0.85
STATUS = "document.querySelector('#solid-status').textContent"


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = phantom_input(folder / "ct")
        with node_in(folder) as context:
            _play(context, source)
            (folder / "chromium").mkdir()
            with console_browser(context, folder / "chromium") as browser:
                picture = _photograph(browser)
    if len(picture) > MOST_BYTES:
        raise SystemExit(f"{len(picture)} bytes are too many for a page")
    PICTURE.write_bytes(picture)


def _play(context: Context, source: Input) -> None:
    """Send the phantom, pick the best of round 1 and accept the best of round 2."""
    inbox, computer = Inbox(context), Computer(context)
    for path in source.paths:
        inbox.receive(received(path))
    time.sleep(0.02)
    assemble(context)
    for verb in (Verb.PICK, Verb.ACCEPT):
        with context.database.transaction() as session:
            due = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one().id
        assert perform(context, due, computer.compute)
        do_work(context, WorkKind.PUBLISH)
        with context.database.transaction() as session:
            case = session.query(Case).one()
            assert case.current_round is not None
            offered = load_candidates(
                context.store.absolute(f"{case.current_round.artifacts}/{CANDIDATES_FILE}")
            )
            assert source.truth is not None
            best = max(offered, key=lambda offer: score(offer.labels, source.truth).mean)
            select_by_number(session, Evidence(verb, "console"), case, ReaderChoice(best.k))
    do_work(context, WorkKind.FINISH)


def _photograph(browser: Browser) -> bytes:
    page = browser.chromium
    browser.look("wide", "light")
    browser.open("/cases/1/segmentation")
    page.wait_for(f"{STATUS}.startsWith('Seen from')", "the solid")
    page.evaluate("document.querySelector('#solid').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.press(key)
    page.wait_for(f"{STATUS}.includes('from above')", "the turned solid")
    page.evaluate("document.activeElement.blur()")
    clip = {"x": 0, "y": 0, "width": WIDTHS["wide"][0], "height": HEIGHT, "scale": SCALE}
    shot = page.command("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").save(file, "JPEG", quality=82)
    return file.getvalue()


if __name__ == "__main__":
    main()
