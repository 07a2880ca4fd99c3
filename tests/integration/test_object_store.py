"""Node and workers with a data folder each, over a real S3-compatible server."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from dicom_config.errors import TransientError
from dicom_config.model import Settings
from dicom_config.operation import StoreSection
from tests.console.conftest import studies_folder as studies_folder  # a fixture
from tests.support.cases import ready_case
from tests.support.console import VIEWER, console_site
from tests.support.intake import context_in
from tests.support.object_store import ObjectServer
from tests.support.pacs import await_round, seg_series
from tests.support.peers import Dcmtk, Orthanc, Postgres, RabbitMQ
from tests.support.ports import free_port, wait_until
from tests.support.running_node import HOST, hospital, quick
from tests.support.studies import node_in
from uair_node.cases import lifecycle
from uair_node.cases.tables import utc_now
from uair_node.operations.checks.machine import check_store
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.storage.object_store import ObjectStore
from uair_node.storage.store import Store
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("s3"))
    try:
        made.start()
        yield made
    finally:
        made.kill()


def _store(root: Path, server: ObjectServer) -> Store:
    root.mkdir()
    return Store(root, ObjectStore(StoreSection(**server.section)))


def test_what_one_machine_shares_another_fetches(tmp_path: Path, server: ObjectServer) -> None:
    here, there = _store(tmp_path / "node", server), _store(tmp_path / "worker", server)
    paths = [here.round_folder(1, 1, "made") / name for name in ("candidates.npz", "state.npz")]
    for path in paths:
        path.write_bytes(path.name.encode())
    first = here.share(*paths)
    assert first == "artifacts/case-000001/round-01.made/candidates.npz"
    found = there.fetch(first)
    assert found == tmp_path / "worker" / first
    assert found.read_bytes() == b"candidates.npz"
    folder = there.fetch_folder("artifacts/case-000001/round-01.made", ["state.npz"])
    assert sorted(path.name for path in folder.iterdir()) == ["candidates.npz", "state.npz"]
    assert here.remote is not None
    here.remote.remove([first, "artifacts/none"])
    assert first not in server.names()
    assert there.fetch_if_kept(first) == found, "it lies here already"
    assert _store(tmp_path / "third", server).fetch_if_kept(first) is None


def test_retention_deletes_what_replaced_workers_shared(tmp_path: Path, server: ObjectServer) -> None:
    url, retention = f"sqlite:///{tmp_path / 'uair.sqlite'}", {"failed": {"files_days": 1}}
    with context_in(tmp_path / "data", url, retention=retention) as local:
        store = Store(local.store.root, ObjectStore(StoreSection(**server.section)))
        context = replace(local, store=store)
        with context.database.transaction() as session:
            case = ready_case(session, "1.1")
            lifecycle.fail(session, case, code="work-failed", cause="A cause.", remedy="A remedy.")
            case.updated_at = utc_now() - timedelta(days=2)
            folders = [store.round_folder(case.id, 1, claim) for claim in ("counts", "lost")]
            case.rounds[0].artifacts = store.relative(folders[0])
        other = store.round_folder(case.id + 1, 1, "counts")
        for folder in (*folders, other):
            (folder / "candidates.npz").write_bytes(b"candidates")
            store.share(folder / "candidates.npz")
        apply_retention(context, dry_run=False, now=utc_now())
    of_case = f"case-{case.id:06d}/"
    assert not [name for name in server.names() if of_case in name]
    assert store.relative(other / "candidates.npz") in server.names()


def test_what_nobody_shared_or_a_server_that_is_away_is_tried_again(
    tmp_path: Path, server: ObjectServer
) -> None:
    store = _store(tmp_path / "worker", server)
    with pytest.raises(TransientError) as caught:
        store.fetch("artifacts/absent.npz")
    assert caught.value.code == "store-unavailable"
    assert list((tmp_path / "worker" / "artifacts").iterdir()) == [], "nothing half is left"
    away = StoreSection(**{**server.section, "endpoint_url": "http://127.0.0.1:9"})
    (tmp_path / "worker" / "x").write_bytes(b"x")
    with pytest.raises(TransientError):
        Store(tmp_path / "worker", ObjectStore(away)).share(tmp_path / "worker" / "x")


def test_a_console_on_another_machine_fetches_what_it_shows(
    tmp_path: Path, server: ObjectServer, studies_folder: Path
) -> None:
    with node_in(studies_folder) as context:
        here = Store(context.store.root, ObjectStore(StoreSection(**server.section)))
        shared = (path for part in ("spool", "artifacts") for path in (here.root / part).rglob("*"))
        here.share(*(path for path in shared if path.is_file()))
        there = replace(context, store=_store(tmp_path / "console", server))
        site = console_site(there)
        with site.visitor() as client:
            site.enter(client, VIEWER)
            page = client.get("/cases/2/segmentation")
            assert page.text.count("<circle") == 2, "both studies"
            assert 'id="all-numbers"' in page.text
            for what in ("slices/9.jpg", "thumbnail.jpg", "surfaces.glb", "export/nifti", "export/dicom"):
                assert client.get(f"/cases/2/rounds/2/0/{what}").status_code == 200, what


def test_check_waits_for_a_store_that_hangs_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is open and nothing answers: a server that is stopped, a firewall that swallows."""
    monkeypatch.setattr("uair_node.storage.object_store._PROBE_S", 0.5)
    with socket.create_server((HOST, 0)) as silent:
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        store = ObjectStore(StoreSection(url="s3://uair", endpoint_url=url, access_key="uair"))
        with pytest.raises(TransientError, match="cannot be used now"):
            store.probe()
        assert _waiting_connections(silent) == 1


def _waiting_connections(server: socket.socket) -> int:
    """Take what has connected to a server so far; return how many these are."""
    server.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            taken += 1
    return taken


def test_check_names_a_store_that_is_away(tmp_path: Path, server: ObjectServer) -> None:
    def finding(**changes: str) -> tuple[str, bool]:
        settings = Settings(data_dir=tmp_path, store=StoreSection(**{**server.section, **changes}))
        (found,) = check_store(settings)
        return found.code, found.ok

    assert finding() == ("", True)
    assert finding(endpoint_url=f"http://127.0.0.1:{free_port()}") == ("store-unavailable", False)
    assert finding(url="s3://nobody-made-this") == ("store-bucket", False)
    assert finding(secret_key_file=str(tmp_path / "absent")) == ("store-secret", False)


def test_a_case_over_three_machines(
    tmp_path: Path,
    server: ObjectServer,
    orthanc: Orthanc,
    dcmtk: Dcmtk,
    rabbitmq: RabbitMQ,
    postgres: Postgres,
) -> None:
    """Each process has its own data folder; a pick and an acceptance go through all of them."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    engine = {"members": 8, "max_lesions": 1}
    with postgres.database() as url:
        settings = {**quick([pacs]), "engine": engine, "store": server.section}
        made = hospital(tmp_path, settings, url, rabbitmq.url)
        folders = {name: tmp_path / f"data-{name}" for name in made.processes}
        made.own_data(folders)
        for verb in ("UAIR_PICK", "UAIR_ACCEPT"):
            orthanc.add_modality(verb, verb, HOST, made.port)
        try:
            made.start()
            sent = dcmtk.storescu(HOST, made.port, "UAIR", "ROUTER", _series(tmp_path / "ct"))
            assert sent.returncode == 0
            first = await_round(orthanc, 1, 240)
            made.await_state("AWAITING_SELECTION")
            orthanc.store(first[1].instances[0], "UAIR_PICK")
            second = await_round(orthanc, 2)
            made.await_state("AWAITING_SELECTION")
            orthanc.store(second[0].instances[0], "UAIR_ACCEPT")
            made.await_state("ACCEPTED")
            wait_until(lambda: len(seg_series(orthanc, "UAIR FINAL")) == 1, "the final segmentation")
        finally:
            made.stop()
    _check_places(folders, server)


def _series(folder: Path) -> list[Path]:
    phantom = make_phantom(3, size="small")
    z, y, x = phantom.spacing_mm
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    return write_ct_series(folder, phantom.hu, affine)


def _check_places(folders: Mapping[str, Path], server: ObjectServer) -> None:
    """Each machine holds what it wrote and what it needed, no more."""
    held = {name: {path.suffix for path in folder.rglob("*")} for name, folder in folders.items()}
    assert ".safetensors" in held["gpu"], "embeddings stay on the machine that computes"
    assert not {".safetensors"} & (held["node"] | held["io"])
    states = [path.parent.name.partition(".")[0] for path in folders["io"].rglob("state.npz")]
    assert states == ["round-02"], "the io worker needs the accepted round's state alone, for its intervals"
    names = server.names()
    assert {os.path.splitext(name)[1] for name in names} == {".dcm", ".npz", ".json"}, names
    assert sum(name.endswith("state.npz") for name in names) == 2
