"""C-STORE of a data set as bytes. The library would refuse to encode it, or would encode it again."""

from __future__ import annotations

from io import BytesIO

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from uair_node.network.responses import KEEP_RESPONSES


def store_bytes(
    port: int,
    data: bytes,
    *,
    sop_class: str,
    sop_instance: str,
    syntax: str,
    called: str = "UAIR",
    timeout_s: float = 300.0,
) -> tuple[int, str]:
    """Send an encoded data set over an association of its own; return status and error comment."""
    entity = AE("ROUTER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    entity.add_requested_context(sop_class, UID(syntax))
    association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=[KEEP_RESPONSES])
    assert association.is_established
    (context,) = association.accepted_contexts
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_instance
    request.DataSet = BytesIO(data)
    association._reactor_checkpoint.clear()  # like the library's own C-STORE: this function reads the answer
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(answer.Status), str(answer.ErrorComment or "")
