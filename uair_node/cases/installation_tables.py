"""Tables of the installation: patient secret, data folder, refused peers, accesses to the console.

Tables of cases are in `uair_node.cases.tables`.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from uair_node.cases.clock import present
from uair_node.cases.tables import Base

ALL_TABLES = Base.metadata
"""The schema: all tables of this module and of `uair_node.cases.tables`."""


class PatientSecret(Base):
    """The fingerprint of the secret for the patient keys. The single row is written with the first key."""

    __tablename__ = "patient_secret"

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))


class DataFolder(Base):
    """The data folder that belongs to this database. A node writes the single row when it first starts."""

    __tablename__ = "data_folder"

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(String(32))


class ListenerRefusal(Base):
    """The number of connections and associations that were refused for one reason since the first start."""

    __tablename__ = "listener_refusals"

    outcome: Mapped[str] = mapped_column(String(64), primary_key=True)  # as in the metric uair_associations
    count: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(default=present())


class RefusedPeer(Base):
    """A peer that a listener refused, and the reason. Only the newest rows are kept."""

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
    """One row for each console page that a user opened, and for each action in the console.

    Text that the user typed is not kept.
    """

    __tablename__ = "access_records"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=present(), index=True)
    actor: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64), default="")
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text, default="", index=True)
    outcome: Mapped[str] = mapped_column(String(64))
