"""Find earlier accepted cases of the same patient in the database and the store.

Two cases are of the same patient if their Patient IDs are equal and their birth dates do not differ. Tables
contain keyed digests (`Case.patient_key`, see `uair_node.patient_keys`) instead of Patient IDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.errors import TransientError
from dicom_config.modalities import PROFILES
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, ResultKind
from uair_node.context import Context
from uair_node.findings.follow_up import EarlierSegmentation
from uair_node.findings.record import Findings, load_findings
from uair_node.results.round_inputs import ACCEPTED_FILE, FINDINGS_FILE
from uair_node.storage.artifacts import StoredCandidate, load_candidates, save_candidates

_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")


@dataclass(frozen=True)
class Prior:
    """An accepted case of an earlier study.

    Parameters
    ----------
    case_id, day
        Number of the case (0 if it is not in our database), and the day of acquisition.
    series_uid, report_uid
        Series Instance UID of the case, and SOP Instance UID of its report (empty if there is no report).
    findings
        The measurements of the case.
    segmentation
        The references to the final segmentation object; None if the object no longer exists.
    series_paths, labels_path
        The files of the series and of the accepted segmentation; empty if only an archive has them.
    """

    case_id: int
    day: date
    series_uid: str
    report_uid: str
    findings: Findings
    segmentation: EarlierSegmentation | None = None
    series_paths: tuple[Path, ...] = ()
    labels_path: Path = Path()

    def accepted(self) -> StoredCandidate:
        """Load the accepted segmentation on the source grid of its series."""
        (stored,) = load_candidates(self.labels_path)
        return stored


def keep_accepted(folder: Path, accepted: StoredCandidate) -> Path:
    """Save the accepted segmentation in a folder, for comparison with later studies. Return its path."""
    save_candidates(folder / ACCEPTED_FILE, [accepted])
    return folder / ACCEPTED_FILE


def same_patient(session: Session, case: Case) -> Sequence[Case]:
    """Return the accepted cases of the same patient in other studies."""
    if not case.patient_key:
        return ()
    return session.scalars(
        select(Case).where(
            Case.patient_key == case.patient_key,
            Case.study_instance_uid != case.study_instance_uid,
            Case.state == CaseState.ACCEPTED,
        )
    ).all()


def find_priors(context: Context, case_id: int) -> list[Prior]:
    """Return the accepted cases of earlier studies of a case's patient, in order of time.

    Studies of the same day or later do not count. Studies of another modality do not count either, because a
    change of method is no change of the patient (RECIST 1.1, 3.2). A case without files or without kept
    measurements is left out.
    """
    with context.database.reading() as session:
        case = session.get_one(Case, case_id)
        own = read_dating(_paths(context, case))
        today = acquired(own) if own is not None else None
        if own is None or today is None:
            return []
        found = []
        for earlier in same_patient(session, case):
            prior = _prior(context, earlier, own)
            if prior is not None and prior.day < today:
                found.append(prior)
    # On the same day, the case that was accepted last comes last.
    return sorted(found, key=lambda prior: (prior.day, prior.case_id))


def acquired(header: Dataset) -> date | None:
    """Return the day on which a series was acquired; None if no date can be read."""
    for keyword in _DATES:
        try:
            return datetime.strptime(str(header.get(keyword) or "")[:8], "%Y%m%d").date()
        except ValueError:
            continue
    return None


def _prior(context: Context, case: Case, own: Dataset) -> Prior | None:
    """Return a case as a prior. Return None if it is of another patient or modality, or if data is missing.

    `own` is a header of the case for which the priors are searched.
    """
    round_ = case.current_round
    assert round_ is not None, "an accepted case has a round"
    if not round_.final_folder:
        return None
    try:
        paths = _paths(context, case)
        folder = context.store.fetch_folder(round_.final_folder, [FINDINGS_FILE, ACCEPTED_FILE])
    except TransientError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # the site's retention deleted the files
            return None
        raise
    header, findings = read_dating(paths), load_findings(folder / FINDINGS_FILE)
    if header is None or findings is None or not (folder / ACCEPTED_FILE).exists():
        return None
    day = acquired(header)
    if day is None or contradict(own, header) or not same_modality(own.SOPClassUID, header.SOPClassUID):
        return None
    finals = [result.path for result in round_.results if result.kind == ResultKind.FINAL]
    reports = [result.sop_instance_uid for result in round_.results if result.kind == ResultKind.REPORT]
    return Prior(
        case_id=case.id,
        day=day,
        series_uid=case.series_instance_uid,
        report_uid=reports[0] if reports else "",
        series_paths=tuple(paths),
        labels_path=folder / ACCEPTED_FILE,
        findings=findings,
        segmentation=_segmentation(context, finals),
    )


def earlier_segmentation(final: Dataset) -> EarlierSegmentation:
    """Return the UIDs of a final segmentation of ours, and the segment number of each Tracking UID."""
    return EarlierSegmentation(
        study_uid=str(final.StudyInstanceUID),
        series_uid=str(final.SeriesInstanceUID),
        sop_instance_uid=str(final.SOPInstanceUID),
        segments={
            str(segment.TrackingUID): int(segment.SegmentNumber)
            for segment in final.SegmentSequence
            if "TrackingUID" in segment
        },
    )


def _segmentation(context: Context, finals: Sequence[str]) -> EarlierSegmentation | None:
    for stored in finals[:1]:  # the other variants have the same segments
        path = context.store.fetch(stored)
        if path.exists():
            return earlier_segmentation(dcmread(path, stop_before_pixels=True))
    return None


def _paths(context: Context, case: Case) -> list[Path]:
    return list(context.store.fetch_all([instance.path for instance in case.instances]))


def read_dating(paths: Sequence[Path]) -> Dataset | None:
    """Read birth date, dates and SOP Class from a series' first file; None if the file does not exist."""
    if not paths or not paths[0].exists():
        return None
    return dcmread(
        paths[0], specific_tags=["SOPClassUID", "PatientBirthDate", *_DATES], stop_before_pixels=True
    )


def same_modality(sop_class: str, other: str) -> bool:
    """Return whether two SOP Classes of slices belong to the same modality."""
    of_class = {uid: profile.modality for profile in PROFILES.values() for uid in profile.sop_classes}
    return of_class.get(sop_class) == of_class.get(other)


def contradict(first: Dataset, other: Dataset) -> bool:
    """Return whether two headers give different birth dates."""
    born = {str(header.get("PatientBirthDate") or "") for header in (first, other)} - {""}
    return len(born) > 1
