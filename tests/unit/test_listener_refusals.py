"""What the listener refuses is counted for the console, and no count is lost while the database is away."""

from __future__ import annotations

import inspect
import re

import pytest
from sqlalchemy.exc import DBAPIError

from dicom_config.errors import TransientError
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import ListenerRefusal
from uair_node.console.refused import _LISTENER
from uair_node.network.scp import Rejection
from uair_node.network.tally import ACCEPTED, Tally
from uair_node.network.transport import Server
from uair_node.operations.signals.refusals import keep_refusals


def _counts(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        return {row.outcome: row.count for row in session.query(ListenerRefusal)}


def test_refusals_add_up_over_starts(database: Database) -> None:
    for reasons in (["a", "b", ACCEPTED, "a"], ["a"], []):
        tally = Tally()  # of one start
        for reason in reasons:
            tally.association(reason)
        keep_refusals(database, tally)
        keep_refusals(database, tally)
    assert _counts(database) == {"a": 3, "b": 1}


def test_counts_wait_for_a_database_that_is_away(empty_database_url: str) -> None:
    database, tally = Database(empty_database_url), Tally()
    tally.association("a")
    with pytest.raises((TransientError, DBAPIError)):  # no tables yet
        keep_refusals(database, tally)
    database.migrate()
    tally.association("a")
    keep_refusals(database, tally)
    assert _counts(database) == {"a": 2}
    database.close()


def test_the_console_explains_every_reason() -> None:
    of_associations = {rejection.name.lower() for rejection in Rejection}
    source = inspect.getsource(Server._why_not)
    of_connections = set(re.findall(r'"([a-z_]{8,})"', source))
    assert len(of_connections) == 3
    assert set(_LISTENER) == of_associations | of_connections
