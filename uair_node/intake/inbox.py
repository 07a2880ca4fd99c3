"""Receive an instance: write its bytes to the spool, add its row, and act by the called AE title.

The listener responds to C-STORE with 0000 only after `Inbox.receive` has returned. At that time, the bytes
are on disk and the transaction is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from io import BytesIO

from pydicom.dataset import Dataset
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dicom_config.codes import REJECTION_TITLES, SelectionClass
from dicom_config.contexts import DOCUMENT_CLASSES, SELECTION_SOP_CLASSES
from dicom_config.errors import InputError, TransientError
from dicom_config.model import Verb
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, Result, SelectionOutcome
from uair_node.context import Context
from uair_node.dicom.readers import MECHANISMS, read_selection
from uair_node.dicom.structure import plain_file
from uair_node.intake.other_objects import OtherObjects, is_other
from uair_node.intake.received_data import identify, parse, tagged_words
from uair_node.intake.register import Arrival, GroupCommit, Identity, register
from uair_node.intake.returned_object import Refused, Usable, answer, judge, take_edit
from uair_node.intake.source_rejection import reject_sources
from uair_node.network.scp import ReceivedInstance
from uair_node.network.store_status import StoreStatus
from uair_node.selection.service import AnswerChangedError, Evidence, note_repetition
from uair_node.selection.start import take_start
from uair_node.storage.spool import Spool, SpooledFile

log = logging.getLogger(__name__)

_TRIES = 5
"""The most tries to apply an object's marks. A try fails if another answer comes meanwhile."""
_REMEMBERED = 1000
"""The most associations and studies with a remembered refusal. A remembered refusal is not repeated."""
_CUT_OFF = "The sender aborted an association while this series arrived: slices may be missing at an end."


@dataclass(frozen=True)
class _Rejection:
    """The code of a rejection note's title, and the SOP Instance UIDs that the note rejects."""

    title: str
    references: Sequence[str]


_BeginWrite = Callable[[], AbstractContextManager[Callable[[], SpooledFile | None]]]
"""A function that begins to write an object's bytes to the spool, such as `Spool.staged`."""


@contextmanager
def _not_kept() -> Iterator[Callable[[], None]]:
    """Replace `Spool.staged` without writing, for an object that the node does not keep."""
    yield lambda: None


class Inbox:
    """Receives the instances of the listener.

    Parameters
    ----------
    context
        The settings, database and data folder.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spool = Spool(context.store.spool, context.settings.intake.min_free_bytes)
        self._spool.clean()
        self._others = OtherObjects(context)
        self._refused_classes: dict[tuple[str, str], None] = {}
        self._coming: dict[str, str] = {}
        self._cut_off: set[str] = set()
        self._register: GroupCommit[Arrival] = GroupCommit(partial(register, context))

    def receive(self, received: ReceivedInstance) -> StoreStatus | None:
        """Keep an instance and act by its verb. Return None if the instance is kept.

        Otherwise, return the status for the C-STORE response. Three kinds of instances are not kept:
        instances that the configuration excludes, documents without a request, and documents whose request is
        refused. Archives forward every measurement, and these documents must not fill the disk.

        Raises
        ------
        InputError
            ``unreadable-instance``: the data set is damaged or lacks one of the four UIDs.
            ``instance-too-complex``: see `uair_node.dicom.structure.require_bounded`.
        ResourceError
            ``disk-low``, ``disk-full``.
        TransientError
            ``database-unavailable``.
        """
        plain = replace(received, data=plain_file(received.data))
        identity = identify(plain)
        if is_other(identity.sop_class_uid) and not self._others.admit(len(received.data)):
            if received.verb != Verb.STORE:
                self._select(plain, identity, sha256(received.data).hexdigest(), _not_kept)
            return StoreStatus.ELEMENTS_DISCARDED
        content = (identity.series_instance_uid, identity.sop_instance_uid, received.data)
        verb = self._verb(plain, identity)
        if verb != Verb.STORE:
            digest = sha256(received.data).hexdigest()
            begin_write = partial(self._spool.staged, *content)
            return self._select(replace(plain, verb=verb), identity, digest, begin_write)
        rejection = _rejection(plain, identity)
        if rejection is None and self._asks_nothing(identity):
            log.info("a document without a request is not kept")
            return StoreStatus.ELEMENTS_DISCARDED
        arrival = Arrival(identity, self._spool.write(*content), received.calling_ae)
        if rejection is None or not self._take_rejection(rejection, arrival):
            self._register.add(arrival)
            self._coming[received.association] = identity.series_instance_uid
        return None

    def association_ended(self, association: str, aborted: bool) -> None:
        """If an association was aborted, record in the receiving case that its series may be incomplete.

        If a later association of the same series is released, then this record is cleared.

        Parameters
        ----------
        association
            The name of the association, as in `ReceivedInstance`.
        aborted
            Whether the association ended without a release.
        """
        series = self._coming.pop(association, None)
        if series is None or not (aborted or series in self._cut_off):
            return
        receiving = Case.series_instance_uid == series, Case.state == CaseState.RECEIVING
        with self._context.database.transaction() as session:
            session.execute(update(Case).where(*receiving).values(warnings=_CUT_OFF if aborted else ""))
        (self._cut_off.add if aborted else self._cut_off.discard)(series)
        if len(self._cut_off) > _REMEMBERED:
            self._cut_off.pop()

    def _verb(self, received: ReceivedInstance, identity: Identity) -> Verb:
        """Return the verb of an instance. The called AE title states the verb, or a tag on the store AE.

        A tag is a configured word in the object's description or label. A tag on an object of ours counts
        only if these words were changed. So an own object that a PACS forwards unchanged never starts work.
        """
        if received.verb != Verb.STORE or identity.sop_class_uid not in SELECTION_SOP_CLASSES:
            return received.verb
        words = tagged_words(BytesIO(received.data))
        tagged = self._context.settings.node.tags.verb_in(words)
        if tagged is None:
            return Verb.STORE
        with self._context.database.reading() as session:
            path = session.scalar(
                select(Result.path).where(Result.sop_instance_uid == identity.sop_instance_uid)
            )
        unchanged = path is not None and words == tagged_words(self._context.store.fetch(path))
        return Verb.STORE if unchanged else tagged

    def _take_rejection(self, rejection: _Rejection, arrival: Arrival) -> bool:
        """Apply a rejection note about images. Return False without a change if the note is our own."""
        identity = arrival.identity
        own = select(Result.id).where(Result.sop_instance_uid == identity.sop_instance_uid)
        with self._context.database.transaction() as session:
            if session.scalar(own) is not None:
                return False
            if not self._known(session, identity, arrival.file):
                session.add(Instance(**arrival.row(self._context, InstanceStatus.NOTE)))
            reject_sources(session, identity.sop_instance_uid, rejection.title, rejection.references)
        return True

    def _asks_nothing(self, identity: Identity) -> bool:
        """Return whether an object on the store AE is another system's document, without a request.

        The caller has already processed rejection notes.
        """
        if identity.sop_class_uid not in DOCUMENT_CLASSES:
            return False
        own = select(Result.id).where(Result.sop_instance_uid == identity.sop_instance_uid)
        with self._context.database.reading() as session:
            return session.scalar(own) is None

    def _select(
        self, received: ReceivedInstance, identity: Identity, digest: str, begin_write: _BeginWrite
    ) -> StoreStatus | None:
        dataset = parse(received.data)
        evidence = Evidence(
            verb=received.verb,
            mechanism=_mechanism(identity),
            calling_ae=received.calling_ae,
            evidence_uid=identity.sop_instance_uid,
            evidence_sha256=digest,
            study_uid=identity.study_instance_uid,
        )
        if evidence.verb == Verb.START:
            self._start(received, identity, dataset, evidence, begin_write)
            return None
        for _ in range(_TRIES):
            try:
                return self._apply(received, identity, dataset, evidence, begin_write)
            except AnswerChangedError:
                continue
        raise TransientError(
            "case-changed",
            "Other answers to the same round came at the same moment.",
            "Send the object again.",
        )

    def _apply(
        self,
        received: ReceivedInstance,
        identity: Identity,
        dataset: Dataset,
        evidence: Evidence,
        begin_write: _BeginWrite,
    ) -> StoreStatus | None:
        """Read a returned object and apply it. It raises the AnswerChangedError of `select_by_marks`.

        A document is kept if it has an effect. If a document is refused, then only the reason is kept. The
        document's bytes are on disk before the transaction begins. The transaction only renames the file.
        """
        # Files are read before the transaction, because it locks the database.
        judged = judge(self._context, received, identity, dataset)
        is_document = identity.sop_class_uid in DOCUMENT_CLASSES
        if is_document and isinstance(judged, Refused):
            begin_write = _not_kept
        with begin_write() as keep:
            file = None if is_document else keep()
            with self._context.database.transaction() as session:
                if file is not None:
                    self._add(session, received, identity, file)
                if self._was_refused_before(received, identity) or note_repetition(session, evidence):
                    return None
                row = answer(session, evidence, judged)
                if is_document:
                    if row is not None and row.outcome == SelectionOutcome.REFUSED:
                        return StoreStatus.ELEMENTS_DISCARDED
                    file = keep()
                    if file is not None:
                        self._add(session, received, identity, file)
        if isinstance(judged, Usable) and judged.edited is not None:
            take_edit(self._context, dataset, evidence, judged.reading, judged.edited)
        return None

    def _start(
        self,
        received: ReceivedInstance,
        identity: Identity,
        dataset: Dataset,
        evidence: Evidence,
        begin_write: _BeginWrite,
    ) -> None:
        with begin_write() as keep:
            file = keep()
        with self._context.database.transaction() as session:
            if file is not None:
                self._add(session, received, identity, file)
            if self._was_refused_before(received, identity) or note_repetition(session, evidence):
                return
        take_start(self._context, dataset, evidence, file.path if file else None)

    def _was_refused_before(self, received: ReceivedInstance, identity: Identity) -> bool:
        """Return whether the same association already got a refusal for an object that cannot be an answer.

        If a peer sends a whole study to the AE title of a verb, then it gets a single refusal. Without this
        rule, it would get a refusal for each slice.
        """
        if identity.sop_class_uid in SELECTION_SOP_CLASSES or not received.association:
            return False
        key = received.association, identity.study_instance_uid
        if key in self._refused_classes:
            return True
        self._refused_classes[key] = None
        if len(self._refused_classes) > _REMEMBERED:
            self._refused_classes.pop(next(iter(self._refused_classes)), None)
        return False

    def _add(
        self, session: Session, received: ReceivedInstance, identity: Identity, file: SpooledFile
    ) -> None:
        """Add a selection's row, unless the bytes are known or another association adds them meanwhile."""
        if self._known(session, identity, file):
            return
        arrival = Arrival(identity, file, received.calling_ae)
        try:
            with session.begin_nested():
                session.add(Instance(**arrival.row(self._context, InstanceStatus.SELECTION)))
        except IntegrityError:
            log.info("the same selection came over two associations")

    def _known(self, session: Session, identity: Identity, file: SpooledFile) -> bool:
        """Return whether the same bytes were received before. A repetition has no effect."""
        return (
            session.scalar(
                select(Instance.id).where(
                    Instance.sop_instance_uid == identity.sop_instance_uid, Instance.sha256 == file.sha256
                )
            )
            is not None
        )


def _rejection(received: ReceivedInstance, identity: Identity) -> _Rejection | None:
    """Return the content of a rejection note; None for any other object."""
    if identity.sop_class_uid != SelectionClass.KEY_OBJECT_SELECTION:
        return None
    try:
        reading = read_selection(parse(received.data))
    except InputError:
        return None
    if reading.title is None or reading.title.value not in REJECTION_TITLES:
        return None
    return _Rejection(reading.title.value, reading.references)


def _mechanism(identity: Identity) -> str:
    mechanism = MECHANISMS.get(identity.sop_class_uid)
    return mechanism.value if mechanism else "unknown"
