"""Presentation contexts: which SOP classes and transfer syntaxes each called AE title takes (PS3.8 9.3.2).

What the standard fixes and the installed decoders allow; a site configures nothing here.
"""

from __future__ import annotations

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
from dicom_config.model import Verb

SELECTION_SOP_CLASSES: frozenset[str] = frozenset(SelectionClass)
"""What a reader's selection can come as: an object that names or holds a candidate, or a candidate's page."""

SENT_SOP_CLASSES: tuple[str, ...] = (
    SelectionClass.SEGMENTATION,
    SelectionClass.SECONDARY_CAPTURE,
    SelectionClass.COMPREHENSIVE_SR,
    SelectionClass.KEY_OBJECT_SELECTION,
)
"""What results are made of."""

SENT_TRANSFER_SYNTAXES: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Proposed as Storage SCU, preferred first."""

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


@cache
def transfer_syntaxes() -> tuple[str, ...]:
    """Return the transfer syntaxes whose pixels can be decoded here."""
    return (*_UNCOMPRESSED, *(syntax for syntax in _WITH_DECODERS if _decodable(syntax)))


@cache
def sop_classes(verb: Verb) -> frozenset[str]:
    """Return the SOP classes that a verb's AE title takes, Verification among them.

    `Verb.STORE` takes every storage SOP class: a router that pushes a whole study would see a refused
    context as a failure, and what is not segmented is explained by the gate. The other verbs take selections.
    """
    if verb is Verb.STORE:
        storage = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
    else:
        storage = SELECTION_SOP_CLASSES
    return storage | {Verification}


def _decodable(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False
