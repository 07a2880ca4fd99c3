"""Divide a series into its acquisitions, and check each acquisition. Most series are a single acquisition.

The functions take header records. A series is divided only if at least one of its acquisitions passes the
gate. Otherwise the whole series is refused with a single code, because it may be a correction that has
arrived only partly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dicom_config.errors import InputError
from dicom_config.model import EVERY_ACQUISITION, NO_ACQUISITION, Settings
from uair_node.dicom.acquisitions import split_acquisitions
from uair_node.dicom.gate import GateResult, inspect_series, profile_of
from uair_node.dicom.headers import SliceHeader


@dataclass(frozen=True)
class SeriesPart:
    """An acquisition of a series, or a whole series.

    Attributes
    ----------
    acquisition
        The name of the acquisition, such as ``Temporal Position 2``; empty for a whole series.
    headers
        The headers of the slices.
    verdict
        The gate's result for the slices. For an acquisition that the site does not segment, it is a refusal.
    """

    acquisition: str
    headers: Sequence[SliceHeader]
    verdict: GateResult


def inspect_parts(headers: Sequence[SliceHeader], settings: Settings) -> list[SeriesPart]:
    """Check the arrived slices of a series. Return its acquisitions in order of time, at least one part."""
    gate, profiles, taken = settings.gate, settings.intake.modalities, settings.intake.acquisitions
    whole = SeriesPart("", headers, inspect_series(headers, gate, profiles))
    refusal = whole.verdict.refusal
    if refusal is None or refusal.code != "several-acquisitions" or taken == NO_ACQUISITION:
        return [whole]
    divided = split_acquisitions(headers, ct=profile_of(headers, profiles).hounsfield)
    members = [(name, [headers[n] for n in indices]) for name, indices in divided]
    parts = [SeriesPart(name, held, inspect_series(held, gate, profiles)) for name, held in members]
    if all(part.verdict.refusal for part in parts) or _share_an_instance(parts):
        return [whole]
    parts.sort(key=_when)
    if taken == EVERY_ACQUISITION:
        return parts
    return [
        part if n == taken or part.verdict.refusal else _left_out(part, int(taken), len(parts))
        for n, part in enumerate(parts, 1)
    ]


def _share_an_instance(parts: Sequence[SeriesPart]) -> bool:
    """Return whether a multi-frame image has frames of two acquisitions.

    Such a series cannot be divided, because a case holds only whole instances.
    """
    uids = [{header.sop_instance_uid for header in part.headers} for part in parts]
    return len(set().union(*uids)) < sum(map(len, uids))


def _when(part: SeriesPart) -> tuple[int, str, int, str, str]:
    """Sort key of acquisitions: temporal position, then time, then number."""
    first = min(part.headers, key=lambda header: (header.acquisition_time, header.content_time))
    return (
        first.temporal_position or 0,
        first.acquisition_time,
        first.acquisition_number or 0,
        first.content_time,
        part.acquisition,
    )


def _left_out(part: SeriesPart, taken: int, parts: int) -> SeriesPart:
    refusal = InputError(
        "other-acquisition-chosen",
        f"The series holds {parts} acquisitions. Only acquisition {taken}, in order of time, is segmented. "
        f"This case has another acquisition: {part.acquisition}.",
        "If this case should be segmented, change intake.acquisitions and send the series again.",
    )
    return replace(part, verdict=replace(part.verdict, refusal=refusal, may_complete=False))
