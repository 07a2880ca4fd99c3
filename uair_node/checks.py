"""What `uair check` looks at: each finding says what is wrong and how it is mended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from kombu import Connection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicom_config.errors import UairError
from dicom_config.model import AnyDestination, Settings, StowDestination
from uair_node.cases.database import Database
from uair_node.delivery.scu import echo
from uair_node.delivery.stow import probe_stow
from uair_node.tls import server_context
from uair_node.topology import celery_options


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    sentence: str
    mend: str = ""


def run_checks(settings: Settings) -> list[Finding]:
    """Look at everything; never raises."""
    return [
        Finding("configuration", True, f"loaded; data in {settings.data_dir}"),
        _disk(settings),
        _database(settings),
        _broker(settings),
        _model(settings),
        *_tls(settings),
        *_peers(settings),
    ]


def _disk(settings: Settings) -> Finding:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    enough = free >= settings.intake.min_free_bytes
    mend = "" if enough else "Free space, move data_dir, or lower intake.min_free_bytes; until then: A700."
    return Finding("disk", enough, f"{free / 2**30:.1f} GiB free", mend)


def _database(settings: Settings) -> Finding:
    database = Database(settings.database_url)
    try:
        with database.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        database.require_current()
    except DBAPIError as error:
        name = type(error.orig).__name__
        return Finding("database", False, f"cannot be used ({name})", "Start it; check database.url.")
    except UairError as error:
        return Finding("database", False, error.sentence, error.mend)
    finally:
        database.close()
    return Finding("database", True, f"{database.engine.dialect.name}, schema current")


def _broker(settings: Settings) -> Finding:
    if settings.embedded:
        return Finding("broker", True, "none needed (embedded mode)")
    options = celery_options(settings)
    try:
        with Connection(options["broker_url"], connect_timeout=4) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except Exception as error:  # every transport has its own exceptions
        name = type(error).__name__
        mend = "Start RabbitMQ; check broker.url, user and virtual host."
        return Finding("broker", False, f"cannot be reached ({name})", mend)
    return Finding("broker", True, "reachable")


def _model(settings: Settings) -> Finding:
    if find_spec("workers") is None:
        return Finding("model", True, "no worker code on this machine")
    checkpoint = settings.engine.checkpoint
    if checkpoint is not None and not checkpoint.is_file():
        mend = "Put the .pth file there, or set engine.model: embedded."
        return Finding("model", False, f"no checkpoint at {checkpoint}", mend)
    return Finding("model", True, f"{settings.engine.model} on {settings.engine.device}")


def _tls(settings: Settings) -> Iterator[Finding]:
    if settings.node.tls is None:
        return
    try:
        server_context(settings.node.tls)
    except UairError as error:
        yield Finding("tls", False, error.sentence, error.mend)
    else:
        yield Finding("tls", True, "the listener's certificate, key and CA can be used")


def _peers(settings: Settings) -> Iterator[Finding]:
    if not settings.destinations:
        mend = "Name your PACS under `destinations`, or results stay here."
        yield Finding("destinations", False, "none configured", mend)
    for destination in settings.destinations:
        yield _peer(destination)


def _peer(destination: AnyDestination) -> Finding:
    what = f"destination {destination.name}"
    try:
        if isinstance(destination, StowDestination):
            probe_stow(destination)
            return Finding(what, True, f"{destination.url} answers DICOMweb")
        echo(destination)
    except UairError as error:
        return Finding(what, False, error.sentence, error.mend)
    return Finding(what, True, f"{destination.ae_title} answers C-ECHO")
