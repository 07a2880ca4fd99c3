"""The spool: what it returns is on disk under its own name, what fails leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never

import pytest

from dicom_config.errors import ResourceError
from dicom_config.model import Settings
from uair_node.context import open_context
from uair_node.storage.spool import Spool

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_bytes_are_kept_as_they_came(tmp_path: Path) -> None:
    spooled = Spool(tmp_path / "spool", 0).write("1.2.3", "1.2.3.4", b"image")
    assert spooled.path.read_bytes() == b"image"
    assert spooled.sha256 == hashlib.sha256(b"image").hexdigest()
    assert spooled.size == 5
    assert files(tmp_path) == [spooled.path]


def test_names_hold_whole_digests(tmp_path: Path) -> None:
    """Half a digest can be made to collide, and then one instance overwrites another."""
    path = Spool(tmp_path, 0).write("1.2.3", "1.2.3.4", b"image").path
    series, sop, content = (hashlib.sha256(part).hexdigest() for part in (b"1.2.3", b"1.2.3.4", b"image"))
    assert path.relative_to(tmp_path).as_posix() == f"{series}/{sop}.{content}.dcm"


def test_paths_show_no_uid(tmp_path: Path) -> None:
    path = Spool(tmp_path, 0).write("1.2.840.99", "1.2.840.99.7", b"x").path
    assert "1.2.840" not in str(path.relative_to(tmp_path))


def test_same_bytes_again_are_the_same_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    assert spool.write("1.2", "1.2.3", b"image") == spool.write("1.2", "1.2.3", b"image")
    assert len(files(tmp_path)) == 1


def test_other_bytes_under_the_same_uid_overwrite_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    first, second = spool.write("1.2", "1.2.3", b"one"), spool.write("1.2", "1.2.3", b"two")
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"one", b"two")


def test_each_series_has_a_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    a, b, c = (spool.write(series, sop, b"x") for series, sop in (("1", "1.1"), ("1", "1.2"), ("2", "2.1")))
    assert a.path.parent == b.path.parent != c.path.parent


def test_a_new_data_folder_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = set()
    fsync = os.fsync

    def note(handle: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    data = tmp_path / "srv" / "uair"
    open_context(Settings(data_dir=data), migrate=True).database.close()
    Spool(data / "spool", 0).write("1.2", "1.2.3", b"image")
    assert {tmp_path, data.parent, data, data / "spool"} <= synced


def test_little_free_space_refuses_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="must stay free") as caught:
        Spool(tmp_path, 1 << 62).write("1.2", "1.2.3", b"image")
    assert caught.value.code == "disk-low"
    assert files(tmp_path) == []


def test_the_space_that_an_instance_takes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uair_node.storage.spool.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    spool = Spool(tmp_path, 60)
    with pytest.raises(ResourceError, match="must stay free"):
        spool.write("1.2", "1.2.3", bytes(41))
    assert files(tmp_path) == []
    assert spool.write("1.2", "1.2.3", bytes(40)).path.is_file()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EIO, "disk-broken")]
)
def test_failing_sync_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    # Many file systems report a full or broken disk at fsync only.
    spool = Spool(tmp_path, 0)

    def failing(handle: int) -> Never:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ResourceError) as caught:
        spool.write("1.2", "1.2.3", b"image")
    assert caught.value.code == code
    assert files(tmp_path) == []


def test_write_that_the_system_cuts_short_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    # A file-size limit makes the write itself fail half way, in a process of its own.
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from dicom_config.errors import ResourceError; from uair_node.storage.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try: Spool(Path(sys.argv[1]), 0).write('1.2', '1.2.3', bytes(1 << 20))\n"
        "except ResourceError as error: sys.exit(0 if error.code == 'disk-broken' else 3)\n"
        "sys.exit(4)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0
    assert files(tmp_path) == []


def test_leftovers_of_a_crash_are_removed_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    kept = spool.write("1.2", "1.2.3", b"image").path
    (kept.parent / "tmpabc.part").write_bytes(b"half")
    assert spool.clean() == 1
    assert spool.clean() == 0
    assert files(tmp_path) == [kept]


def test_killed_writer_leaves_only_complete_files(tmp_path: Path) -> None:
    # The process dies between two writes of any kind: at a random byte, at the sync, at the rename.
    script = (
        "import sys; from pathlib import Path; from uair_node.storage.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 0); print('go', flush=True)\n"
        "for n in range(10**6): spool.write('1.2', f'1.2.{n}', n.to_bytes(4, 'big') * (1 << 16))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"go\n"
        while len(files(tmp_path)) < 8:
            assert writer.poll() is None
        writer.kill()
    Spool(tmp_path, 0).clean()
    survivors = files(tmp_path)
    assert len(survivors) >= 7
    for path in survivors:
        assert path.name.split(".")[1] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_parallel_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)

    def write(n: int) -> Any:
        return spool.write("1.2", f"1.2.{n % 10}", bytes([n % 20]) * 10_000)

    with ThreadPoolExecutor(8) as pool:
        spooled = list(pool.map(write, range(80)))
    for path in spooled:
        assert hashlib.sha256(path.path.read_bytes()).hexdigest() == path.sha256
    assert set(files(tmp_path)) == {path.path for path in spooled}
    assert len({path.path for path in spooled}) == 20
