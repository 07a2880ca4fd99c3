"""Publish a round: write its four label volumes as SEG objects, and add their rows in one transaction."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from uair_node.cases import lifecycle, work_items
from uair_node.cases.tables import Case, ResultKind, Round, WorkItem
from uair_node.context import Context
from uair_node.dicom.volume import read_geometry
from uair_node.rendering.differences import as_sentence, cut_off_ends
from uair_node.results.round_inputs import read_round_inputs
from uair_node.results.segments import write_segmentation
from uair_node.results.source_headers import source_headers
from uair_node.work.performer import Claim, Commit
from uair_node.work.stopwatch import Stopwatch

log = logging.getLogger(__name__)


def publish(context: Context, claim: Claim) -> Commit:
    """Write the SEG objects of a computed round: four objects in each variant that a destination needs."""
    watch = Stopwatch()
    inputs = read_round_inputs(context, claim)
    volume = read_geometry(inputs.series_paths, context.settings.intake.known)
    headers = source_headers(volume)
    candidates = inputs.candidates()
    results = [
        write_segmentation(context, inputs, volume, candidate, ResultKind.CANDIDATE, variant, headers)
        for variant in context.segmentation_variants
        for candidate in candidates
    ]
    # The slices are counted on the canonical grid, as on the pages.
    turned = [volume.canonical().from_source(stored.labels) for stored in candidates]
    cut_off = cut_off_ends(turned, volume.profile.organ.name)
    watch.lap("write")
    log.info("case %d round %d written: %s", claim.case_id, inputs.number, watch)

    wanted = context.settings.results.pages

    def commit(session: Session, item: WorkItem) -> None:
        case, round_ = session.get_one(Case, item.case_id), session.get_one(Round, inputs.round_id)
        lifecycle.finish_publishing(session, case, round_, results, pages=wanted)
        if cut_off:
            lifecycle.warn(case, as_sentence(cut_off))
        work_items.close(item)

    return commit
