"""Success means durable: what is answered survives a power cut, as the system calls show.

The order is: file written, synced, renamed; its folders synced; row committed and synced; then the answer
(DESIGN invariant 1).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers import absent
from tests.support.power_loss import STEPS, VARIANTS
from tests.support.series import good_series

_CALLS = "mkdir,mkdirat,write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2"
_CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_HANDLE = re.compile(r"^\d+<(?P<path>[^>]*)>")
_PATHS = re.compile(r'"([^"]*)"')
_SAID = re.compile(r'^1<[^>]*>, "(?P<what>[a-z]+) (?P<variant>[a-z-]+);"')


class _Disk:
    """Changes that a power cut would undo, call by call."""

    def __init__(self) -> None:
        self.unsynced: set[str] = set()  # contents
        self.unnamed: set[str] = set()  # names that their folder may lose
        self.renamed = False
        self.committed = False
        self.faults: set[str] = set()

    def see(self, name: str, arguments: str) -> None:
        handle = _HANDLE.match(arguments)
        path = handle["path"] if handle else ""
        if name in ("write", "writev", "pwrite64"):
            self.unsynced.add(path)
            if path.endswith("-wal"):
                self.committed = True
                if self.unnamed:
                    self.faults.add("row before the name of its file")
        elif name in ("fsync", "fdatasync"):
            self.unsynced.discard(path)
            self.unnamed = {child for child in self.unnamed if str(Path(child).parent) != path}
        elif name.startswith("rename"):
            source, target = _PATHS.findall(arguments)
            self.renamed = True
            if source in self.unsynced:
                self.faults.add("renamed before its content is synced")
            self.unnamed.add(target)
        else:
            self.unnamed.add(_PATHS.findall(arguments)[0])

    def answer(self) -> set[str]:
        """Return what was wrong with this answer."""
        found = set(self.faults)
        if self.unnamed:
            found.add("answered before a name is synced")
        if any(path.endswith("-wal") for path in self.unsynced):
            found.add("answered before the commit is synced")
        if not (self.renamed and self.committed):
            found.add("answered before a file and a row are written")
        return found


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], set[str]]:
    """The faults of each variant and step."""
    if shutil.which("strace") is None:
        absent("strace")
    folder = tmp_path_factory.mktemp("power")
    slice_, trace = good_series(folder / "ct")[0], folder / "trace"
    command = ["strace", "-f", "-y", "-s", "200", "-e", f"trace={_CALLS}", "-o", str(trace)]
    script = [sys.executable, "-m", "tests.support.power_loss", str(folder / "data"), str(slice_)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, *script], check=True, env=environment, timeout=540, stdout=subprocess.PIPE)
    found: dict[tuple[str, str], set[str]] = {}
    disk = _Disk()
    for line in trace.read_text().splitlines():
        call = _CALL.match(line)
        if call is None or call["result"].startswith("-"):
            continue
        if said := _SAID.match(call["arguments"]):
            if said["what"] != "begin":
                found[said["variant"], said["what"]] = disk.answer()
            disk = _Disk()
        elif str(folder / "data") in call["arguments"]:
            disk.see(call["name"], call["arguments"])
    return found


@pytest.mark.parametrize("step", STEPS)
def test_what_is_answered_survives_a_power_cut(faults: dict[tuple[str, str], set[str]], step: str) -> None:
    assert faults["whole", step] == set()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("variant", "fault"),
    [
        ("no-file-sync", "renamed before its content is synced"),
        ("no-folder-sync", "answered before a name is synced"),
        ("no-commit-sync", "answered before the commit is synced"),
    ],
)
def test_the_trace_shows_each_sync_that_is_left_out(
    faults: dict[tuple[str, str], set[str]], variant: str, fault: str, step: str
) -> None:
    assert fault in faults[variant, step]


@pytest.mark.parametrize("step", ["instance", "artifact"])
def test_the_trace_shows_a_new_folder_that_its_parent_may_lose(
    faults: dict[tuple[str, str], set[str]], step: str
) -> None:
    assert "answered before a name is synced" in faults["no-parent-sync", step]
    assert len(faults) == len(VARIANTS) * len(STEPS)
