"""The start of a service: node, worker, console."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dicom_config.errors import TransientError
from dicom_config.model import Settings
from dicom_config.overrides import find_overrides
from uair_node.cases.database_outage import UNAVAILABLE
from uair_node.context import Context, open_context
from uair_node.storage.folder_identity import require_same_folder
from uair_node.work.outages import Outages

log = logging.getLogger(__name__)


def open_service(
    settings: Settings, *, migrate: bool = False, sleep: Callable[[float], object] = time.sleep
) -> Context:
    """Open the context of a service as `open_context` does. Wait until the database answers.

    If the database answers and refuses the login, then the process does not wait. A person must change the
    configuration. Then the service manager starts the process again, and the process reads the new
    configuration.

    Raises
    ------
    ConfigError
        The errors of `open_context`, and ``data-folder-other``.
    TransientError
        ``database-password``, ``database-missing``, ``database-refuses``.
    """
    _tell_overrides(settings)
    outages = Outages()
    while True:
        try:
            context = open_context(settings, migrate=migrate)
            _require_own_folder(context)
        except TransientError as error:
            if error.code != UNAVAILABLE:
                raise
            outages.failed([error])
        else:
            outages.succeeded()
            return context
        sleep(outages.pause_s)


def _require_own_folder(context: Context) -> None:
    """Check that the data folder belongs to the database. Otherwise close the database's connections."""
    try:
        require_same_folder(context.database, context.store)
    except BaseException:
        context.database.close()
        raise


def _tell_overrides(settings: Settings) -> None:
    """Log the keys for which an environment variable contradicts the configuration file."""
    for override in find_overrides(settings.source):
        if override.contradicts:
            log.warning("config-overruled: %s", override.sentence)
