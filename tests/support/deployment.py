"""The processes of docker-compose.yml. The compose test checks them, and the end-to-end test starts them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

CONFIG = "/etc/uair/hospital.yaml"
NODE_COMMAND = ("uair", "node", "--config", CONFIG)
GPU_COMMAND = ("uair", "worker", "--queue", "gpu", "--config", CONFIG)
IO_COMMAND = ("uair", "worker", "--queue", "io", "--config", CONFIG)
# The environment variables of the three processes. All other settings are in the configuration file.
ENVIRONMENT = (
    "UAIR_DATABASE__PASSWORD_FILE",
    "UAIR_BROKER__PASSWORD_FILE",
    "UAIR_DATA_DIR",
    "UAIR_MONITORING__HOST",
    "UAIR_LOGS__FORMAT",
    "TZ",
)


def on_this_machine(command: Sequence[str], config: Path) -> list[str]:
    """Return `command` with this environment's ``uair`` and another configuration file."""
    program = str(Path(sys.executable).with_name("uair"))
    return [program, *(str(config) if word == CONFIG else word for word in command[1:])]
