"""Presentation contexts: the SOP classes and transfer syntaxes that the node accepts (PS3.8 9.3.2).

The standard and the installed decoders determine the accepted classes and syntaxes. A site cannot configure
them.
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
"""SOP classes of a reader's selection: an object that names or holds a candidate, or is its page."""

DOCUMENT_CLASSES: frozenset[str] = frozenset(
    {
        SelectionClass.KEY_OBJECT_SELECTION,
        SelectionClass.ENHANCED_SR,
        SelectionClass.COMPREHENSIVE_SR,
        SelectionClass.COMPREHENSIVE_3D_SR,
        SelectionClass.PRESENTATION_STATE,
    }
)
"""SOP classes of documents without an image of their own: reports, Key Objects, presentation states."""

SENT_SOP_CLASSES: tuple[str, ...] = (
    SelectionClass.SEGMENTATION,
    SelectionClass.SECONDARY_CAPTURE,
    SelectionClass.COMPREHENSIVE_3D_SR,
    SelectionClass.KEY_OBJECT_SELECTION,
    SelectionClass.RT_STRUCTURE_SET,
)
"""SOP classes of the results that the node sends."""

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
    """Return the transfer syntaxes that this node can decode."""
    with_decoders = (syntax for syntax in _WITH_DECODERS if _decodable(syntax))
    return (*_UNCOMPRESSED, *with_decoders, *_DECODED_HERE)


@cache
def sop_classes() -> frozenset[str]:
    """Return the SOP classes that are known here: pynetdicom's storage classes, and Verification.

    The node also accepts some classes that this set does not contain, see `is_taken`.
    """
    storage = (str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    return frozenset({*storage, Verification})


def is_taken(sop_class: str) -> bool:
    """Return whether the node accepts a proposed abstract syntax. All AE titles accept the same classes.

    The node accepts every storage class: a known class, a class newer than the library, or a private class.
    One reason is routers: a router stops at a refused context, and the rest of the study would be missing.
    Another reason is notices: the node can send a notice about an unsuitable object only after it has
    received the object. The node accepts no classes of other services of the standard.
    """
    private = not sop_class.startswith(_STANDARD_ROOT)
    return private or sop_class in sop_classes() or sop_class.startswith(_STORAGE_ROOT)


def taken_syntaxes(contexts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the transfer syntaxes that the node accepts for an SOP class.

    Parameters
    ----------
    contexts
        The transfer syntaxes that each presentation context of the class proposes. If the node can decode no
        transfer syntax of a context, then it accepts the context, too. The node keeps instances that it
        cannot decode. The gate gives the reason why they are not segmented.
    """
    known = transfer_syntaxes()
    others = [syntax for proposed in contexts if not set(proposed) & set(known) for syntax in proposed]
    return (*known, *dict.fromkeys(others))


def _decodable(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
