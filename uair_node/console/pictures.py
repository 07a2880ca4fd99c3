"""The pages that went to the archive as Secondary Captures, as PNG for a browser."""

from __future__ import annotations

import io

from PIL import Image
from pydicom import dcmread
from starlette.responses import Response

from dicom_config.errors import InputError, TransientError
from uair_node.cases.tables import Result
from uair_node.console.case import PICTURED
from uair_node.console.desk import Ask, Desk
from uair_node.operations import reports

_THUMBNAIL_WIDTH = 480


def show_picture(desk: Desk, ask: Ask) -> Response:
    """Answer with a picture of a case; `?small=1` with one for a list."""
    with desk.context.database.reading() as session:
        case = reports.get_case(session, ask.path["case_id"])
        result = session.get(Result, ask.path["result_id"])
        if result is None or result.round.case_id != case.id or result.kind not in PICTURED:
            raise InputError(
                "no-such-page", "This case has no such picture.", "Open it from the case's page."
            )
        where = result.path
    desk.note(ask, "view pictures", f"case {case.id}")
    try:
        picture = Image.fromarray(dcmread(desk.context.store.fetch(where)).pixel_array)
    except TransientError:
        raise
    except Exception:  # whatever the decoder says
        mend = "Housekeeping may have removed it; the archive still has it."
        raise InputError("no-such-page", "The picture cannot be read here.", mend) from None
    if ask.query.get("small"):
        picture = picture.reduce(max(1, picture.width // _THUMBNAIL_WIDTH))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return Response(file.getvalue(), media_type="image/png")
