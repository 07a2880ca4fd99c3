"""A private RabbitMQ broker with the settings that the deployment uses (``deploy/rabbitmq.conf``)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.ports import answers, free_port
from tests.support.server import Server, absent, need

DEPLOYED_CONF = Path(__file__).parents[2] / "deploy" / "rabbitmq.conf"
# The server's own scripts. The scripts on PATH are Debian's, which change user and home folder.
_SCRIPT_FOLDERS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"))


class _Epmd(Server):
    """Erlang's port mapper on a port of its own, separate from the machine's own port mapper and broker."""

    def __init__(self, folder: Path) -> None:
        (binary,) = need("epmd")
        super().__init__("epmd", folder)
        self.port = free_port()
        self._command = (str(binary), "-port", str(self.port), "-address", "127.0.0.1")

    def command(self) -> Sequence[str]:
        """Run epmd in the foreground."""
        return self._command

    def is_up(self) -> bool:
        """Whether its port answers."""
        return answers(self.port)


class RabbitMQ(Server):
    """A broker of one node on free loopback ports; it needs about 8 s to start on two cores.

    Attributes
    ----------
    url
        The URL for clients, with the default virtual host.
    """

    start_timeout_s = 120.0

    def __init__(self, folder: Path) -> None:
        self._server, self._ctl = need("rabbitmq-server", "rabbitmqctl", folders=_SCRIPT_FOLDERS)
        if self._server.parent not in _SCRIPT_FOLDERS and os.geteuid() == 0:
            absent("rabbitmq-server was found only as a script that changes user")
        super().__init__("RabbitMQ", folder)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        epmd_folder = folder / "epmd"
        epmd_folder.mkdir()
        self._epmd = _Epmd(epmd_folder)
        listeners = f"\nlisteners.tcp.local = 127.0.0.1:{self.port}\n"
        (folder / "rabbitmq.conf").write_text(DEPLOYED_CONF.read_text() + listeners)
        (folder / "enabled_plugins").write_text("[].\n")
        self._environment = self._variables()

    def _variables(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        own = {
            "HOME": self.folder,  # the folder of the Erlang cookie
            "RABBITMQ_CONF_ENV_FILE": self.folder / "none.conf",  # not the system's
            "RABBITMQ_NODENAME": f"uair-tests-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self.folder / "none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "enabled_plugins",
            "RABBITMQ_MNESIA_BASE": self.folder / "mnesia",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "RABBITMQ_DIST_PORT": free_port(),
            "ERL_EPMD_PORT": self._epmd.port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return inherited | {key: str(value) for key, value in own.items()}

    def command(self) -> Sequence[str]:
        """Run the broker in the foreground."""
        return (str(self._server),)

    def environment(self) -> Mapping[str, str]:
        """Return variables for folders, files and names that this broker must not share with the system's."""
        return self._environment

    def is_up(self) -> bool:
        """Whether AMQP is accepted; RabbitMQ opens its listeners last."""
        return answers(self.port)

    def start(self) -> None:
        """Start epmd and the broker, return when AMQP is accepted."""
        self._epmd.start()
        super().start()

    @property
    def scripts(self) -> Path:
        """The folder of ``rabbitmqctl`` itself."""
        return self._ctl.parent

    def close(self) -> None:
        """End the broker and its epmd."""
        self.kill()
        self._epmd.kill()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this broker (about 2 s a call) and return what it printed.

        Raises
        ------
        subprocess.CalledProcessError
            The command failed; `stderr` has the reason.
        """
        done = subprocess.run(
            [str(self._ctl), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60.0,
            check=True,
        )
        return done.stdout

    def virtual_host(self, name: str) -> str:
        """Make a virtual host and return its URL. Its queues have no messages of other tests."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def queue_depths(self) -> dict[str, int]:
        """Return the messages of each queue, ready and unacknowledged together, as of some 5 s ago."""
        table = json.loads(self.ctl("list_queues", "--quiet", "--formatter", "json", "name", "messages"))
        return {row["name"]: int(row["messages"]) for row in table}
