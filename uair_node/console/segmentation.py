"""The page of a case's segmentation: solid and slices, measurements, history, and the patient's studies.

This module chooses the segmentation and its texts. `drawings` draws the pictures, `exports` makes the files.
The page works without JavaScript: links choose the content, and pictures are still.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session
from starlette.responses import Response

from dicom_config import codes
from dicom_config.errors import InputError
from dicom_config.modalities import PROFILES
from dicom_config.model import Verb
from dicom_config.quantities import Quantity
from uair_node.cases import lifecycle
from uair_node.cases.reader_choice import LIVER as LIVER_LABEL
from uair_node.cases.reader_choice import part_name, target_name
from uair_node.cases.tables import Case, ResultKind, Round, Selection
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.exports import NUMBERS, SEGMENTATIONS
from uair_node.console.studies import Study, findings_at, plot, studies_of
from uair_node.console.views import ACCEPTED, RoundView, is_finished
from uair_node.delivery.outstanding import final_outstanding
from uair_node.findings.follow_up import Link
from uair_node.findings.record import Findings, Value, Values
from uair_node.operations import reports
from uair_node.storage.artifacts import label_values

_UNITS = {"mm2": "mm²", "1": "", "{lesions}": ""} | {
    profile.unit.code.value: profile.unit.name for profile in PROFILES.values()
}
_DECIMALS = {"sphericity": 2, "irregularity": 2, "liver": 0, "parenchyma": 0, "mean": 0}
"""Decimals of quantities that are not shown with one decimal."""
_SUMMARY = ("volume", "long", "short", "largest", "mean", "sphericity", "irregularity")
"""Columns of the short table of lesions."""


@dataclass(frozen=True)
class ShownSegmentation:
    """A segmentation that the page can show: a candidate, or the accepted segmentation (k is `ACCEPTED`)."""

    k: int
    title: str
    volumes_ml: Mapping[str, object]
    mark: str = ""


@dataclass(frozen=True)
class HistoryRound:
    """A round in the history: the offered candidates, and the reader's answer."""

    round: Round
    choices: Sequence[ShownSegmentation]
    said: Selection | None


@dataclass(frozen=True)
class Number:
    """A line of the table of measurements. The table has the numbers and the order of the CSV file."""

    target: str
    quantity: Quantity
    found: Value

    @property
    def value(self) -> str:
        """The number with the decimals of CSV file and report."""
        return self._written(self.found.value, self.quantity.decimals)

    @property
    def interval(self) -> str:
        """The interval as "1.2 to 1.4"; empty if there is no interval."""
        return self._bounds(self.quantity.decimals)

    @property
    def rounded(self) -> str:
        """The number rounded to the digits that a person reads."""
        return self._written(self.found.value, self._decimals)

    @property
    def rounded_interval(self) -> str:
        """The interval rounded to the digits of `rounded`."""
        return self._bounds(self._decimals)

    @property
    def unit(self) -> str:
        """The unit in its usual form."""
        return _UNITS.get(self.quantity.unit.value, self.quantity.unit.value)

    @property
    def _decimals(self) -> int:
        return min(self.quantity.decimals, _DECIMALS.get(_stem(self.quantity.key), 1))

    def _bounds(self, decimals: int) -> str:
        if self.found.low is None or self.found.high is None:
            return ""
        return f"{self._written(self.found.low, decimals)} to {self._written(self.found.high, decimals)}"

    def _written(self, number: float, decimals: int) -> str:
        return f"{number:.{decimals}f}"


@dataclass(frozen=True)
class Story:
    """The history of a case and its patient, from the database and the stored measurements."""

    case: Case
    turns: Sequence[HistoryRound]
    findings: Findings | None
    studies: Sequence[Study]
    missing: str


def show_segmentation(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Show the page. `?round=2&candidate=3&slice=57` chooses the content; the default is the newest round."""
    story = _story(console, request.path["case_id"])
    case, turn = story.case, _asked_for(request, story.turns)
    view = console.views.view(case.id, turn.round.number)
    turn = replace(turn, choices=[option for option in turn.choices if option.k in view.labels])
    wanted = request.query.get("candidate")
    choice = next((option for option in turn.choices if str(option.k) == wanted), turn.choices[0])
    console.note(request, "view segmentation", f"case {case.id}")
    others = [str(study.case_id) for study in story.studies if study.case_id not in (case.id, None)]
    if others:
        console.note(request, "view time line", f"cases {' '.join(others)}")
    return console.page(
        "segmentation.html",
        request,
        title=f"Segmentation of case {case.id}",
        case=case,
        missing=story.missing,
        turns=story.turns,
        turn=turn,
        choice=choice,
        slices=view.canonical.shape[0],
        planes=view.planes,
        slice=_slice(request, view),
        structures=_structures(view),
        plane=_plane(view),
        liver=_liver(story.findings),
        lesions=_lesions(story.findings),
        summary=_summary(story.findings),
        studies=story.studies,
        follow_up=story.findings.follow_up if story.findings else None,
        changes=_changes(story.findings),
        marks=plot(story.studies) if len(story.studies) > 1 else (),
        numbers=NUMBERS,
        exports=SEGMENTATIONS,
    )


def _story(console: ConsoleApp, case_id: int) -> Story:
    with console.context.database.reading() as session:
        case = reports.get_case(session, case_id)
        turns = [
            _turn(session, case, round_) for round_ in case.rounds if round_.computed_at and round_.artifacts
        ]
        if not turns:
            raise InputError(
                "no-such-page",
                f"Case {case.id} has no segmentation that can be shown.",
                "Wait for the first round of the case. If retention deleted the segmentations, look for "
                "the results of the case in the archive.",
            )
        finished = is_finished(turns[-1].round)
        findings = findings_at(console.context, case) if finished else None
        missing = final_outstanding(session, [case]).get(case.id, "")
        return Story(case, turns, findings, studies_of(console.context, session, case), missing)


def _turn(session: Session, case: Case, round_: Round) -> HistoryRound:
    said = lifecycle.effective_selection(session, case, round_.number)
    here = said if said is not None and said.candidates_round == round_.number else None
    choices = [
        ShownSegmentation(candidate.k, candidate.character, candidate.volumes_ml, _mark(candidate.k, here))
        for candidate in round_.candidates
    ] or [ShownSegmentation(k, "", {}) for k in (1, 2, 3, 4)]  # computed, not yet published
    if is_finished(round_):
        final = next(result for result in round_.results if result.kind == ResultKind.FINAL)
        choices.insert(0, ShownSegmentation(ACCEPTED, "accepted", final.volumes_ml))
    return HistoryRound(round_, choices, said)


def _mark(k: int, said: Selection | None) -> str:
    """Return the words that mark candidate `k` as chosen, or that name the parts from this candidate."""
    if said is None:
        return ""
    answer = said.answer
    parts = [target_name(value) for value, other in sorted(answer.per_target.items()) if other == k]
    parts += [part_name(*part) for part, other in sorted(answer.per_part.items()) if other == k]
    if k == answer.k:
        return "accepted" if said.verb == Verb.ACCEPT else "picked"
    return f"{', '.join(parts)} taken" if parts else ""


def _asked_for(request: ConsoleRequest, turns: Sequence[HistoryRound]) -> HistoryRound:
    wanted = request.query.get("round")
    return next((turn for turn in turns if str(turn.round.number) == wanted), turns[-1])


def _slice(request: ConsoleRequest, view: RoundView) -> int:
    """Return the number of the shown slice, from 1."""
    text = request.query.get("slice", "")
    number = int(text) if text.isdecimal() and len(text) < 6 else view.key_slice + 1
    return min(max(1, number), view.canonical.shape[0])


def _structures(view: RoundView) -> list[tuple[int, str, str]]:
    """Return label value, name and colour of each structure in any segmentation of a round."""
    values = sorted(
        {LIVER_LABEL, *(value for label in view.labels.values() for value in label_values(label))}
    )
    return [(value, target_name(value), _hex(value)) for value in values]


def _plane(view: RoundView) -> str:
    """Return the corners of the lowest slice in the solid, and the step to the next slice, in LPS mm."""
    step = view.canonical.affine[:3, 0]
    return json.dumps({"corners": view.plane_corners.round(3).tolist(), "step": step.round(5).tolist()})


def _hex(value: int) -> str:
    colour = codes.LIVER_COLOUR if value == LIVER_LABEL else codes.lesion_colour(value - LIVER_LABEL)
    return "#{:02x}{:02x}{:02x}".format(*colour.rgb)


def _liver(findings: Findings | None) -> list[Number]:
    if findings is None:
        return []
    kind = findings.quantities
    return [
        *_numbers("liver", kind.liver, findings.liver),
        *_numbers("liver", kind.parenchyma, findings.parenchyma),
    ]


def _lesions(findings: Findings | None) -> list[list[Number]]:
    """Return the numbers of each lesion."""
    if findings is None:
        return []
    kind = findings.quantities.lesion
    return [_numbers(f"lesion {lesion.number}", kind, lesion.values) for lesion in findings.lesions]


def _summary(findings: Findings | None) -> list[Quantity]:
    """Return the quantities that the short table of lesions shows."""
    return (
        [quantity for quantity in findings.quantities.lesion if _stem(quantity.key) in _SUMMARY]
        if findings
        else []
    )


def _stem(key: str) -> str:
    """Return a key without its unit: "long", "mean"."""
    return key.partition("_")[0]


def _changes(findings: Findings | None) -> list[tuple[str, Link]]:
    """Return the change of each lesion since the study before, with its present number or "–"."""
    if findings is None or findings.follow_up is None:
        return []
    names = {lesion.tracking_uid: str(lesion.number) for lesion in findings.lesions}
    links = [(names.get(change.tracking_uid, "–"), change) for change in findings.follow_up.links]
    return sorted(links, key=lambda link: (link[0] == "–", link[0].zfill(3)))


def _numbers(target: str, quantities: Sequence[Quantity], values: Values) -> list[Number]:
    return [
        Number(target, quantity, values[quantity.key]) for quantity in quantities if quantity.key in values
    ]
