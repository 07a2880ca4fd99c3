"""A private S3-compatible server (moto's), in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import fsspec

from tests.support.ports import answers, free_port
from tests.support.server import Server

KEY, SECRET, BUCKET = "uair", "not-a-secret", "uair"


class ObjectServer(Server):
    """An object store on a free loopback port, with one bucket.

    Attributes
    ----------
    endpoint
        The URL for clients.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("S3 server", folder)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET + "\n")

    def command(self) -> Sequence[str]:
        """Run the server in the foreground."""
        return (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))

    def is_up(self) -> bool:
        """Whether its port accepts connections."""
        return answers(self.port)

    def start(self) -> None:
        """Start the server and make the bucket."""
        super().start()
        self.files().mkdir(BUCKET)

    @property
    def section(self) -> dict[str, str]:
        """The configuration's section `store`."""
        return {
            "url": f"s3://{BUCKET}/department",
            "endpoint_url": self.endpoint,
            "access_key": KEY,
            "secret_key_file": str(self.secret_file),
        }

    def files(self) -> fsspec.AbstractFileSystem:
        """A separate client, to look at the stored objects."""
        client = {"endpoint_url": self.endpoint}
        return fsspec.filesystem("s3", key=KEY, secret=SECRET, client_kwargs=client, use_listings_cache=False)

    def names(self) -> list[str]:
        """Names of all objects, below the configured prefix."""
        prefix = f"{BUCKET}/department/"
        return sorted(path.removeprefix(prefix) for path in self.files().find(prefix))
