"""Compare the PACS with the node: every object must be there once, with the same voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.chaos.findings import Audit
from tests.chaos.site import Site
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, ResultKind, Round, Selection
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.storage.artifacts import Labels, load_candidates, taken
from uair_node.storage.store import Store

_SEGMENTATIONS = (ResultKind.CANDIDATE, ResultKind.FINAL)


def found_in_pacs(site: Site, cases: Sequence[dict[str, Any]], found: Audit) -> None:
    """Find confirmed objects that the PACS lacks, and its objects that are double, unknown or different."""
    tags = {instance: site.orthanc.tags(instance) for instance in site.orthanc.instances()}
    held = {str(values["SOPInstanceUID"]): instance for instance, values in tags.items()}
    results = [result for case in cases for turn in case["rounds"] for result in turn["results"]]
    for result in results:
        confirmed = any(delivery["state"] == "confirmed" for delivery in result["deliveries"])
        if confirmed and result["sop_instance_uid"] not in held:
            found.lost.append(
                f"{result['kind']} …{result['sop_instance_uid'][-8:]} confirmed, but not in the PACS"
            )
    ours = Counter(result["sop_instance_uid"] for result in results)
    found.duplicate += [f"result …{uid[-8:]} exists {n} times" for uid, n in ours.items() if n > 1]
    found.duplicate += [f"…{uid[-8:]} in the PACS is no result" for uid in held if uid not in ours]
    with site.truth.reading() as session:
        for case in session.scalars(select(Case)):
            _voxels(session, site, case, held, found)


def _voxels(session: Session, site: Site, case: Case, held: Mapping[str, str], found: Audit) -> None:
    """Compare a case's segmentations that the PACS confirmed with their label volumes."""
    confirmed = list(session.scalars(_confirmed(case)))
    if not confirmed:
        return
    store = Store(site.data)
    grid = read_geometry([store.absolute(instance.path) for instance in case.instances])
    for result in confirmed:
        instance = held.get(result.sop_instance_uid)
        if instance is None:
            continue
        sent = voxels_of(dcmread(BytesIO(site.orthanc.dicom(instance))), grid, result.targets)
        kept = _labels(session, store, case, result)
        found.compared += 1
        if not np.array_equal(sent, kept):
            found.wrong.append(
                f"case {case.id} round {result.round.number}: {result.kind} {result.k} has other voxels"
            )


def _confirmed(case: Case) -> Any:
    """Select a case's confirmed segmentations whose files retention has not deleted."""
    return (
        select(Result)
        .join(Result.round)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(
            Round.case_id == case.id,
            Round.artifacts != "",
            Result.path != "",
            Result.kind.in_(_SEGMENTATIONS),
            Delivery.state == DeliveryState.CONFIRMED,
        )
    )


def _labels(session: Session, store: Store, case: Case, result: Result) -> Labels:
    """Return the label volume of a segmentation: a candidate's volume, or the accepted volume."""
    if result.kind == ResultKind.CANDIDATE:
        offered = load_candidates(store.absolute(result.round.artifacts) / CANDIDATES_FILE)
        return next(candidate.labels for candidate in offered if candidate.k == result.k)
    accepted = session.scalars(
        select(Selection).where(
            Selection.case_id == case.id, Selection.verb == "accept", Selection.outcome == "effective"
        )
    ).one()
    named = next(turn for turn in case.rounds if turn.number == accepted.candidates_round)
    return taken(load_candidates(store.absolute(named.artifacts) / CANDIDATES_FILE), accepted.answer).labels


def voxels_of(segmentation: Dataset, grid: Volume, targets: Sequence[int]) -> Labels:
    """Return the label volume ``(Z, Y, X)`` of a binary SEG by the slices that its frames name.

    `targets` has the label values of segments 1, 2, … (PS3.3 C.8.20.2).
    """
    slice_of = {source.sop_instance_uid: z for z, source in enumerate(grid.slices)}
    labels = np.zeros(grid.shape, np.uint8)
    for number, uid, mask in _frames(segmentation):
        labels[slice_of[uid]][mask] = targets[number - 1]
    return labels


def _frames(segmentation: Dataset) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield the segment number, the source slice and the mask of each frame whose mask is not empty."""
    shape = (-1, segmentation.Rows, segmentation.Columns)
    frames = segmentation.pixel_array.reshape(shape)
    groups = segmentation.PerFrameFunctionalGroupsSequence
    for frame, group in zip(frames, groups, strict=True):
        if frame.any():
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            yield int(number), str(source.ReferencedSOPInstanceUID), frame > 0
