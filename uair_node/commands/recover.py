"""`uair recover`: after a restore, register files of the data folder that are not in the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from dicom_config.model import load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import console
from uair_node.context import open_context
from uair_node.logs import set_up_logging
from uair_node.operations.housekeeping import recover as recovery
from uair_node.storage.node_lock import only_node


def recover(
    config: ConfigOption = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Confirm that node and workers are stopped. Then the command does not ask."
        ),
    ] = False,
) -> None:
    """After a restore, register received files that the database lacks. Node and workers must be stopped.

    The command also updates the database's schema. It lists objects that must be sent again. It may be
    repeated.
    """
    set_up_logging(quiet=True)
    settings = load_settings(config)
    if not yes:
        typer.confirm("Are the nodes and workers of this installation stopped?", abort=True)
    with only_node(settings.data_dir):
        found = recovery.recover(open_context(settings, migrate=True))
    _say(f"{found.images} images were registered again.")
    for answer in found.answers:
        at = datetime.fromtimestamp(answer.received_at, UTC)
        _say(
            f"{answer.path}: an answer or note for study …{answer.study_instance_uid[-12:]}, received at "
            f"{at:%Y-%m-%d %H:%M} UTC. The sender must send this object again."
        )
    for path in found.unreadable:
        _say(f"{path}: no DICOM instance.")
    for case_id, count in sorted(found.missing.items()):
        _say(f"Case {case_id}: {count} images are gone. Send the series of the case again.")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
