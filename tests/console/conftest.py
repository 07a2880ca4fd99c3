"""A node with a case that awaits its reader and whose texts contain markup, and a console on this node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dicom_config.model import Verb
from tests.support.cases import receiving_case
from tests.support.console import OPERATOR, VIEWER, Site, console_site
from tests.support.offered import copied_case, offered_case
from tests.support.series import edit_all, good_series
from tests.support.studies import BEFORE, NOW, node_in, send_study
from uair_node.cases import lifecycle
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import WorkKind
from uair_node.dicom.gate_codes import gate_error

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: case 1 published with pictures, case 2 rejected."""
    folder = tmp_path_factory.mktemp("console-node")
    paths = edit_all(
        good_series(folder / "ct", accession_number="ACC-1"),
        PatientName=f"Probe^{MARKUP}",
        SeriesDescription=f"<script>alert(2)</script>{MARKUP}",
        StudyDescription="'\"><b>",
    )
    with offered_case(folder, paths) as case:
        case.work(WorkKind.PAGES)
        with case.context.database.transaction() as session:
            other = receiving_case(session, "1.2.4")
            lifecycle.reject_input(session, other, gate_error("no-rescale"))
    return folder


@pytest.fixture
def site(node_folder: Path, tmp_path: Path) -> Iterator[Site]:
    """The console on a copy of the node."""
    with copied_case(node_folder, tmp_path / "node") as case:
        yield console_site(case.context)


@pytest.fixture
def visitor(site: Site) -> Iterator[TestClient]:
    """A client that is not logged in."""
    with site.visitor() as client:
        yield client


@pytest.fixture
def viewer(site: Site) -> Iterator[TestClient]:
    """The client of a user with the role viewer."""
    with site.visitor() as client:
        yield site.enter(client, VIEWER)


@pytest.fixture
def operator(site: Site) -> Iterator[TestClient]:
    """The client of a user with the role operator."""
    with site.visitor() as client:
        yield site.enter(client, OPERATOR)


@pytest.fixture(scope="session")
def studies_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node with four studies: two of P1 (the second in two rounds), one of P2, an open one of P3."""
    folder = tmp_path_factory.mktemp("studies")
    accept = (Verb.ACCEPT, ReaderChoice(1))
    mixed = [(Verb.PICK, ReaderChoice(3)), (Verb.ACCEPT, ReaderChoice(1, {2: 2}))]
    with node_in(folder) as context:
        send_study(context, folder / "1", BEFORE, [accept], patient="P1", day="20260105")
        send_study(context, folder / "2", NOW, mixed, patient="P1", day="20260205")
        send_study(context, folder / "3", NOW, [accept], patient="P2", day="20260305")
        send_study(context, folder / "4", BEFORE, [], patient="P3", day="20260405")
    return folder


@pytest.fixture
def studies(studies_folder: Path, tmp_path: Path) -> Iterator[Site]:
    """The console on a copy of the node of `studies_folder`."""
    shutil.copytree(studies_folder, tmp_path / "node")
    with node_in(tmp_path / "node") as context:
        yield console_site(context)


@pytest.fixture
def reader(studies: Site) -> Iterator[TestClient]:
    """The client of a user who may view the studies."""
    with studies.visitor() as client:
        yield studies.enter(client, VIEWER)
