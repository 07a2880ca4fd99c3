"""Find the candidate and the round to which a returned object refers.

A refusal is an InputError with a code. The caller records every refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_config.codes import REJECTION_TITLES
from dicom_config.errors import InputError
from dicom_config.model import Verb
from uair_node.cases.codes import OWN_OBJECT
from uair_node.cases.lock import lock_case
from uair_node.cases.reader_choice import LIVER, ReaderChoice, target_name
from uair_node.cases.tables import (
    Case,
    Result,
    ResultKind,
    Round,
)
from uair_node.dicom.readers import Reading

CANDIDATE_KINDS = (ResultKind.CANDIDATE, ResultKind.PAGE)
"""Kinds of results that stand for a candidate."""


def check_document(session: Session, verb: Verb, reading: Reading) -> None:
    """Refuse documents that name candidates, but do not choose one.

    Raises
    ------
    InputError
        ``own-object``: the document is a report or rejection note of ours that a PACS sent back.
        ``rejection-note``: the document is another system's rejection note, and the verb is not REJECT.
    """
    own = session.scalar(
        select(Result.kind).where(
            Result.sop_instance_uid == reading.sop_instance_uid,
            Result.kind.not_in([*CANDIDATE_KINDS, ResultKind.FINDING]),
        )
    )
    if own is not None:
        raise InputError(
            OWN_OBJECT,
            f"This is our own {own} object; it chooses no candidate.",
            "Let the archive forward only readers' objects to the AE titles for answers.",
        )
    rejects = reading.title is not None and reading.title.value in REJECTION_TITLES
    if rejects and verb != Verb.REJECT:
        raise InputError(
            "rejection-note",
            "This document is a rejection note.",
            "If none of the four candidates fits, send the document to the AE title for rejections "
            "(UAIR_REJECT).",
        )


def find_candidates(
    session: Session, references: Sequence[str], segments: Mapping[str, Sequence[int]] | None = None
) -> list[Result]:
    """Return our candidates, or their pages, among referenced SOP Instance UIDs.

    Parameters
    ----------
    segments
        Segment numbers of references, see `uair_node.dicom.readers.Reading`.

    Raises
    ------
    InputError
        ``unknown-reference``: no referenced object is ours. ``segment-not-ours``: no referenced object is
        ours, and some references name segments of another segmentation.
    """
    found = results_named(session, references)
    if not found and segments:
        raise InputError(
            "segment-not-ours",
            "The document measures segments of a segmentation that is not ours, and has no graphics.",
            "Send that segmentation to the AE title for starts (UAIR_START), or measure on the images.",
        )
    if not found:
        raise InputError(
            "unknown-reference",
            "This object names none of our candidates.",
            "Send one of the four candidates of the newest round, or a Key Object that references it.",
        )
    return found


def results_named(
    session: Session, references: Sequence[str], kinds: Sequence[ResultKind] = CANDIDATE_KINDS
) -> list[Result]:
    """Return our results of the given kinds among referenced SOP Instance UIDs."""
    named = Result.sop_instance_uid.in_(references), Result.kind.in_(kinds)
    return list(session.scalars(select(Result).where(*named)))


def read_answer(verb: Verb, named: Sequence[Result], segments: Mapping[str, Sequence[int]]) -> ReaderChoice:
    """Decide from which candidate each target is taken.

    If the object names a segment, then the segment's target is taken from the segment's candidate. All other
    targets come from a single candidate: the candidate that the object names as a whole. If no candidate is
    named as a whole, it is the candidate whose liver segment is named. If no liver segment is named, it is
    the candidate with the most named lesions. If several candidates have the most named lesions, the lowest
    candidate number decides.

    Parameters
    ----------
    named
        The candidates and pages that the object names.
    segments
        SOP Instance UID -> segment numbers, for candidates that are named only by segments.

    Raises
    ------
    InputError
        ``ambiguous-selection``: two candidates are named as a whole or for the same target, or only the
        overview is named. ``no-such-segment``: the candidate has no segment of this number.
    """
    if verb == Verb.REJECT:
        return ReaderChoice(None)
    whole = sorted({result.k for result in named if result.sop_instance_uid not in segments})
    if len(whole) > 1:
        raise ambiguous(f"candidates {', '.join(map(str, whole))} at once")
    if whole == [0]:
        raise ambiguous("the overview, which shows all four")
    parts: dict[int, int] = {}
    for result in sorted(named, key=lambda result: result.k):
        for number in segments.get(result.sop_instance_uid, ()):
            target = _target(result, number)
            if parts.setdefault(target, result.k) != result.k:
                raise ambiguous(f"{target_name(target)} of candidates {parts[target]} and {result.k} at once")
    k = whole[0] if whole else main_candidate(parts)
    return ReaderChoice(k, {target: other for target, other in parts.items() if other != k})


def _target(candidate: Result, segment: int) -> int:
    """Return the label value of a candidate's segment."""
    if not 1 <= segment <= len(candidate.targets):
        raise InputError(
            "no-such-segment",
            f"Candidate {candidate.k} has no segment {segment}.",
            "Reference one of the segments that the candidate's SEG has.",
        )
    return candidate.targets[segment - 1]


def main_candidate(parts: Mapping[int, int]) -> int:
    """Return the candidate from which all targets outside of `parts` are taken.

    `parts` maps the label value of a target to its candidate. If `parts` contains the liver, then the result
    is the liver's candidate. Otherwise it is the most frequent candidate in `parts`.
    """
    if LIVER in parts:
        return parts[LIVER]
    ks = list(parts.values())
    return min(set(ks), key=lambda k: (-ks.count(k), k))


def the_case_and_round(session: Session, named: Sequence[Result], study_uid: str) -> tuple[Case, Round]:
    """Lock the case of candidates. Return the case and the candidates' round.

    Parameters
    ----------
    study_uid
        Study Instance UID of the returned object; empty for the command line.

    Raises
    ------
    InputError
        ``other-study``: the object belongs to another study than the case. ``ambiguous-selection``: the
        candidates belong to several rounds.
    """
    case = lock_case(session, named[0].round.case_id)
    rounds = {result.round_id: result.round for result in named}
    if len(rounds) > 1:
        raise ambiguous("candidates of several rounds")
    check_study(case, study_uid)
    return case, named[0].round


def check_study(case: Case, study_uid: str) -> None:
    """Raise the InputError ``other-study`` for an object of another study."""
    if study_uid and study_uid != case.study_instance_uid:
        raise InputError(
            "other-study",
            "The object belongs to another study than the candidate that it names.",
            "Create the object in the study of the candidate, then send it.",
        )


def ambiguous(what: str) -> InputError:
    """Return the error for an object that does not name exactly one case, round and candidate."""
    return InputError(
        "ambiguous-selection",
        f"The object names {what}.",
        "Send exactly one candidate, its page, or a Key Object that references exactly one candidate. "
        "To take a lesion from another candidate, reference the segment of that lesion.",
    )


def no_such_lesion(value: int) -> InputError:
    """Return the error for a lesion that no candidate contains. `value` is its label value."""
    return InputError(
        "no-such-lesion",
        f"No candidate has {target_name(value)}.",
        "Lesions keep their numbers in all candidates; the overview page shows them.",
    )
