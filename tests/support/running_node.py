"""The product under test as real processes: embedded mode, and a department's deployment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dicom_config.model import load_settings
from tests.support import zygote
from tests.support.deployment import GPU_COMMAND, IO_COMMAND, NODE_COMMAND, on_this_machine
from tests.support.ports import answers, free_port, wait_until
from uair_node.cases.database import Database
from uair_node.operations import reports
from uair_node.operations.case_list import find_cases

_ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"


class Deployment:
    """Processes of the product on one data folder. Each process can be killed and started again.

    Parameters
    ----------
    folder
        Folder of data, configuration and log.
    commands
        Name of each process and its command line.
    settings
        The configuration file's content; port and data folder are added.
    environment
        Further environment variables.
    """

    def __init__(
        self,
        folder: Path,
        commands: Callable[[Path], Mapping[str, Sequence[str]]],
        settings: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.config = folder / "site.yaml"
        self.log = folder / "uair.log"
        self.environment = {"UAIR_DATA_DIR": str(folder / "data"), **(environment or {})}
        values = {**settings, "node": {**settings.get("node", {}), "host": HOST, "port": self.port}}
        self.config.write_text(yaml.safe_dump(values), "utf-8")
        self.monitoring_port: int = settings.get("monitoring", {}).get("port", 0)
        self._commands = commands(self.config)
        self._of_process: dict[str, Mapping[str, str]] = {}
        self._clocks: dict[str, Path] = {}
        self._running: dict[str, zygote.Program] = {}
        self._changing = threading.RLock()  # one thread kills a process, another thread revives it
        self._database: Database | None = None

    @property
    def processes(self) -> list[str]:
        """Names of the processes."""
        return list(self._commands)

    def pid(self, name: str) -> int:
        """Process id of a running process."""
        return self._running[name].pid

    def start(self, *names: str, wait: bool = True) -> None:
        """Start the named processes, or all. With `wait`, return when the port answers."""
        for name in names or self._commands:
            with self._changing:
                self._start(name)
            if wait and name in ("node", "up"):
                wait_until(lambda: answers(self.port), f"the node's port; see {self.log}", 60.0)

    def _start(self, name: str) -> None:
        environment = os.environ | self.environment | self._of_process.get(name, {})
        self._running[name] = zygote.start(self._commands[name], self.log, environment)

    def add(self, name: str, command: Sequence[str]) -> None:
        """Add a process, which `start` can then start by its name."""
        self._commands = {**self._commands, name: command}

    def own_data(self, folders: Mapping[str, Path]) -> None:
        """Give processes data folders of their own, as on machines of their own."""
        self._of_process = {name: {"UAIR_DATA_DIR": str(folder)} for name, folder in folders.items()}

    def kill(self, *names: str) -> None:
        """Send SIGKILL to the named processes, or to all, and to all their children."""
        for name in names or list(self._running):
            with self._changing:
                child = self._running.pop(name)
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def drain(self, name: str) -> None:
        """Send SIGTERM to a process and return when it has ended. Kill it after 30 s."""
        with self._changing:
            child = self._running[name]
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(30)
            self.kill(name)

    def replace(self, name: str, program: Sequence[str]) -> None:
        """Run a process by another program, with the arguments that ``uair`` would get."""
        self._commands = {**self._commands, name: [*program, *self._commands[name][1:]]}

    def revive(self) -> None:
        """Restart processes that ended by themselves, as ``restart: unless-stopped`` does."""
        with self._changing:
            ended = [name for name, child in self._running.items() if child.poll() is not None]
            for name in ended:
                self.start(name, wait=False)

    def pause(self, name: str) -> None:
        """Suspend a process with all its children."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a suspended process continue."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        with suppress(KeyError, ProcessLookupError):
            os.killpg(self._running[name].pid, number)

    def own_clocks(self, folder: Path) -> None:
        """Give each process a clock of its own, as on machines of their own; `set_clock` sets it."""
        self._clocks = {name: folder / f"clock-{name}" for name in self._commands}
        for name, file in self._clocks.items():
            self.set_clock(name, 0)
            self.replace(name, [sys.executable, "-m", "tests.chaos.own_clock", str(file)])
            self._of_process[name] = {
                **self._of_process.get(name, {}),
                "PYTHONPATH": os.pathsep.join(sys.path),
            }

    def set_clock(self, name: str, offset_s: int) -> None:
        """Set the own clock of a process to the right time plus `offset_s` seconds."""
        if name in self._clocks:
            self._clocks[name].write_text(f"{offset_s:+d}")

    def stop(self) -> None:
        """End all processes as an administrator would; kill processes that do not end."""
        for child in self._running.values():
            child.terminate()
        for child in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(20)
        self.kill()
        if self._database is not None:
            self._database.close()

    def cases(self) -> list[dict[str, Any]]:
        """All cases with all details, oldest first."""
        with self._open().transaction() as session:
            return [reports.detail(session, case) for case in reversed(find_cases(session))]

    def case(self) -> dict[str, Any]:
        """The only case."""
        (case,) = self.cases()
        return case

    def await_state(self, state: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait until the only case is in `state`. If it waits for a reader, also wait for its deliveries."""

        def reached() -> bool:
            cases = self.cases()
            if (
                len(cases) == 1
                and cases[0]["state"] in ("REJECTED", "FAILED")
                and state not in cases[0]["state"]
            ):
                raise AssertionError(f"{cases[0]['state']}: {cases[0]['sentence']} See {self.log}.")
            return len(cases) == 1 and cases[0]["state"] == state

        wait_until(reached, f"case in state {state}; see {self.log}", timeout_s)
        return self.case()

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `uair` command against this deployment."""
        command = [*on_this_machine(("uair", *arguments), self.config), "--config", str(self.config)]
        environment = os.environ | self.environment | {"COLUMNS": "200"}
        with tempfile.TemporaryDirectory(dir=self.log.parent) as folder:
            output, errors = Path(folder) / "output", Path(folder) / "errors"
            program = zygote.start(command, output, environment, errors)
            status = program.wait(120)
            return subprocess.CompletedProcess(command, status, output.read_text(), errors.read_text())

    def _open(self) -> Database:
        if self._database is None:
            url = self.environment.get("UAIR_DATABASE__URL")
            data = self.environment["UAIR_DATA_DIR"]
            self._database = Database(url or f"sqlite:///{data}/uair.sqlite")
        return self._database


def quick(destinations: Sequence[Mapping[str, Any]], **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Default settings with shorter waits."""
    return {
        "destinations": [dict(destination) for destination in destinations],
        "intake": {"quiet_s": 1.5, "max_wait_s": 3, "min_free_bytes": 1 << 20, **sections.get("intake", {})},
        "work": {"sweep_s": 0.3, "lease_s": 3, **sections.get("work", {})},
        "delivery": {"retry_first_s": 0.5, **sections.get("delivery", {})},
        **({"node": sections["node"]} if "node" in sections else {}),
    }


def embedded(folder: Path, settings: Mapping[str, Any]) -> Deployment:
    """The product in one process tree, as `uair up` runs it."""
    return Deployment(
        folder,
        lambda config: {"up": on_this_machine(("uair", "up", "--config", str(config)), config)},
        settings,
    )


def hospital(folder: Path, settings: Mapping[str, Any], database_url: str, broker_url: str) -> Deployment:
    """The processes of docker-compose.yml, with hospital.yaml and this test's peers."""
    site = yaml.safe_load((_ROOT / "dicom_config" / "hospital.yaml").read_text("utf-8"))
    site.update({key: value for key, value in settings.items() if key != "node"})
    site["node"]["allow"] = [{"networks": ["127.0.0.0/8"]}]
    site["monitoring"] = settings.get("monitoring", {"port": free_port()})
    site["engine"] = {**site["engine"], "embeddings_dir": None, **settings.get("engine", {})}

    def commands(config: Path) -> Mapping[str, Sequence[str]]:
        known = {"node": NODE_COMMAND, "gpu": GPU_COMMAND, "io": IO_COMMAND}
        return {name: on_this_machine(command, config) for name, command in known.items()}

    peers = {"UAIR_DATABASE__URL": database_url, "UAIR_BROKER__URL": broker_url}
    made = Deployment(folder, commands, site, peers)
    assert not load_settings(made.config).embedded
    return made
