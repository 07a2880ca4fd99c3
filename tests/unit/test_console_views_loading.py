"""A viewer whose round takes long to load holds up no viewer of another round."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.offered import offered_case
from uair_node.cases.tables import Case, WorkKind
from uair_node.console.views import Views
from uair_node.context import Context
from uair_node.storage.store import Store

LONG_S = 60


@dataclass(frozen=True)
class _SlowStore(Store):
    """Counts the fetches of each round's candidates; those of round 1 wait until `go_on` is set."""

    asked: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    fetched: Counter[str] = field(default_factory=Counter)

    def fetch_if_kept(self, relative: str) -> Path | None:
        folder = Path(relative).parent.name.partition(".")[0]
        self.fetched[folder] += 1
        if folder == "round-01":
            self.asked.set()
            assert self.go_on.wait(LONG_S)
        return super().fetch_if_kept(relative)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A case with two rounds."""
    with offered_case(tmp_path) as offered:
        offered.send(offered.candidate(2), Verb.PICK)
        offered.compute()
        offered.work(WorkKind.PUBLISH)
        yield replace(offered.context, store=_SlowStore(offered.context.store.root))


def test_a_round_that_takes_long_to_load_holds_up_no_viewer_of_another(context: Context) -> None:
    views, slow = Views(context), context.store
    assert isinstance(slow, _SlowStore)
    with ThreadPoolExecutor(3) as pool:
        first, second = (pool.submit(views.view, 1, 1) for _ in range(2))
        assert slow.asked.wait(LONG_S)
        assert pool.submit(views.view, 1, 2).result(LONG_S).number == 2, "while round 1 is loaded"
        assert not first.done()
        slow.go_on.set()
        assert first.result(LONG_S) is second.result(LONG_S), "viewers of one round share it"
    assert views.view(1, 2).number == 2
    assert slow.fetched == {"round-01": 1, "round-02": 1}, "each is loaded once"


def test_a_round_that_could_not_be_loaded_is_tried_again(context: Context) -> None:
    views, slow = Views(context), context.store
    assert isinstance(slow, _SlowStore)
    slow.go_on.set()
    with context.database.transaction() as session:
        folder = context.store.absolute(session.get_one(Case, 1).rounds[0].artifacts)
    away = folder.rename(folder.with_name("round-01.away"))
    with pytest.raises(InputError, match="not kept"):
        views.view(1, 1)
    away.rename(folder)
    assert views.view(1, 1).number == 1
