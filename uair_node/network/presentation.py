"""Choose the presentation contexts that the listener accepts from a peer's proposal."""

from __future__ import annotations

from collections.abc import Sequence

from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

from dicom_config.contexts import is_taken, sop_classes, taken_syntaxes


def supported_contexts(proposed: Sequence[PresentationContext]) -> list[PresentationContext]:
    """Return the presentation contexts that the listener accepts from a peer's proposal."""
    of_class: dict[str, list[list[str]]] = {}
    for context in proposed:
        syntaxes = [str(syntax) for syntax in context.transfer_syntax]
        of_class.setdefault(str(context.abstract_syntax), []).append(syntaxes)
    return [
        build_context(sop_class, list(taken_syntaxes(contexts)))
        for sop_class, contexts in sorted(of_class.items())
        if is_taken(sop_class)
    ]


def serve_as_storage(association: Association) -> None:
    """Make pynetdicom serve SOP classes that are not in its own table as storage classes.

    pynetdicom finds the service of a class by the negotiation items for SOP classes (PS3.7 D.3.3.6).
    Without such items, it uses its own table.
    """
    for context in association.accepted_contexts:
        sop_class = str(context.abstract_syntax)
        if sop_class not in {*sop_classes(), Verification, StorageCommitmentPushModel}:
            item = SOPClassCommonExtendedNegotiation()
            item.sop_class_uid, item.service_class_uid = sop_class, CTImageStorage
            association.acceptor._common_ext[sop_class] = item


def reporting_context() -> PresentationContext:
    """Return the context for a destination's report of storage commitment (PS3.4 J.3.3).

    The destination is the SCP.
    """
    context = build_context(StorageCommitmentPushModel)
    context.scu_role, context.scp_role = False, True
    return context
