"""DCMTK's programs: the routers and modalities of the integration tests."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import answers, free_port
from tests.support.server import Server, need


class StoreScp(Server):
    """``storescp``: a Storage SCP that takes every SOP class and transfer syntax and keeps the files.

    Attributes
    ----------
    aet, port
        Its AE title and its port.
    received
        The folder of its files. Each instance is a file with a unique name. A file is complete before its
        C-STORE is answered.
    """

    def __init__(self, binary: Path, folder: Path, aet: str, options: Sequence[str] = ()) -> None:
        super().__init__("storescp", folder)
        self.aet = aet
        self.port = free_port()
        self.received = folder / "received"
        self.received.mkdir()
        self._command = (
            str(binary),
            "--fork",  # several associations at a time
            "--aetitle",
            aet,
            "--prefer-uncompr",
            "+xa",  # every transfer syntax
            "--promiscuous",  # every SOP class
            "--unique-filenames",
            "--output-directory",
            str(self.received),
            *options,
            str(self.port),
        )

    def command(self) -> Sequence[str]:
        """Run storescp in the foreground."""
        return self._command

    def is_up(self) -> bool:
        """Whether its port accepts connections."""
        return answers(self.port)

    def files(self) -> list[Path]:
        """Return the files received so far, oldest first."""
        return sorted(self.received.iterdir(), key=lambda path: path.stat().st_mtime_ns)


class Dcmtk:
    """The client programs by their full paths (Python packages may bring others of the same names)."""

    def __init__(self) -> None:
        self.storescu_path, self.echoscu_path, self.storescp_path = need("storescu", "echoscu", "storescp")

    def storescu(
        self,
        host: str,
        port: int,
        called: str,
        calling: str,
        paths: Sequence[Path],
        extra: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Send files and folders (searched recursively) in one association; `returncode` 0 is success.

        It proposes the presentation contexts that the files need (``--required``). By default, storescu does
        not propose SEG and SR.
        """
        options = ["--aetitle", calling, "--call", called, "--scan-directories", "--recurse", "--required"]
        files = [str(path) for path in paths]
        return _run([str(self.storescu_path), *options, *extra, host, str(port), *files])

    def echoscu(self, host: str, port: int, called: str, calling: str) -> subprocess.CompletedProcess[str]:
        """Send a C-ECHO; `returncode` 0 is success."""
        return _run([str(self.echoscu_path), "--aetitle", calling, "--call", called, host, str(port)])

    @contextmanager
    def storescp(self, aet: str = "STORESCP", options: Sequence[str] = ()) -> Iterator[StoreScp]:
        """Run a Storage SCP inside a ``with`` block."""
        with tempfile.TemporaryDirectory(prefix="uair-storescp-") as folder:
            server = StoreScp(self.storescp_path, Path(folder), aet, options)
            try:
                server.start()
                yield server
            finally:
                server.kill()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300.0,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
