"""Presentation contexts: the SOP classes and transfer syntaxes that the node accepts (PS3.8 9.3.2).

The standard and the installed decoders determine them. A site cannot configure them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from dicom_config.codes import SelectionClass

SELECTION_SOP_CLASSES: frozenset[str] = frozenset(SelectionClass)
"""Classes of a reader's selection. A selection names a candidate, holds a candidate, or is its page."""

DOCUMENT_CLASSES: frozenset[str] = frozenset(
    {
        SelectionClass.KEY_OBJECT_SELECTION,
        SelectionClass.ENHANCED_SR,
        SelectionClass.COMPREHENSIVE_SR,
        SelectionClass.COMPREHENSIVE_3D_SR,
        SelectionClass.PRESENTATION_STATE,
    }
)
"""Classes of documents about images, which contain no image: reports, Key Objects, presentation states."""

SENT_SOP_CLASSES: tuple[str, ...] = (
    SelectionClass.SEGMENTATION,
    SelectionClass.SECONDARY_CAPTURE,
    SelectionClass.COMPREHENSIVE_3D_SR,
    SelectionClass.KEY_OBJECT_SELECTION,
    SelectionClass.RT_STRUCTURE_SET,
)
"""Classes of results."""

SENT_TRANSFER_SYNTAXES: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes that the node proposes as Storage SCU, the preferred one first."""

_STANDARD_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
"""The root of the UIDs of the standard's storage SOP classes (PS3.4 B.5)."""

_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

_WITH_DECODERS = (
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
    HTJ2K,
)


ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")
DEFLATED_IMAGE_FRAME = UID("1.2.840.10008.1.2.8.1")
"""PS3.6 Table A-1; newer than pydicom's dictionary."""

_DECODED_HERE = (ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME)


@cache
def transfer_syntaxes() -> tuple[str, ...]:
    """Return the transfer syntaxes whose pixels this node can decode."""
    with_decoders = (syntax for syntax in _WITH_DECODERS if _decodable(syntax))
    return (*_UNCOMPRESSED, *with_decoders, *_DECODED_HERE)


@cache
def sop_classes() -> frozenset[str]:
    """Return the SOP classes that the node accepts by name: pynetdicom's storage classes and Verification."""
    storage = (str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    return frozenset({*storage, Verification})


def is_taken(sop_class: str) -> bool:
    """Return whether the node accepts a proposed abstract syntax. All AE titles accept the same classes.

    The node accepts every storage class: known, newer than the library, or private. A router that pushes a
    whole study stops at a refused context, and the rest of the study would be missing. If a reader sends an
    object of an unsuitable class, then the object must arrive before the node can send a notice about it.
    The node does not accept other services of the standard.
    """
    private = not sop_class.startswith(_STANDARD_ROOT)
    return private or sop_class in sop_classes() or sop_class.startswith(_STORAGE_ROOT)


def taken_syntaxes(contexts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the transfer syntaxes that the node accepts for an SOP class.

    Parameters
    ----------
    contexts
        The proposed transfer syntaxes of each presentation context of the class. A context is also accepted
        if the node can decode none of its transfer syntaxes. The node keeps such instances, and the gate
        gives the reason why it does not segment them.
    """
    known = transfer_syntaxes()
    others = [syntax for proposed in contexts if not set(proposed) & set(known) for syntax in proposed]
    return (*known, *dict.fromkeys(others))


def _decodable(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
