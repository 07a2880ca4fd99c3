"""A schedule of faults on a `Site`, in an order that a seed decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.proxy import Mode, Proxy
from tests.chaos.site import LEASE_S, Site
from tests.support.scripted import ABORT
from tests.support.server import Server

_HOUR, _DAY = 3600, 86_400
Act = Callable[[Site, random.Random], None]
OUT_OF_RESOURCES, NOT_OF_THIS_CLASS, CANNOT_UNDERSTAND, NO_SUCH_CLASS = 0xA700, 0xA900, 0xC000, 0x0122


@dataclass(frozen=True)
class Fault:
    """One kind of fault: name, weight (its frequency), and the act, which ends by itself."""

    name: str
    weight: float
    act: Act


def schedule(seed: int, count: int, kinds: Sequence[Fault]) -> list[Fault]:
    """Return `count` faults, which depend on the seed only. Each kind comes once, then weights decide."""
    chooser = random.Random(seed)
    first = list(kinds)
    chooser.shuffle(first)
    more = chooser.choices(kinds, [fault.weight for fault in kinds], k=max(0, count - len(first)))
    return [*first, *more][:count]


def _killed(name: str) -> Act:
    def act(site: Site, chooser: random.Random) -> None:
        site.deployment.kill(name)
        time.sleep(chooser.uniform(0.0, 1.0))
        site.deployment.start(name, wait=False)

    return act


def _drained(name: str) -> Act:
    def act(site: Site, chooser: random.Random) -> None:
        site.deployment.drain(name)
        site.deployment.start(name, wait=False)

    return act


def _paused(name: str) -> Act:
    """Stop a process with all its children for longer than a lease, like a suspended machine."""

    def act(site: Site, chooser: random.Random) -> None:
        site.deployment.pause(name)
        time.sleep(LEASE_S + chooser.uniform(0.5, 3.0))
        site.deployment.resume(name)

    return act


def _wrong_clock(name: str) -> Act:
    """Set a machine's clock to a wrong time, which stays until the clock is set again."""

    def act(site: Site, chooser: random.Random) -> None:
        site.deployment.set_clock(name, chooser.choice((-100 * _DAY, -_HOUR, _HOUR, 100 * _DAY)))

    return act


def _crashed(which: Callable[[Site], Server]) -> Act:
    def act(site: Site, chooser: random.Random) -> None:
        which(site).kill()
        time.sleep(chooser.uniform(0.2, 2.0))
        which(site).start()

    return act


def _link(which: Callable[[Site], Proxy], mode: Mode, at_most_s: float) -> Act:
    def act(site: Site, chooser: random.Random) -> None:
        which(site).set(mode, allowance=chooser.randint(1_000, 400_000))
        time.sleep(chooser.uniform(0.3, at_most_s))
        which(site).set(Mode.PASS)

    return act


def _refused(*answers: int) -> Act:
    def act(site: Site, chooser: random.Random) -> None:
        site.refuser.answers = [answers[chooser.randrange(len(answers))]]
        site.refusing = True
        site.pacs.reset()
        time.sleep(chooser.uniform(0.5, 2.0))
        site.refusing = False
        site.pacs.reset()

    return act


FAULTS: Sequence[Fault] = (
    *(Fault(f"SIGKILL {name}", 3.0, _killed(name)) for name in ("node", "gpu", "io")),
    *(Fault(f"SIGTERM {name}", 1.0, _drained(name)) for name in ("node", "gpu", "io")),
    *(Fault(f"SIGSTOP {name}", 1.0, _paused(name)) for name in ("node", "gpu", "io")),
    *(Fault(f"wrong clock {name}", 0.7, _wrong_clock(name)) for name in ("node", "gpu", "io")),
    Fault("PACS crashes", 1.0, _crashed(lambda site: site.orthanc)),
    Fault("broker crashes", 0.3, _crashed(lambda site: site.rabbitmq)),
    Fault("database crashes", 1.0, _crashed(lambda site: site.postgres)),
    Fault("routers cut off", 2.0, _link(lambda site: site.routers, Mode.CUT, 2.0)),
    Fault("routers slow", 1.0, _link(lambda site: site.routers, Mode.SLOW, 2.0)),
    Fault("routers truncated", 3.0, _link(lambda site: site.routers, Mode.TRUNCATE, 2.0)),
    Fault("routers silent", 1.0, _link(lambda site: site.routers, Mode.SILENT, 3.0)),
    Fault("PACS cut off", 1.5, _link(lambda site: site.pacs, Mode.CUT, 3.0)),
    Fault("PACS slow", 1.0, _link(lambda site: site.pacs, Mode.SLOW, 2.0)),
    Fault("PACS truncated", 1.5, _link(lambda site: site.pacs, Mode.TRUNCATE, 3.0)),
    Fault("PACS silent", 1.5, _link(lambda site: site.pacs, Mode.SILENT, 5.0)),
    Fault("PACS full", 1.5, _refused(OUT_OF_RESOURCES)),
    Fault("PACS refuses", 1.0, _refused(NOT_OF_THIS_CLASS, CANNOT_UNDERSTAND, NO_SUCH_CLASS)),
    Fault("PACS aborts", 1.0, _refused(ABORT)),
    Fault("broker cut off", 1.5, _link(lambda site: site.broker, Mode.CUT, 3.0)),
    Fault("broker silent", 1.0, _link(lambda site: site.broker, Mode.SILENT, 3.0)),
    Fault("database cut off", 2.0, _link(lambda site: site.database, Mode.CUT, 2.0)),
    Fault("database slow", 1.0, _link(lambda site: site.database, Mode.SLOW, 2.0)),
    Fault("database silent", 1.0, _link(lambda site: site.database, Mode.SILENT, 3.0)),
)
