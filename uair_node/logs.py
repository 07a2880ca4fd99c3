"""Logging of a process: one line an event, to standard error. No patient data ever goes in (invariant 7)."""

from __future__ import annotations

import logging
import warnings


def set_up_logging(*, verbose: bool = False, quiet: bool = False) -> None:
    """Configure the root logger of this process.

    Parameters
    ----------
    verbose
        Also debug messages of our own.
    quiet
        Only warnings and worse.
    """
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger().setLevel(max(level, logging.INFO))
    for ours in ("uair_node", "workers", "dicom_config"):
        logging.getLogger(ours).setLevel(level)
    # These libraries may quote data set contents, the first two even in warnings (a name of a wrong form).
    for foreign in ("pydicom", "highdicom"):
        logging.getLogger(foreign).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=foreign)
    for foreign in ("pynetdicom", "alembic", "celery", "kombu", "matplotlib"):
        logging.getLogger(foreign).setLevel(logging.WARNING)
    # Full UIDs in the one, a complaint about the missing host of a folder in the other.
    for louder in ("pynetdicom", "kombu.connection"):
        logging.getLogger(louder).setLevel(logging.CRITICAL)
