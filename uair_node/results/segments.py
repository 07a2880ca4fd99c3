"""Write a label volume of a round as a SEG file, and return the values of its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import ResultKind
from uair_node.context import Context, SegVariant
from uair_node.dicom.volume import Volume
from uair_node.findings.volumes import describe
from uair_node.results.reader_preference import in_words
from uair_node.results.result_writer import keep_result
from uair_node.results.round_inputs import RoundInputs
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import lesion_uid
from uair_node.storage.artifacts import StoredCandidate, label_values


def write_segmentation(
    context: Context,
    inputs: RoundInputs,
    volume: Volume,
    candidate: StoredCandidate,
    kind: ResultKind,
    variant: SegVariant,
    headers: Sequence[Dataset] | None = None,
    tracking: Mapping[int, Tracking] | None = None,
) -> NewResult:
    """Write a candidate or the final segmentation durably into the claim's folder, in one variant.

    Parameters
    ----------
    headers
        The headers of `source_headers`, see `write_seg`.
    tracking
        Tracking of each lesion number; None means the tracking of the case.
    """
    present = label_values(candidate.labels)
    instance_uid, series_uid = inputs.uids(kind, candidate.k, variant.suffix)
    request = SegRequest(
        sop_instance_uid=instance_uid,
        series_instance_uid=series_uid,
        k=candidate.k,
        character=candidate.character,
        provenance=inputs.provenance,
        tracking=_tracking(inputs, present) if tracking is None else tracking,
        derived_from=inputs.derived_from,
        preference=in_words(inputs.prior),
        acquisition=inputs.acquisition,
        final=kind == ResultKind.FINAL,
        needs=variant.needs,
    )
    seg = write_seg(volume, candidate.labels, request, headers)
    words = [*request.label.split(), *([variant.suffix] if variant.suffix else [])]
    path = inputs.own_folder / f"{'-'.join(words)}.dcm"
    volumes = describe(candidate.labels, volume.spacing_mm)
    sizes = {
        "liver": round(volumes.liver_ml, 3),
        "lesions": [round(ml, 3) for _, ml in volumes.lesions_ml],
    }
    return keep_result(
        context,
        seg,
        path,
        kind,
        candidate.k,
        candidate.character,
        variant.destinations,
        volumes_ml=sizes,
        targets=present,
    )


def _tracking(inputs: RoundInputs, present: Sequence[int]) -> dict[int, Tracking]:
    """Return the tracking of each lesion number. It is the same in every candidate and round of a case."""
    lesions = [value - 1 for value in present if value > 1]
    return {n: Tracking(f"UAIR lesion {n}", lesion_uid(inputs.case_digest, n)) for n in lesions}
