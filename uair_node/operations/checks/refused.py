"""Report peers that the listener recently refused, for instance for a wrong AE title or certificate."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.operations.checks.finding import Finding, good, warning
from uair_node.operations.refused_peers import describe_refusals, explain, newest_refused

_LATELY = timedelta(hours=24)
_MOST = 5


def check_refused_peers(database: Database) -> Iterable[Finding]:
    """Yield a warning for each of the 5 newest peers that were refused in the last 24 hours."""
    with database.reading() as session:
        peers = newest_refused(session, limit=_MOST, within=_LATELY)
        now = database_now(session)
    if not peers:
        yield good("refused peers", "none in the last 24 hours")
    for peer in peers:
        sentence = describe_refusals(peer, now).rstrip(".")
        yield warning("refused peers", "peer-refused", sentence, explain(peer.outcome).remedy)
