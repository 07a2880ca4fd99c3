"""Read the inputs from which a round's objects are written, and give the objects UIDs and origin.

A short transaction reads the inputs. The objects are written outside of this transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from uair_node import __version__
from uair_node.cases import lifecycle
from uair_node.cases.marks import marks_of
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, ResultKind, Round, Selection
from uair_node.context import Context
from uair_node.results.provenance import Provenance
from uair_node.results.uids import result_uid
from uair_node.storage.artifacts import (
    Region,
    StoredCandidate,
    load_candidates,
    load_region,
    taken,
    without_lesions,
)
from uair_node.work.performer import Claim

CANDIDATES_FILE = "candidates.npz"
UNCERTAIN_FILE = "uncertain.npz"
STATE_FILE = "state.npz"
ROUND_FILES = (CANDIDATES_FILE, UNCERTAIN_FILE, STATE_FILE)
"""Files of a computed round in its artifact folder. Only the engine reads `STATE_FILE`."""
START_FILE = "start.npz"
"""The file with the reference of another system from which round 1 started."""
ACCEPTED_FILE = "accepted.npz"
FINDINGS_FILE = "measurements.json"
"""The file with the measurements of an accepted round, in `Round.final_folder`."""


@dataclass(frozen=True)
class RoundInputs:
    """The inputs for the objects of a computed round: series files, artifacts, identity and answer.

    Attributes
    ----------
    case_begun
        Time at which the case was opened.
    uid_root, content_digest
        The seeds of the UIDs of the round's objects. `content_digest` is empty for rounds of an older
        version.
    acquisition
        Name of the case's acquisition; empty if the case has the whole series.
    warnings
        Sentences about possible faults of the series.
    derived_from
        SOP Instance UID of the evidence that started the round; empty for the first round.
    answer
        The reader's choice in this round; None while the round is open.
    dropped
        Label values of the lesions that the reader dropped.
    prior
        The preference with which the round was computed; empty without a preference.
    base_mm
        Label value -> radius in mm of the model's own mean in round 1.
    folder
        Artifact folder of this round. It is only read.
    edit
        Path of the label volume of the reader's edit; None if the answer is no edit.
    answered_folder
        Artifact folder of the round whose candidates the answer names: this round or an older round. It is
        only read.
    own_folder
        The folder of the worker's claim. Only this worker writes there.
    """

    case_digest: str
    case_begun: datetime
    uid_root: str
    content_digest: str
    acquisition: str
    warnings: tuple[str, ...]
    series_paths: tuple[Path, ...]
    round_id: int
    number: int
    folder: Path
    model_name: str
    model_digest: str
    computed_at: datetime
    derived_from: str
    answer: ReaderChoice | None
    dropped: tuple[int, ...]
    prior: Mapping[str, Any]
    base_mm: Mapping[int, float]
    edit: Path | None
    answered_folder: Path
    own_folder: Path

    @property
    def provenance(self) -> Provenance:
        """Model, software and case that every object of this round names as its origin."""
        return Provenance(
            round=self.number,
            model_name=self.model_name,
            model_digest=self.model_digest,
            software_version=__version__,
            case_digest=self.case_digest,
            content_datetime=self.computed_at,
        )

    @property
    def case_provenance(self) -> Provenance:
        """The origin of an object whose series contains objects of all rounds."""
        return replace(self.provenance, series_datetime=self.case_begun)

    def case_series_uid(self, kind: ResultKind) -> str:
        """Return the UID of the case's series that contains the objects of one kind from all rounds."""
        return result_uid(self.uid_root, kind.value, "series of the case")

    def candidates(self) -> list[StoredCandidate]:
        """Load the four label volumes."""
        return load_candidates(self.folder / CANDIDATES_FILE)

    def uncertain(self) -> Region:
        """Load the mask of the uncertain region, `(Z, Y, X)` on the source grid."""
        return load_region(self.folder / UNCERTAIN_FILE)

    def accepted(self) -> StoredCandidate:
        """Load the accepted segmentation: a candidate, targets of several candidates, or the reader's edit.

        It does not contain the lesions that the reader dropped.

        Raises
        ------
        ValueError
            The round is open.
        """
        if self.answer is None:
            raise ValueError(f"round {self.number} is open")
        offered = load_candidates(self.edit or self.answered_folder / CANDIDATES_FILE)
        return without_lesions(taken(offered, self.answer), self.dropped)

    def uids(
        self, kind: ResultKind, k: int, variant: str = "", *, names: Sequence[str] = ()
    ) -> tuple[str, str]:
        """Return SOP Instance UID and Series Instance UID of an object. They are the same in every run.

        The UIDs depend on the input and the result of the round, and on `names`: the UIDs of the instances
        that the object names. If the object follows from the reader's answer, then its UIDs also depend on
        this answer. So objects with different content have different UIDs.
        """
        identity = (self.uid_root, self.model_digest, self.number, k, kind.value)
        more = [variant] if variant else []
        if self.content_digest:
            more += [self.content_digest, *names]
            if kind not in lifecycle.OFFERED_KINDS and self.answer is not None:
                more += [self.answer.words, self.edit.name if self.edit else ""]
                more += [f"without {value}" for value in self.dropped]
                if self.answered_folder != self.folder:
                    more.append(self.answered_folder.name.partition(".")[0])  # without the claim
        return result_uid(*identity, *more, "instance"), result_uid(*identity, *more, "series")


def read_round_inputs(context: Context, claim: Claim) -> RoundInputs:
    """Read the inputs of the round that a claimed work item names."""
    with context.database.reading() as session:
        case = session.get_one(Case, claim.case_id)
        round_ = next(r for r in case.rounds if r.number == claim.round_number)
        assert round_.computed_at is not None, "publication becomes due when a round is computed"
        started_by = session.get(Selection, round_.selection_id) if round_.selection_id else None
        answer = lifecycle.effective_selection(session, case, round_.number)
        answered = next((r for r in case.rounds if answer and r.number == answer.candidates_round), round_)
        base_mm, series = case.rounds[0].base_mm, [instance.path for instance in case.instances]
    own_folder = context.store.round_folder(case.id, round_.number, claim.token)
    return RoundInputs(
        case_digest=case.digest,
        case_begun=case.created_at,
        uid_root=case.uid_root,
        content_digest=round_.content_digest,
        acquisition=case.acquisition,
        warnings=tuple(case.warnings.splitlines()),
        series_paths=context.store.fetch_all(series),
        round_id=round_.id,
        number=round_.number,
        folder=_folder(context, round_, own_folder, CANDIDATES_FILE, UNCERTAIN_FILE),
        model_name=round_.model_name,
        model_digest=round_.model_digest,
        computed_at=round_.computed_at,
        derived_from=started_by.evidence_uid if started_by else "",
        answer=answer.answer if answer else None,
        dropped=_dropped(answer),
        prior=round_.prior or {},
        base_mm={int(value): mm for value, mm in base_mm.items()},
        edit=context.store.fetch(answer.artifact) if answer and answer.artifact else None,
        answered_folder=_folder(context, answered, own_folder, CANDIDATES_FILE),
        own_folder=own_folder,
    )


def _dropped(selection: Selection | None) -> tuple[int, ...]:
    marks = marks_of(selection.marks) if selection else None
    return marks.dropped if marks else ()


def _folder(context: Context, round_: Round, own_folder: Path, *names: str) -> Path:
    """Return the folder with a round's files; the claim's own folder if the round has no artifacts."""
    return context.store.fetch_folder(round_.artifacts, names) if round_.artifacts else own_folder
