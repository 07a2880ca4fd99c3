"""The gate: the checks that a series must pass to be segmented, and the refusal if it fails.

The checks use header records only; their codes are in `gate_codes`. The checks do not depend on the source of
the records, the node's waiting time for a series, or the decoding of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dicom_config.contexts import transfer_syntaxes
from dicom_config.errors import InputError
from dicom_config.modalities import CT, ModalityProfile
from dicom_config.model import GateSection
from uair_node.dicom.acquisitions import count_values, find_acquisitions
from uair_node.dicom.gate_codes import GATE_CODES, gate_error, undecodable
from uair_node.dicom.headers import SliceHeader
from uair_node.dicom.stack import Stack, build_stack, fit_even_grid
from uair_node.dicom.stack_ends import warnings_of

_COSINE_TOLERANCE = 1e-3
"""The largest difference of direction cosines of one orientation. Cosines often have only four digits."""

_SPACING_TOLERANCE_MM = 1e-4
"""Pixel spacings that differ by less count as equal: the same number may be written with other digits."""

_SAME_POSITION_MM = 0.01
"""Slices nearer than this lie at one position. The thinnest slices are 0.2 mm apart."""

_ROUNDING_MM = 0.1
"""The largest error, per axis, of positions that were rounded to a tenth of a millimetre."""

_SAME_PART = 0.2
"""Slices nearer than `_ROUNDING_MM` and than this fraction of the usual distance share a position."""

MOST_SLICE_PIXELS = 2048 * 2048
"""The largest matrix that CT scanners reconstruct."""

MOST_VOXELS = 2_000_000_000
"""The largest number of voxels of a series: 4 GB of 16-bit values."""


@dataclass(frozen=True)
class GateResult:
    """The gate's result for the headers that have arrived so far.

    Attributes
    ----------
    refusal
        The error, with a code of `GATE_CODES`, if the series cannot be segmented as it is; else None.
    may_complete
        Whether instances that may still arrive can clear `refusal`. If false, waiting does not help.
    assumed
        Names of attributes that are missing, for which a value was assumed, see `assumptions`.
    warnings
        Sentences about possible faults that do not stop the case.
    """

    refusal: InputError | None
    may_complete: bool
    assumed: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def inspect_series(
    headers: Sequence[SliceHeader], section: GateSection, profiles: Sequence[ModalityProfile] = (CT,)
) -> GateResult:
    """Check the arrived slices of a series. The order of `headers` does not matter.

    Permanent faults are checked before faults that later slices may clear. But a mixture of acquisitions or
    orientations is checked before its consequences, such as several slices at the same position.

    Parameters
    ----------
    profiles
        The kinds of series that the site accepts (`IntakeSection.modalities`).
    """
    try:
        profile = _check_all(headers, section, profiles)
    except InputError as refusal:
        return GateResult(refusal, GATE_CODES[refusal.code].may_arrive, assumptions(headers))
    return GateResult(None, False, assumptions(headers, profile), warnings_of(headers))


def _check_all(
    headers: Sequence[SliceHeader], section: GateSection, profiles: Sequence[ModalityProfile]
) -> ModalityProfile:
    if not headers:
        raise gate_error("too-few-slices", slices=0, least=section.min_slices)
    profile = profile_of(headers, profiles)
    stack = _build_checked(headers, profile)
    _check_patient(headers)
    _check_acquisition(headers, stack, profile)
    _check_positions(stack)
    _check_syntax(headers, stack)
    for check in _STACK_CHECKS:
        check(stack, section)
    return profile


def profile_of(headers: Sequence[SliceHeader], profiles: Iterable[ModalityProfile]) -> ModalityProfile:
    """Return the first profile that every slice fits. There is at least one slice.

    Raises
    ------
    InputError
        ``other-modality``, ``multi-frame`` or ``wrong-sequence``.
    """
    taken = list(profiles)
    near = [profile for profile in taken if all(_is_slice_of(profile, header) for header in headers)]
    if not near:
        modalities = {profile.modality for profile in taken}
        if all(header.modality in modalities and _is_multi_frame(header) for header in headers):
            raise gate_error("multi-frame")
        raise gate_error("other-modality", taken=" or ".join(sorted(modalities)))
    for profile in near:
        if all(_fits(profile, header) for header in headers):
            return profile
    raise gate_error("wrong-sequence", wanted=" or ".join(profile.title for profile in near))


def check_structure(headers: Sequence[SliceHeader], profile: ModalityProfile) -> Stack:
    """Check that slices can form a grid: of one kind, parallel, each at its own position. Return their stack.

    Only arriving series are checked for a single patient and acquisition (`inspect_series`). So an accepted
    case stays readable in its later rounds.

    Raises
    ------
    InputError
        The codes from ``multi-frame`` to ``duplicate-position`` in `GATE_CODES`, without ``mixed-patient``,
        ``several-acquisitions`` and ``not-axial``.
    """
    stack = _build_checked(headers, profile)
    _check_positions(stack)
    return stack


def _build_checked(headers: Sequence[SliceHeader], profile: ModalityProfile) -> Stack:
    for code, is_wrong in _INSTANCE_CHECKS:
        if any(is_wrong(header) for header in headers):
            raise gate_error(code)
    if profile.hounsfield and not all(header.has_rescale for header in headers):
        raise gate_error("no-rescale")
    others = [header.not_hounsfield for header in headers if header.not_hounsfield]
    if profile.hounsfield and others:
        raise gate_error("not-hounsfield", what=min(others))
    try:
        stack = build_stack(headers)
    except ValueError:
        raise gate_error("no-position") from None
    for code, differ in _MIXTURE_CHECKS:
        if differ(headers):
            raise gate_error(code)
    return stack


def _check_patient(headers: Sequence[SliceHeader]) -> None:
    """Refuse a series of several patients or studies.

    A missing Patient ID does not count as another patient.
    """
    for value in (lambda header: header.patient_id, lambda header: header.study_instance_uid):
        counts = count_values(headers, value)
        if len(counts) > 1:
            raise gate_error("mixed-patient", counts=_and(counts))


def _check_acquisition(headers: Sequence[SliceHeader], stack: Stack, profile: ModalityProfile) -> None:
    division = find_acquisitions(headers, stack, ct=profile.hounsfield)
    if division is not None:
        raise gate_error("several-acquisitions", attribute=division.attribute, counts=_and(division.counts))


def _check_positions(stack: Stack) -> None:
    pairs = _same_positions(stack)
    if pairs:
        raise gate_error("duplicate-position", pairs=pairs)


def _check_syntax(headers: Sequence[SliceHeader], stack: Stack) -> None:
    known = transfer_syntaxes()
    for place, index in enumerate(stack.order, 1):
        syntax = headers[index].transfer_syntax_uid
        if syntax not in known:
            raise undecodable(place, syntax)


def _and(counts: Sequence[int]) -> str:
    """Return the first four numbers joined by "and"; if there are more, "N more" follows."""
    shown = [str(count) for count in counts[:4]]
    more = [f"{len(counts) - 4} more"] if len(counts) > 4 else []
    return " and ".join([*shown, *more])


def _same_positions(stack: Stack) -> int:
    """Count the pairs of neighbours that lie at one position. Positions may be rounded."""
    distances = stack.distances_mm
    usual = distances[distances >= _ROUNDING_MM]
    limit = min(_ROUNDING_MM, _SAME_PART * float(np.median(usual))) if len(usual) else 0.0
    return int(np.count_nonzero(distances < max(limit, _SAME_POSITION_MM)))


def assumptions(headers: Iterable[SliceHeader], profile: ModalityProfile = CT) -> tuple[str, ...]:
    """Return the names of attributes that some header lacks and the node assumes.

    ``frame-of-reference-uid`` is derived from the series UID; ``patient-id`` and ``series-number`` are left
    empty. ``contrast-agent``: no slice names the agent that the profile expects. On many scanners, a person
    must type Contrast/Bolus Agent.
    """
    known = list(headers)
    lacks = {
        "frame-of-reference-uid": any(not header.frame_of_reference_uid for header in known),
        "patient-id": any(not header.patient_id for header in known),
        "series-number": any(header.series_number is None for header in known),
        "contrast-agent": profile.expects_contrast and not any(header.contrast_agent for header in known),
    }
    return tuple(name for name, lacking in lacks.items() if lacking)


def _is_slice_of(profile: ModalityProfile, header: SliceHeader) -> bool:
    return (
        header.sop_class_uid in profile.sop_classes
        and header.modality in (profile.modality, "")
        and profile.not_anatomy.isdisjoint(header.image_type)
    )


def _is_multi_frame(header: SliceHeader) -> bool:
    return header.frame is not None or header.frames > 1


def _fits(profile: ModalityProfile, header: SliceHeader) -> bool:
    wanted = profile.acquisition
    return wanted is None or wanted.fits(
        header.scanning_sequence, header.echo_time_ms, header.repetition_time_ms
    )


def _frames_of_reference_differ(headers: Sequence[SliceHeader]) -> bool:
    return len({header.frame_of_reference_uid for header in headers} - {""}) > 1


def _sizes_differ(headers: Sequence[SliceHeader]) -> bool:
    spacings = [header.pixel_spacing_mm or (0.0, 0.0) for header in headers]
    return (
        len({(header.rows, header.columns) for header in headers}) > 1
        or float(np.ptp(spacings, axis=0).max()) > _SPACING_TOLERANCE_MM
    )


def _orientations_differ(headers: Sequence[SliceHeader]) -> bool:
    # A missing orientation was refused before; NaN in a cosine counts as different.
    orientations = np.asarray([header.orientation or (np.nan,) * 6 for header in headers], dtype=float)
    return not bool(np.ptp(orientations, axis=0).max() <= _COSINE_TOLERANCE)


_INSTANCE_CHECKS: tuple[tuple[str, Callable[[SliceHeader], bool]], ...] = (
    ("multi-frame", lambda header: header.frames > 1),
    ("localizer", lambda header: "LOCALIZER" in header.image_type),
    (
        "no-position",
        lambda header: None in (header.position_mm, header.orientation, header.pixel_spacing_mm),
    ),
)


def _is_too_large(headers: Sequence[SliceHeader]) -> bool:
    """Return whether the pixels need more memory than a worker has.

    A few compressed bytes may state such sizes.
    """
    sizes = [header.rows * header.columns for header in headers]
    return max(sizes) > MOST_SLICE_PIXELS or sum(sizes) > MOST_VOXELS


_MIXTURE_CHECKS: tuple[tuple[str, Callable[[Sequence[SliceHeader]], bool]], ...] = (
    ("mixed-frame-of-reference", _frames_of_reference_differ),
    ("mixed-size", _sizes_differ),
    ("too-large", _is_too_large),
    ("mixed-orientation", _orientations_differ),
)


def _check_axial(stack: Stack, section: GateSection) -> None:
    if stack.oblique_deg > section.max_oblique_deg:
        raise gate_error("not-axial", angle=stack.oblique_deg, limit=section.max_oblique_deg)


def _check_tilt(stack: Stack, section: GateSection) -> None:
    if stack.tilt_deg > section.max_tilt_deg:
        raise gate_error("gantry-tilt", angle=stack.tilt_deg, limit=section.max_tilt_deg)


def _check_count(stack: Stack, section: GateSection) -> None:
    # A single slice has no distance to a neighbour, so two slices are needed even if the setting is 1.
    least = max(section.min_slices, 2)
    if len(stack.order) < least:
        raise gate_error("too-few-slices", slices=len(stack.order), least=least)


def _check_regular(stack: Stack, section: GateSection) -> None:
    grid = fit_even_grid(stack)
    tolerance = max(section.spacing_tolerance * grid.spacing_mm, _ROUNDING_MM)
    in_line = grid.lateral_mm.max() <= tolerance
    if in_line and np.abs(grid.along_mm).max() <= tolerance:
        if grid.missing:
            raise gate_error("missing-slice", missing=grid.missing)
        return
    distances = stack.distances_mm
    raise gate_error("irregular-spacing", least_mm=float(distances.min()), most_mm=float(distances.max()))


def _check_spacing(stack: Stack, section: GateSection) -> None:
    spacing = float(np.median(stack.distances_mm))
    if spacing > section.max_spacing_mm:
        raise gate_error("spacing-too-wide", spacing_mm=spacing, limit_mm=section.max_spacing_mm)


def _check_coverage(stack: Stack, section: GateSection) -> None:
    extent = len(stack.order) * float(np.median(stack.distances_mm))
    if extent < section.min_coverage_mm:
        raise gate_error("coverage-misses-liver", extent_mm=extent, least_mm=section.min_coverage_mm)


_STACK_CHECKS: tuple[Callable[[Stack, GateSection], None], ...] = (
    _check_axial,
    _check_tilt,
    _check_count,
    _check_regular,
    _check_spacing,
    _check_coverage,
)
