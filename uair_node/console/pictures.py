"""Show the pages that went to the archive as Secondary Captures, as PNG for a browser."""

from __future__ import annotations

import io

from PIL import Image
from pydicom import dcmread
from starlette.responses import Response

from dicom_config.errors import InputError, TransientError
from uair_node.cases.tables import Result
from uair_node.console.case import PICTURED
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.operations import reports

_THUMBNAIL_WIDTH = 480


def show_picture(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a picture of a case as PNG. ``?small=1`` reduces the picture for a list."""
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        result = session.get(Result, request.path["result_id"])
        if result is None or result.round.case_id != case.id or result.kind not in PICTURED:
            raise InputError(
                "no-such-page", "This case has no such picture.", "Open the picture from the case's page."
            )
        where = result.path
    console.note(request, "view pictures", f"case {case.id}")
    try:
        picture = Image.fromarray(dcmread(console.context.store.fetch(where)).pixel_array)
    except TransientError:
        raise
    except Exception:  # each decoder has its own exceptions
        remedy = "Retention may have deleted the picture. Look for the picture in the archive."
        raise InputError("no-such-page", "The console cannot read the picture.", remedy) from None
    if request.query.get("small"):
        picture = picture.reduce(max(1, picture.width // _THUMBNAIL_WIDTH))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return Response(file.getvalue(), media_type="image/png")
