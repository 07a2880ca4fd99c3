"""The table of gate codes: why a series is not segmented, and what a person can do about it."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import UID

from dicom_config.errors import InputError


@dataclass(frozen=True)
class GateCode:
    """One reason for which a series is not segmented.

    Attributes
    ----------
    sentence
        The fault. Fields in braces are filled with values.
    remedy
        What a person can do about it, with the same kind of fields.
    may_arrive
        Whether instances that arrive later may clear the fault: missing slices, or corrected versions.
        While a correction arrives slice by slice, the series is a mixture.
    """

    sentence: str
    remedy: str
    may_arrive: bool = False


GATE_CODES: dict[str, GateCode] = {
    "other-modality": GateCode(
        "The series contains objects that are not {taken} slices.",
        "Send the axial {taken} series itself, without reports, screen saves or other modalities. "
        "intake.profiles sets the accepted modalities.",
    ),
    "wrong-sequence": GateCode(
        "This node does not segment this pulse sequence. It segments: {wanted}.",
        "Send a series of this type: {wanted}. Scanning Sequence, Echo Time and Repetition Time show the "
        "type.",
    ),
    "multi-frame": GateCode(
        "The series holds a multi-frame image that does not describe each of its frames, or that is not a "
        "CT.",
        "Configure the scanner or the archive to send single-frame images, or Enhanced CT for a CT.",
    ),
    "localizer": GateCode(
        "The series holds a localizer (scout) image.", "Send the axial series without its localizer."
    ),
    "no-position": GateCode(
        "Image Position, Image Orientation or Pixel Spacing is missing or unusable.",
        "Send the original slices; exported or anonymised copies may have lost these attributes.",
    ),
    "no-rescale": GateCode(
        "Rescale Slope or Rescale Intercept is missing or unusable.",
        "Send the original slices; exported or anonymised copies may have lost these attributes.",
    ),
    "not-hounsfield": GateCode(
        "The values are not Hounsfield units: {what}.",
        "Send the series in Hounsfield units: a mixed or monoenergetic image, not a material or density map.",
    ),
    "mixed-patient": GateCode(
        "The slices belong to several patients or studies: {counts} slices.",
        "Correct Patient ID and Study Instance UID in the archive; send each patient's slices as one series.",
        may_arrive=True,
    ),
    "several-acquisitions": GateCode(
        "The series contains several acquisitions, which differ in {attribute}: {counts} slices.",
        "Send each acquisition, phase or reconstruction as a series of its own.",
        may_arrive=True,
    ),
    "mixed-frame-of-reference": GateCode(
        "The slices belong to several frames of reference.",
        "Send each acquisition as a series of its own.",
        may_arrive=True,
    ),
    "mixed-size": GateCode(
        "The slices differ in rows, columns or pixel spacing.",
        "Send each reconstruction as a series of its own.",
    ),
    "too-large": GateCode(
        "A slice has more than 2048 x 2048 pixels, or the series has more than 2,000 million voxels.",
        "Send a reconstruction of at most 2048 x 2048 pixels that covers only the upper abdomen.",
    ),
    "mixed-orientation": GateCode(
        "The slices do not lie parallel to each other.",
        "Send each orientation as a series of its own. Do not send radial reformats.",
    ),
    "not-axial": GateCode(
        "The slices lie {angle:.0f} degrees off axial; at most {limit:.0f} are accepted.",
        "Send the axial reconstruction, or raise gate.max_oblique_deg.",
    ),
    "duplicate-position": GateCode(
        "Several slices have the same position ({pairs} times).",
        "Send each phase or reconstruction as a series of its own.",
    ),
    "gantry-tilt": GateCode(
        "The stack is sheared by {angle:.1f} degrees (gantry tilt); at most {limit:.1f} are accepted.",
        "Send a reconstruction without tilt.",
    ),
    "too-few-slices": GateCode(
        "The series has {slices} slices; at least {least} are needed.",
        "Send the whole series; for a thick-slice series lower gate.min_slices.",
        may_arrive=True,
    ),
    "missing-slice": GateCode(
        "Slices are missing: {missing} between the first and the last one.",
        "Send the series again; slices that have arrived are kept.",
        may_arrive=True,
    ),
    "irregular-spacing": GateCode(
        "The slices are not evenly spaced: {least_mm:.2f} to {most_mm:.2f} mm, or shifted sideways.",
        "Send an evenly spaced reconstruction; if slices got lost, send the series again.",
        may_arrive=True,
    ),
    "spacing-too-wide": GateCode(
        "The slices are {spacing_mm:.1f} mm apart; at most {limit_mm:.1f} mm are accepted.",
        "Send a thinner reconstruction, or raise gate.max_spacing_mm.",
        may_arrive=True,
    ),
    "coverage-misses-liver": GateCode(
        "The series covers {extent_mm:.0f} mm along its axis; the organ needs at least {least_mm:.0f} mm.",
        "Send a series of the whole upper abdomen.",
        may_arrive=True,
    ),
    "undecodable-pixels": GateCode(
        "The pixels of slice {slice} cannot be decoded; their transfer syntax is {syntax}.",
        "Send the series again, uncompressed if possible.",
    ),
}


def gate_error(code: str, **figures: float | str) -> InputError:
    """Return the error of a gate code. `figures` fill the fields of its sentence and remedy."""
    entry = GATE_CODES[code]
    return InputError(code, entry.sentence.format(**figures), entry.remedy.format(**figures))


def undecodable(slice_number: int, transfer_syntax_uid: str) -> InputError:
    """Return the error of a slice whose pixels cannot be decoded. `slice_number` counts from 1."""
    name = UID(transfer_syntax_uid).name or "not stated"
    return gate_error("undecodable-pixels", slice=slice_number, syntax=name)
