"""The demonstration's site: a private node with its workers, and the archive, as real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from dicom_config.errors import TransientError
from dicom_config.model import Destination, Settings, load_settings
from uair_node.network.scu import echo
from uair_node.supervisor import uair_command
from workers.demo.archive import AE_TITLE

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Site:
    """The site of the demonstration: node, destination, settings."""

    settings: Settings
    archive_folder: Path
    log: Path

    def node_as(self, called_ae: str) -> Destination:
        """Return the node's address with the AE title `called_ae`, as a viewer's list of peers has it."""
        node = self.settings.node
        return Destination(
            name=called_ae, ae_title=called_ae, host=node.host, port=node.port, calling_ae=AE_TITLE
        )


@contextmanager
def open_site(folder: Path, archive_folder: Path) -> Iterator[Site]:
    """Start archive, node and workers on free ports. Stop them at the end of the block.

    Parameters
    ----------
    folder
        Folder for the node's data, its configuration and the processes' logs.
    archive_folder
        Folder in which the archive keeps received objects.
    """
    node_port, archive_port = _free_ports(2)
    config = folder / "demo.yaml"
    config.write_text(yaml.safe_dump(_configuration(folder, node_port, archive_port)), "utf-8")
    log = folder / "demo.log"
    site = Site(load_settings(config), archive_folder, log)
    archive = [sys.executable, "-m", "workers.demo.archive"]
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))
        arguments = ["--port", str(archive_port), "--folder", str(archive_folder)]
        stack.enter_context(_running([*archive, *arguments], output.fileno()))
        stack.enter_context(_running(uair_command("up", "--config", str(config)), output.fileno()))
        _wait(lambda: _answers(site.node_as(site.settings.node.ae_titles.store)), site)
        _wait(lambda: _answers(cast(Destination, site.settings.destinations[0])), site)
        yield site


def _configuration(folder: Path, node_port: int, archive_port: int) -> dict[str, object]:
    return {
        "data_dir": str(folder / "data"),
        "node": {"host": "127.0.0.1", "port": node_port},
        "intake": {"quiet_s": 2, "min_free_bytes": 100 << 20},
        "work": {"sweep_s": 0.5},
        # The simulated reader answers before pages are drawn, and reads no notices. So both are switched off.
        "results": {"pages": False, "notices": False},
        "destinations": [
            {"name": "archive", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": archive_port}
        ],
    }


@contextmanager
def _running(command: list[str], output: int) -> Iterator[None]:
    child = subprocess.Popen(
        command, stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def _answers(peer: Destination) -> bool:
    try:
        echo(peer)
    except TransientError:
        return False
    return True


def _wait(condition: Callable[[], bool], site: Site) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TransientError(
                "demo-start", "The demonstration's processes do not answer.", f"See {site.log}."
            )
        time.sleep(0.2)
