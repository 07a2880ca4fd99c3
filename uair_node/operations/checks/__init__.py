"""The checks of `uair check`. Each finding names the fault and the remedy.

Checks run in parallel. So several peers that do not answer need no more time than one such peer. The entry
point group ``uair.checks`` has the checks that need the workers' code (weights, device).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

from dicom_config.errors import ConfigError
from dicom_config.model import Settings, load_settings
from dicom_config.overrides import Override, find_overrides
from uair_node.operations.checks.connections import (
    check_admitted,
    check_destinations,
    check_listener,
    check_tls,
)
from uair_node.operations.checks.finding import Check, Finding, Level, fault, good, of_error, warning
from uair_node.operations.checks.machine import check_data_folder, check_disk, check_store
from uair_node.operations.checks.modalities import check_profiles
from uair_node.operations.checks.servers import check_broker, check_database

__all__ = ["Finding", "Level", "checked", "run_checks"]

_CHECKS: tuple[Check, ...] = (
    check_profiles,
    check_disk,
    check_data_folder,
    check_store,
    check_database,
    check_broker,
    check_tls,
    check_listener,
    check_admitted,
    check_destinations,
)


def checked(config: Path | None) -> tuple[list[Finding], int]:
    """Run all checks. The configuration file is checked first.

    Returns
    -------
    list of Finding, int
        The findings, and the exit status. 0: no fault. 1: a fault. 2: the configuration cannot be used, and
        no other check was run.
    """
    try:
        settings = load_settings(config)
    except ConfigError as error:
        return [of_error("configuration", error)], 2
    findings = run_checks(settings)
    return findings, 0 if all(finding.ok for finding in findings) else 1


def run_checks(settings: Settings, *, with_workers: bool = True) -> list[Finding]:
    """Run all checks. The function never raises an exception.

    Parameters
    ----------
    with_workers
        Whether to run also the checks of the workers' code, which import torch.
    """
    of_workers = [entry.load() for entry in entry_points(group="uair.checks")] if with_workers else []
    checks = [*_CHECKS, *of_workers]
    with ThreadPoolExecutor(len(checks)) as pool:
        found = list(pool.map(lambda check: _guarded(check, settings), checks))
    return [*_configuration(settings), *(finding for part in found for finding in part)]


def _configuration(settings: Settings) -> list[Finding]:
    """Return findings with the loaded file, and with the environment variables that override it."""
    file = settings.source or "the packaged embedded.yaml"
    loaded = good("configuration", f"{file} loaded; data in {settings.data_dir}")
    return [loaded, *map(_override, find_overrides(settings.source))]


def _override(override: Override) -> Finding:
    if not override.contradicts:
        return good("configuration", f"{override.key} comes from the variable {override.variable}")
    remedy = (
        f"Remove the variable, or set `{override.key}` in the file to the same value. `systemctl cat` shows "
        "the variables of a unit."
    )
    return warning("configuration", "config-overruled", override.sentence, remedy)


def _guarded(check: Check, settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except Exception as error:  # a broken check must not hide the findings of the other checks
        what = check.__name__.removeprefix("check_").replace("_", " ")
        sentence = f"cannot be checked ({type(error).__name__})"
        return [fault(what, "check-failed", sentence, "Report this with `uair check --json`.")]
