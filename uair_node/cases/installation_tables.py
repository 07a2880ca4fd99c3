"""Tables of the installation, not of a case: secrets, data folder, refused peers, accesses to the console."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from uair_node.cases.clock import present
from uair_node.cases.tables import Base

ALL_TABLES = Base.metadata
"""The schema: the tables of this module and of `tables`."""


class PatientSecret(Base):
    """The fingerprint of the secret for the patient keys. One row; none before the first key."""

    __tablename__ = "patient_secret"

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))


class DataFolder(Base):
    """The data folder that belongs to this database: a single row, written at a node's first start."""

    __tablename__ = "data_folder"

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(String(32))


class ListenerRefusal(Base):
    """The number of connections and associations that were refused for one reason, since the first start."""

    __tablename__ = "listener_refusals"

    outcome: Mapped[str] = mapped_column(String(64), primary_key=True)  # as in the metric uair_associations
    count: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(default=present())


class RefusedPeer(Base):
    """A peer that the listeners refused. Only the newest rows are kept, see `keep_refusals`."""

    __tablename__ = "refused_peers"
    __table_args__ = (UniqueConstraint("outcome", "address", "calling_ae", "called_ae", "why"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    called_ae: Mapped[str] = mapped_column(String(16))
    why: Mapped[str] = mapped_column(String(128))
    count: Mapped[int]
    first_at: Mapped[datetime] = mapped_column(default=present())
    last_at: Mapped[datetime] = mapped_column(default=present(), index=True)


class AccessRecord(Base):
    """One row for each page that a user looked at, and for each action, in the console.

    Typed text is not kept.
    """

    __tablename__ = "access_records"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=present(), index=True)
    actor: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64), default="")
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text, default="", index=True)
    outcome: Mapped[str] = mapped_column(String(64))
