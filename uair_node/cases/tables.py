"""The database tables. They contain the whole state. The broker's messages contain only ids of work items.

Times are in UTC without a time zone, because SQLite stores no time zone. No table contains patient names or
Patient IDs. A case is found by accession number or UID. The earlier cases of its patient are found by a keyed
digest of the Patient ID.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Enum,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dicom_config.model import Verb
from uair_node.cases.clock import present
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState

Uid = String(64)


def utc_now() -> datetime:
    """Return the present time of this machine, in UTC without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _words(kind: type[StrEnum], length: int) -> Enum:
    """Return a column type that stores a StrEnum as its text."""
    return Enum(
        kind, native_enum=False, length=length, values_callable=lambda members: [m.value for m in members]
    )


class Base(DeclarativeBase):
    """Base class of the mapped classes."""

    type_annotation_map = {dict[str, Any]: JSON, list[int]: JSON}  # noqa: RUF012 - SQLAlchemy reads a plain dict


class InstanceStatus(StrEnum):
    """The outcome of a received instance."""

    STORED = "stored"  # part of a series
    SELECTION = "selection"  # an object that was sent to the AE title of a verb
    NOTE = "note"  # a rejection note about images
    OWN = "own"  # a result of ours that a peer sent back; it starts no work
    REPLACED = "replaced"  # an earlier version; a newer instance has the same UID and other bytes
    QUARANTINED = "quarantined"  # no case is known for it


_LOOSE = text("status <> 'stored'")


class Instance(Base):
    """A received SOP instance. Its file at `path` is on disk before the row exists."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "sha256"),
        Index("ix_instances_loose_received", "received_at", sqlite_where=_LOOSE, postgresql_where=_LOOSE),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    series_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    study_instance_uid: Mapped[str] = mapped_column(Uid)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    size: Mapped[int]
    status: Mapped[InstanceStatus] = mapped_column(_words(InstanceStatus, 16))
    calling_ae: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime] = mapped_column(default=present())

    @classmethod
    def is_loose(cls) -> ColumnElement[bool]:
        """Return the SQL condition that an instance belongs to no series, in the form of the index."""
        return cls.status != literal_column("'stored'")


class RejectedInstance(Base):
    """A source image that a rejection note names.

    `sha256` is empty if the image was unknown when the note arrived.
    """

    __tablename__ = "rejected_instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    title: Mapped[str] = mapped_column(String(16))  # DCM code of the note's title
    note_uid: Mapped[str] = mapped_column(Uid)
    received_at: Mapped[datetime] = mapped_column(default=present())


class Case(Base):
    """One series on its way to an accepted segmentation. Series UID and digest identify it."""

    __tablename__ = "cases"
    __table_args__ = (
        Index("ix_cases_state_code", "state", "code"),
        Index("ix_cases_state_updated", "state", "updated_at"),
        Index("ix_cases_calling_ae_last", "calling_ae", "last_instance_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    study_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    uid_scheme: Mapped[int] = mapped_column(default=2)  # method for the UIDs of its results, see `uid_root`
    # Name of the case's acquisition if the series has several acquisitions.
    acquisition: Mapped[str] = mapped_column(String(255), default="", server_default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)
    digest: Mapped[str] = mapped_column(String(64), default="")
    patient_key: Mapped[str] = mapped_column(String(64), default="", index=True)  # see `patient_keys`
    state: Mapped[CaseState] = mapped_column(_words(CaseState, 24), default=CaseState.RECEIVING)
    instance_count: Mapped[int] = mapped_column(default=0)  # received instances; from READY on, slices
    calling_ae: Mapped[str] = mapped_column(String(16), default="")
    code: Mapped[str] = mapped_column(String(64), default="")
    sentence: Mapped[str] = mapped_column(Text, default="")
    remedy: Mapped[str] = mapped_column(Text, default="")
    assumed: Mapped[str] = mapped_column(Text, default="")
    warnings: Mapped[str] = mapped_column(Text, default="", server_default="")  # one sentence per line
    created_at: Mapped[datetime] = mapped_column(default=present())
    last_instance_at: Mapped[datetime] = mapped_column(default=present())
    updated_at: Mapped[datetime] = mapped_column(default=present())

    rounds: Mapped[list[Round]] = relationship(back_populates="case", order_by="Round.number")
    instances: Mapped[list[Instance]] = relationship(secondary="case_instances")
    transitions: Mapped[list[Transition]] = relationship(order_by="Transition.id")

    @property
    def uid_root(self) -> str:
        """The seed of the UIDs of the case's results.

        In scheme 1, the seed is the digest. So the UIDs are the same if a series is sent again. In scheme 2,
        the seed also contains the case's time of creation.
        """
        return self.digest if self.uid_scheme == 1 else f"{self.digest}/{self.created_at.isoformat()}"

    @property
    def current_round(self) -> Round | None:
        """The newest round; None before the first round."""
        return self.rounds[-1] if self.rounds else None

    @property
    def offered_round(self) -> Round | None:
        """The newest round whose candidates are published; None before the first publication."""
        return next((turn for turn in reversed(self.rounds) if turn.candidates), None)


class CaseInstance(Base):
    """An instance that a case had when the case became READY."""

    __tablename__ = "case_instances"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), primary_key=True, index=True)


class Round(Base):
    """One round of a case. `selection_id` is the answer that started the round; None for the first round.

    A later round starts from the candidates of its selection's `candidates_round`.
    """

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("case_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    number: Mapped[int]
    selection_id: Mapped[int | None] = mapped_column(ForeignKey("selections.id"), index=True)
    model_name: Mapped[str] = mapped_column(String(64), default="")
    model_digest: Mapped[str] = mapped_column(String(64), default="")
    artifacts: Mapped[str] = mapped_column(Text, default="")
    content_digest: Mapped[str] = mapped_column(String(64), default="")  # of all inputs of its results
    created_at: Mapped[datetime] = mapped_column(default=present())
    computed_at: Mapped[datetime | None] = mapped_column(index=True)
    published_at: Mapped[datetime | None] = mapped_column(index=True)
    compute_seconds: Mapped[float | None]
    prior: Mapped[dict[str, Any] | None] = mapped_column(default=None)  # preference; None: not yet decided
    base_mm: Mapped[dict[str, Any]] = mapped_column(default=dict)  # label value -> radius of the model's mean
    parts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # label value -> names of a target's parts

    case: Mapped[Case] = relationship(back_populates="rounds")
    results: Mapped[list[Result]] = relationship(back_populates="round", order_by="Result.k, Result.id")

    @property
    def candidates(self) -> list[Result]:
        """The published candidates in the order of k. Each candidate is the row of its first SEG variant."""
        first: dict[int, Result] = {}
        for result in self.results:
            if result.kind == ResultKind.CANDIDATE:
                first.setdefault(result.k, result)
        return list(first.values())

    @property
    def final_folder(self) -> str:
        """The folder of the accepted segmentation's files, relative to the data folder.

        The path is empty if there is no accepted segmentation. The folder belongs to the claim of the job
        that wrote the final objects. It is not the folder of `artifacts`.
        """
        finals = [result.path for result in self.results if result.kind == ResultKind.FINAL]
        return finals[0].rpartition("/")[0] if finals else ""


class ResultKind(StrEnum):
    """The kind of a result object."""

    CANDIDATE = "candidate"
    PAGE = "page"  # a picture of a candidate, or (k = 0) of all four
    FINDING = "finding"  # a picture of lesion k in all four candidates; a pick of it drops the lesion
    FINAL = "final"  # the accepted segmentation
    FINAL_PAGE = "final-page"  # a picture of the accepted segmentation
    STRUCTURES = "structures"  # the accepted segmentation as RT Structure Set
    REPORT = "report"
    NOTICE = "notice"  # a picture in the study with the outcome of a selection
    WITHDRAWAL = "withdrawal"  # the rejection note for results that are no longer valid


class Result(Base):
    """A DICOM object of ours. Its UID depends on case, model, round, k, kind and content only."""

    __tablename__ = "results"

    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), index=True)
    kind: Mapped[ResultKind] = mapped_column(_words(ResultKind, 16))
    k: Mapped[int]
    sop_instance_uid: Mapped[str] = mapped_column(Uid, unique=True)
    series_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    path: Mapped[str] = mapped_column(Text)
    character: Mapped[str] = mapped_column(Text, default="")
    volumes_ml: Mapped[dict[str, Any]] = mapped_column(default=dict)
    targets: Mapped[list[int]] = mapped_column(default=list)  # label values of a SEG's segments 1, 2, …

    round: Mapped[Round] = relationship(back_populates="results")


class TargetKind(StrEnum):
    """The kind of target to which a reader's preference refers."""

    LIVER = "liver"
    LESION = "lesion"


class Observation(Base):
    """An observation of a preference in an accepted case.

    `difference_mm` is the accepted radius minus the mean radius of the model's own segmentation.
    """

    __tablename__ = "observations"
    __table_args__ = (UniqueConstraint("case_id", "kind"), Index("ix_observations_key", "scope", "key"))

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"))
    scope: Mapped[str] = mapped_column(String(16))  # `engine.preference` when the case was accepted
    key: Mapped[str] = mapped_column(String(16))  # AE title
    kind: Mapped[TargetKind] = mapped_column(_words(TargetKind, 8))
    difference_mm: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=present())


class SelectionOutcome(StrEnum):
    """The outcome of a selection."""

    EFFECTIVE = "effective"
    REPEATED = "repeated"  # equal to an answer that already took effect
    REPLACED = "replaced"  # took effect until another answer to the same round replaced it
    REFUSED = "refused"
    HELD = "held"  # a part of an answer that waits for further parts
    JOINED = "joined"  # took effect together with the effective selection


MARKS = "marks"
"""Mechanism of a selection that consists of drawn marks."""


class Selection(Base):
    """A reader's selection with its evidence. A refused selection keeps its reason."""

    __tablename__ = "selections"
    __table_args__ = (
        Index(
            "ix_selections_effective",
            "case_id",
            "round_number",
            unique=True,
            sqlite_where=text("outcome = 'effective'"),
            postgresql_where=text("outcome = 'effective'"),
        ),
        Index("ix_selections_outcome_verb_code", "outcome", "verb", "code"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int | None] = mapped_column(ForeignKey("cases.id"), index=True)
    round_number: Mapped[int | None]  # the round that the selection answers
    candidates_round: Mapped[int | None]  # the round of the named candidates: the same or an older round
    verb: Mapped[str] = mapped_column(String(8))
    picked: Mapped[int | None]
    per_target: Mapped[dict[str, Any]] = mapped_column(default=dict)  # `ReaderChoice.stored`
    mechanism: Mapped[str] = mapped_column(String(16))
    evidence_uid: Mapped[str] = mapped_column(Uid, default="", index=True)
    evidence_sha256: Mapped[str] = mapped_column(String(64), default="")  # of the object; empty without one
    artifact: Mapped[str] = mapped_column(Text, default="")  # path of the reader's edited label volume
    marks: Mapped[dict[str, Any] | None] = mapped_column(default=None)  # `Marks.record`; None without marks
    calling_ae: Mapped[str] = mapped_column(String(16), default="")
    outcome: Mapped[SelectionOutcome] = mapped_column(_words(SelectionOutcome, 12))
    code: Mapped[str] = mapped_column(String(64), default="")
    sentence: Mapped[str] = mapped_column(Text, default="")
    remedy: Mapped[str] = mapped_column(Text, default="")
    received_at: Mapped[datetime] = mapped_column(default=present())

    @property
    def words(self) -> str:
        """The answer in words: "candidate 3", "report of marks", "changed findings"."""
        if self.verb == Verb.START.value:
            return "another system's segmentation"
        if self.marks is None:
            return self.answer.words
        marked = "report of marks" if self.mechanism == MARKS else "changed findings"
        return f"{self.answer.words}, {marked}" if self.marks["picked"] else marked

    @property
    def answer(self) -> ReaderChoice:
        """The answer of this selection."""
        return ReaderChoice.from_stored(self.picked, self.per_target)

    @answer.setter
    def answer(self, said: ReaderChoice) -> None:
        self.picked, self.per_target = said.k, said.stored


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    STORED = "stored"  # the peer has stored it, but its storage commitment is outstanding
    CONFIRMED = "confirmed"
    PARKED = "parked"  # the peer refused it permanently; `reason` has the reason


class Delivery(Base):
    """One result that must reach one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("result_id", "destination"),
        Index("ix_deliveries_state_destination", "state", "destination", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[DeliveryState] = mapped_column(_words(DeliveryState, 12), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(default=present())
    sent_at: Mapped[datetime | None]  # committed before the object is first sent
    confirmed_at: Mapped[datetime | None] = mapped_column(index=True)
    transaction_uid: Mapped[str] = mapped_column(Uid, default="", index=True)
    commitment_asked_at: Mapped[datetime | None]

    result: Mapped[Result] = relationship()


class Transition(Base):
    """One row of the audit: a case changed from one state to another, with actor and reason."""

    __tablename__ = "transitions"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), index=True)
    origin: Mapped[CaseState | None] = mapped_column(_words(CaseState, 24))
    state: Mapped[CaseState] = mapped_column(_words(CaseState, 24))
    actor: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(default=present())


class WorkKind(StrEnum):
    """The kind of a work item. Each kind has its own task."""

    COMPUTE = "compute"  # a round's four label volumes
    PUBLISH = "publish"  # a round's segmentations
    PAGES = "pages"  # a round's pictures
    NOTICES = "notices"  # the notices for a reader in the study
    FINISH = "finish"  # the final objects of an accepted case
    WITHDRAW = "withdraw"  # the rejection note for all results of a case
    CLOSE_ROUNDS = "close-rounds"  # the rejection note for the candidates of closed rounds
    DELIVER = "deliver"  # all pending deliveries to one destination
    COMMIT = "commit"  # storage commitment for the objects that one destination stored


class WorkItem(Base):
    """A piece of work that is due.

    The transaction that makes the work due also writes the item. The transaction that stores the outcome also
    closes the item.

    A message in the broker contains only `id`. A worker claims the item with a lease and renews the lease. If
    the lease has ended or the message was lost, then the node's loop enqueues the item again.
    """

    __tablename__ = "work_items"
    __table_args__ = (UniqueConstraint("kind", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[WorkKind] = mapped_column(_words(WorkKind, 12))
    subject: Mapped[str] = mapped_column(String(96))
    case_id: Mapped[int | None] = mapped_column(ForeignKey("cases.id"), index=True)
    round_number: Mapped[int | None]
    open: Mapped[bool] = mapped_column(default=True, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    enqueued_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(96), default="")
    lease_until: Mapped[datetime | None]
    cause: Mapped[str] = mapped_column(Text, default="")
