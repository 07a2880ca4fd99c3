"""Write notices to the reader: pictures with the outcome of a selection. A case has one series of notices.

A notice depends on the case's rows only. So each notice is written once, even if a job runs twice. Every
viewer shows a Secondary Capture, but few viewers show a Basic Text SR. An acceptance needs no notice, because
the final objects show the acceptance. If a peer sends our own object back, then the node writes no notice.
Otherwise a PACS that forwards every object would get a notice for each notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_config import codes
from dicom_config.model import Settings, Verb
from dicom_config.node import AeTitles
from uair_node import __version__
from uair_node.cases import lifecycle, work_items
from uair_node.cases.codes import OWN_OBJECT, CaseCode
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Result, ResultKind, Round, Selection, SelectionOutcome, WorkItem
from uair_node.context import Context
from uair_node.dicom.readers import Mechanism
from uair_node.dicom.volume import read_geometry
from uair_node.rendering.notice_image import draw_notice
from uair_node.results.capture import CapturedPage, CaptureSeries, write_capture
from uair_node.results.provenance import Provenance
from uair_node.results.reader_words import answer_words, how_to_answer, without_commands
from uair_node.results.result_writer import keep_result
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid
from uair_node.work.performer import Claim, Commit


@dataclass(frozen=True)
class Notice:
    """One notice.

    Attributes
    ----------
    uid
        SOP Instance UID. It depends on the case and the notice's subject only.
    moment
        The time of the event.
    heading, text
        The texts of the picture, without patient data.
    round_id, round_number
        Row id and number of the round to which the notice belongs.
    segmentation_uids
        SOP Instance UID of the candidate to which the notice refers; empty if it refers to no candidate.
    """

    uid: str
    moment: datetime
    heading: str
    text: str
    round_id: int
    round_number: int
    segmentation_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class _PendingNotices:
    """The notices of a case that must be written. One transaction reads all values."""

    notices: tuple[tuple[Notice, Provenance], ...]
    first_number: int
    series_uid: str
    series_paths: tuple[Path, ...]
    folder: Path


def write_notices(context: Context, claim: Claim) -> Commit:
    """Write all notices of a case that do not exist yet."""
    pending = _read(context, claim)
    results = _write(context, pending) if pending.notices else []

    def commit(session: Session, item: WorkItem) -> None:
        for notice, result in zip(pending.notices, results, strict=True):
            lifecycle.add_results(session, session.get_one(Round, notice[0].round_id), [result])
        # If a selection arrived while these notices were written, then its work was already due.
        case = session.get_one(Case, item.case_id)
        if context.settings.results.notices and pending_notices(session, case, context.settings):
            work_items.postpone(session, item, 0.0, "")
        else:
            work_items.close(item)

    return commit


def pending_notices(session: Session, case: Case, settings: Settings) -> list[Notice]:
    """Return the notices of a case that are not yet written, in the order of their events.

    The overview page explains how to answer. If the site has no pages, then the first round gets a notice,
    too.
    """
    written = set(
        session.scalars(
            select(Result.sop_instance_uid)
            .join(Result.round)
            .where(Round.case_id == case.id, Result.kind == ResultKind.NOTICE)
        )
    )
    selections = session.scalars(select(Selection).where(Selection.case_id == case.id)).all()
    every = [_about_selection(case, selection) for selection in selections if _needs_notice(selection)]
    first = 2 if settings.results.pages else 1
    every += [
        _about_round(case, round_, settings.node.ae_titles)
        for round_ in case.rounds
        if round_.number >= first and round_.published_at
    ]
    if case.state == CaseState.FAILED and len(case.rounds) > 1:  # a reader saw the case
        every.append(_about_failure(case))
    if case.code == CaseCode.SOURCE_REJECTED and case.rounds:
        every.append(_about_rejected_source(case))
    accepted = [
        selection.received_at
        for selection in selections
        if _is_effective(selection) and selection.verb == Verb.ACCEPT
    ]
    found = {notice.uid: notice for notice in sorted(every, key=lambda notice: notice.moment, reverse=True)}
    return sorted(
        (
            notice
            for uid, notice in found.items()
            # Notices of events before the acceptance are withdrawn with the other results.
            if uid not in written and not any(notice.moment <= moment for moment in accepted)
        ),
        key=lambda notice: (notice.moment, notice.uid),
    )


def _is_effective(selection: Selection) -> bool:
    return selection.outcome == SelectionOutcome.EFFECTIVE


def _needs_notice(selection: Selection) -> bool:
    if selection.outcome == SelectionOutcome.REFUSED:
        return selection.code != OWN_OBJECT
    if selection.outcome == SelectionOutcome.REPLACED:
        return True
    return _is_effective(selection) and selection.verb != Verb.ACCEPT


def _about_selection(case: Case, selection: Selection) -> Notice:
    round_ = next(
        (round_ for round_ in case.rounds if round_.number == selection.round_number), case.rounds[-1]
    )
    offered = next((round_ for round_ in case.rounds if round_.number == selection.candidates_round), round_)
    named = tuple(
        candidate.sop_instance_uid for candidate in offered.candidates if candidate.k == selection.picked
    )
    if selection.outcome == SelectionOutcome.REFUSED:
        return Notice(
            uid=_uid(case, "refused", *_refused(selection, round_.number), selection.code),
            moment=selection.received_at,
            heading=f"Round {round_.number}: not used",
            text=without_commands(f"{selection.sentence} {selection.remedy}", case.id),
            round_id=round_.id,
            round_number=round_.number,
            segmentation_uids=named,
        )
    if selection.outcome == SelectionOutcome.REPLACED:
        return Notice(
            uid=_uid(case, "replaced", round_.number, selection.id),
            moment=selection.received_at,
            heading=f"Round {round_.number}: {answer_words(selection)} is replaced",
            text="A later answer to the same round counts."
            + (" To add your marks to the later answer, send them again." if selection.marks else ""),
            round_id=round_.id,
            round_number=round_.number,
            segmentation_uids=named,
        )
    if selection.verb == Verb.START:
        return _about_start(case, selection, round_)
    what = answer_words(selection)
    if offered is not round_:
        what = f"{what} of round {offered.number}"
    return Notice(
        uid=_uid(case, "received", round_.number, selection.id),
        moment=selection.received_at,
        heading=f"Round {round_.number}: {what} received",
        text=" ".join([f"Round {round_.number + 1} is computed next.", selection.sentence]).strip(),
        round_id=round_.id,
        round_number=round_.number,
        segmentation_uids=named,
    )


def _about_start(case: Case, selection: Selection, round_: Round) -> Notice:
    """Return the notice about another system's segmentation. A selection of round 0 starts round 1."""
    started = (selection.round_number or 0) + 1
    return Notice(
        uid=_uid(case, "started", selection.id),
        moment=selection.received_at,
        heading=f"Round {started}: another system's segmentation received",
        text=selection.sentence,
        round_id=round_.id,
        round_number=round_.number,
    )


def _about_round(case: Case, round_: Round, titles: AeTitles) -> Notice:
    assert round_.published_at is not None, "a notice is about a published round"
    first, last = codes.content_label(round_.number, 1), codes.content_label(round_.number, 4)
    heading, text = "is ready", f"Four candidates: {first} to {last}. {how_to_answer(titles)}"
    if len(round_.candidates) == 1:
        heading = "no uncertain region is left"
        text = (
            f"{first} is the selected segmentation. To accept it, send it to {titles.accept}. "
            f"If it does not fit, send it to {titles.reject}."
        )
    return Notice(
        uid=_uid(case, "ready", round_.number),
        moment=round_.published_at,
        heading=f"Round {round_.number}{' ' if heading == 'is ready' else ': '}{heading}",
        text=" ".join([text, *(f"Warning: {warning}" for warning in case.warnings.splitlines())]),
        round_id=round_.id,
        round_number=round_.number,
    )


def _about_failure(case: Case) -> Notice:
    round_ = case.rounds[-1]
    return Notice(
        uid=_uid(case, "failed", round_.number),
        moment=case.updated_at,
        heading=f"Round {round_.number} is not computed",
        text=f"The computation failed. Ask your administrator, and name UAIR case {case.id}. "
        "Your answer is kept.",
        round_id=round_.id,
        round_number=round_.number,
    )


def _about_rejected_source(case: Case) -> Notice:
    round_ = case.rounds[-1]
    return Notice(
        uid=_uid(case, CaseCode.SOURCE_REJECTED),
        moment=case.updated_at,
        heading="Segmentation withdrawn",
        text=without_commands(f"{case.sentence} {case.remedy}", case.id),
        round_id=round_.id,
        round_number=round_.number,
    )


def _refused(selection: Selection, round_number: int) -> tuple[str | int, ...]:
    """Return a key of a refused object. Objects with the same UID and different content have different keys.

    An archive may forward every measurement. So all measurements of a round have the same key, and the reader
    gets one notice per round and reason.
    """
    if selection.mechanism in (Mechanism.SR, Mechanism.PRESENTATION_STATE):
        return "measurements", round_number
    return selection.verb, f"{selection.evidence_uid}{selection.evidence_sha256}"


def _uid(case: Case, *what: str | int) -> str:
    return result_uid(case.uid_root, "notice", *what)


def _read(context: Context, claim: Claim) -> _PendingNotices:
    with context.database.reading() as session:
        case = session.get_one(Case, claim.case_id)
        settings = context.settings
        wanted = pending_notices(session, case, settings) if settings.results.notices else []
        rounds = {round_.id: round_ for round_ in case.rounds}
        of_case = select(func.count(Result.id)).join(Result.round).where(Round.case_id == case.id)
        written = session.scalar(of_case.where(Result.kind == ResultKind.NOTICE)) or 0
        series = [instance.path for instance in case.instances]
    return _PendingNotices(
        notices=tuple(
            (notice, _provenance(case, rounds[notice.round_id], notice.moment)) for notice in wanted
        ),
        first_number=1 + written,
        series_uid=_uid(case, "series"),
        series_paths=context.store.fetch_all(series),
        folder=context.store.round_folder(case.id, 1, claim.token),
    )


def _provenance(case: Case, round_: Round, moment: datetime) -> Provenance:
    model = round_.model_name, round_.model_digest
    # An object must not be older than its series (PS3.3 C.7.3.1, C.7.6.1).
    moment = max(moment, case.created_at).replace(microsecond=0)
    return Provenance(round_.number, *model, __version__, case.digest, moment, case.created_at)


def _write(context: Context, pending: _PendingNotices) -> Sequence[NewResult]:
    headers = source_headers(read_geometry(pending.series_paths))
    results = []
    for number, (notice, provenance) in enumerate(pending.notices, pending.first_number):
        series = CaptureSeries(
            pending.series_uid, codes.notices_number(), codes.notices_description(), provenance
        )
        page = CapturedPage(notice.uid, number, "notice", notice.segmentation_uids)
        image = write_capture(draw_notice(notice.heading, notice.text), page, headers, series)
        image.ImageComments = f"{notice.heading}. {notice.text}"
        path = pending.folder / f"UAIR-NOTICE-{notice.uid[-16:]}.dcm"
        where = context.picture_destinations
        results.append(keep_result(context, image, path, ResultKind.NOTICE, 0, notice.heading, where))
    return results
