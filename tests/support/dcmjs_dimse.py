"""dcmjs-dimse: DICOM's network protocol in JavaScript, as a sender and as a receiver."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.foreign_readers import node_program
from tests.support.ports import answers, free_port
from tests.support.server import Server


def echo_and_store(port: int, called: str, paths: Sequence[Path], folder: Path) -> list[int]:
    """Send C-ECHO and the files over one association; return the status of each answer."""
    command = [*node_program("dimse.mjs", folder), "store", str(port), called, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    statuses: list[int] = json.loads(done.stdout.splitlines()[-1])
    return statuses


class DcmjsReceiver(Server):
    """A receiver that keeps each object as a file named by its UID.

    Attributes
    ----------
    port, received
        The port that it listens on, and the folder of its files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("dcmjs-dimse", folder)
        self.port = free_port()
        self.received = folder / "received"
        self.received.mkdir()

    def command(self) -> Sequence[str]:
        """Run the receiver in the foreground."""
        return [*node_program("dimse.mjs", self.folder), "receive", str(self.port), str(self.received)]

    def is_up(self) -> bool:
        """Whether its port accepts connections."""
        return answers(self.port)


@contextmanager
def dcmjs_receiver(folder: Path) -> Iterator[DcmjsReceiver]:
    """Run a receiver inside a ``with`` block."""
    server = DcmjsReceiver(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
