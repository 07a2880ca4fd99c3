"""Check that database and broker can be reached, are current, and have the configuration of the workers."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable

from amqp.exceptions import AccessRefused, NotAllowed
from sqlalchemy import Connection, func, select, text
from sqlalchemy.engine import make_url

from dicom_config.errors import ConfigError, UairError
from dicom_config.model import Settings
from uair_node.cases.database import Database
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Delivery, DeliveryState
from uair_node.operations.checks.finding import Finding, Level, fault, good, of_error, warning
from uair_node.operations.checks.refused import check_refused_peers
from uair_node.patient_keys import find_patient_keys
from uair_node.storage.folder_identity import require_same_folder
from uair_node.storage.object_store import open_store
from uair_node.work.queues import CONNECT_S, QueueView, broker_connection, look_at_queues
from uair_node.work.topology import QueueName
from uair_node.work.unserved import UnservedQueue, unserved_queues

_LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")
_CLOCKS_APART_S = 10.0
_READ_TIMEOUT = "application:get_env(rabbit, consumer_timeout)."


def check_database(settings: Settings) -> Iterable[Finding]:
    """Check that the database answers, has a current schema and the right time. Report stopped work.

    Stopped work is parked deliveries and failed cases. Data folder, patient keys and refused peers are
    checked, too.
    """
    try:
        database = Database(settings.database_url)
    except ConfigError as error:
        yield of_error("database", error)
        return
    try:
        database.require_current()
        yield good("database", f"{database.engine.dialect.name}, schema current")
        with database.connected() as connection:
            yield from _clock(connection)
            yield from _standing_still(connection)
        yield from _data_folder(database, settings)
        yield from _patient_keys(database, settings)
        yield from check_refused_peers(database)
    except UairError as error:
        yield of_error("database", error)
    finally:
        database.close()


def _data_folder(database: Database, settings: Settings) -> Iterable[Finding]:
    """Check that the data folder belongs to this database."""
    try:
        require_same_folder(database, open_store(settings))
    except ConfigError as error:
        yield of_error("data folder", error)


def _patient_keys(database: Database, settings: Settings) -> Iterable[Finding]:
    """Check that the configured secret made the database's patient keys."""
    try:
        find_patient_keys(database, settings.data_dir, settings.intake.patient_secret_file)
    except ConfigError as error:
        # With an object store, a machine that runs only workers has no secret, and needs no secret.
        needless = bool(settings.store.url) and error.code == "patient-secret-missing"
        level = Level.WARNING if needless else Level.FAULT
        yield Finding("patient keys", level, error.sentence, error.remedy, error.code)


def _clock(connection: Connection) -> Iterable[Finding]:
    """Compare this machine's clock with the database's clock.

    Leases use the database's clock. Some other times use this machine's clock.
    """
    if connection.dialect.name != "postgresql":
        return
    theirs = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    apart = abs(theirs - time.time())
    if apart > _CLOCKS_APART_S:
        sentence = f"this machine's clock and the database's are {apart:.0f} s apart"
        remedy = (
            "Synchronise both clocks (chrony, systemd-timesyncd). Until then, times in cases and audit are "
            "wrong."
        )
        yield fault("clock", "clock-skew", sentence, remedy)
    else:
        yield good("clock", f"within {max(1.0, apart):.0f} s of the database's")


def _standing_still(connection: Connection) -> Iterable[Finding]:
    parked = connection.execute(
        select(Delivery.destination, func.count())
        .where(Delivery.state == DeliveryState.PARKED)
        .group_by(Delivery.destination)
    )
    for destination, number in parked:
        yield warning(
            f"deliveries to {destination}",
            "delivery-parked",
            f"{number} {'object was' if number == 1 else 'objects were'} refused permanently",
            "`uair case show` names the reason. Correct it at the peer, then run `uair case resend`.",
        )
    failed = connection.scalar(select(func.count(Case.id)).where(Case.state == CaseState.FAILED))
    if failed:
        sentence = f"{failed} {'case' if failed == 1 else 'cases'} failed after several attempts"
        remedy = "`uair cases --state failed` names the cause. Correct it, then run `uair case retry`."
        yield warning("cases", "cases-failed", sentence, remedy)


def check_broker(settings: Settings) -> Iterable[Finding]:
    """Check that the broker answers. Its queues must have our arguments, consumers and no dead letters."""
    if settings.embedded:
        yield good("broker", "none needed (embedded mode)")
        for queue in _unserved(settings).values():
            yield _waits(queue)
        return
    try:
        connecting = broker_connection(settings)
    except ConfigError as error:
        yield of_error("broker", error)
        return
    try:
        with connecting as connection:
            connection.connect()
            version = connection.connection.server_properties.get("version", "")
            yield good("broker", f"reachable, RabbitMQ {version}")
            unserved = _unserved(settings)
            for view in look_at_queues(connection, settings, compare=True):
                yield from _queue(view, unserved.get(view.name))
    except (AccessRefused, NotAllowed):
        remedy = "Check user, password and virtual host in broker.url, and the user's permissions."
        yield fault("broker", "broker-refuses", "refuses our user, password or virtual host", remedy)
        return
    except Exception as error:  # every transport has its own exceptions
        sentence = f"cannot be reached ({type(error).__name__})"
        remedy = "Start RabbitMQ; check host and port of broker.url, and the firewall."
        yield fault("broker", "broker-unreachable", sentence, remedy)
        return
    yield from _consumer_timeout(settings)


def _unserved(settings: Settings) -> dict[str, UnservedQueue]:
    """Return the queues whose due work no worker claims; empty if the database cannot be read."""
    try:
        database = Database(settings.database_url)
        try:
            database.require_current()
            with database.reading() as session:
                return {queue.name.value: queue for queue in unserved_queues(session)}
        finally:
            database.close()
    except UairError:
        return {}  # the check of the database reports the reason


def _waits(queue: UnservedQueue) -> Finding:
    """Return the fault that no worker claims the due work of a queue. Workers may still be connected."""
    sentence = f"no worker takes its work: {queue.words}"
    return fault(f"queue {queue.name.value}", "work-waits", sentence, queue.name.remedy)


def _queue(view: QueueView, unserved: UnservedQueue | None) -> Iterable[Finding]:
    what = f"queue {view.name}"
    if view.mismatch:
        remedy = f"Stop the workers, run `rabbitmqctl delete_queue {view.name}`, start them. Nothing is lost."
        yield fault(what, "queue-arguments", f"is declared with another argument: {view.mismatch}", remedy)
    elif view.name not in list(QueueName):
        if view.messages:
            remedy = (
                "The worker's log says why the worker ended. Correct the cause, then run "
                f"`rabbitmqctl purge_queue {view.name}`: the due work is in the database."
            )
            were = "message was" if view.messages == 1 else "messages were"
            yield warning(what, "dead-letters", f"{view.messages} {were} given up", remedy)
    elif not view.consumers:
        waits = f": {unserved.words}" if unserved else ""
        yield fault(what, "no-worker", f"no worker serves it{waits}", QueueName(view.name).remedy)
    elif unserved:
        yield _waits(unserved)
    else:
        yield good(what, f"workers: {view.consumers}, messages that wait: {view.messages}")


def _consumer_timeout(settings: Settings) -> Iterable[Finding]:
    """Check that RabbitMQ's consumer timeout is longer than our longest task.

    AMQP does not transmit the timeout. So `rabbitmqctl` reads it, if the broker runs on this machine.
    """
    what, limit_s = "broker limits", settings.work.time_limit_s
    found_ms = _read_consumer_timeout_ms() if make_url(settings.broker.url).host in _LOCAL else None
    if found_ms is None:
        sentence = "consumer_timeout is visible on the broker's machine only; "
        yield good(what, f"{sentence}it must be above {limit_s:.0f} s (work.time_limit_s)")
    elif found_ms / 1000 <= limit_s:
        remedy = "Set consumer_timeout in rabbitmq.conf as deploy/rabbitmq.conf does, and restart the broker."
        sentence = f"consumer_timeout is {found_ms / 1000:.0f} s, a task may take {limit_s:.0f} s"
        yield fault(what, "consumer-timeout", sentence, remedy)
    else:
        yield good(what, f"consumer_timeout {found_ms / 1000:.0f} s, above {limit_s:.0f} s of a task")


def _read_consumer_timeout_ms() -> int | None:
    program = shutil.which("rabbitmqctl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--quiet", "eval", _READ_TIMEOUT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10 * CONNECT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.fullmatch(r"\{ok,(\d+)\}", done.stdout.strip())
    return int(found[1]) if found else None
