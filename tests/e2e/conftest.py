"""Fixtures of the end-to-end tests: a phantom series, and the product with an Orthanc as its PACS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.modes import common_umask
from tests.support.peers import Orthanc, Postgres, RabbitMQ
from tests.support.ports import free_port
from tests.support.running_node import HOST, Deployment, embedded, hospital, quick
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

VERBS = ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT")


@pytest.fixture(scope="session")
def phantom_series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small phantom with two lesions as a CT series."""
    phantom = make_phantom(3, size="small")
    z, y, x = phantom.spacing_mm
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    return write_ct_series(tmp_path_factory.mktemp("phantom"), phantom.hu, affine)


@pytest.fixture(params=["embedded", pytest.param("hospital", id="rabbitmq-postgresql")])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc) -> Iterator[Deployment]:
    """The running product with Orthanc as its destination. Orthanc knows its four AE titles."""
    orthanc.delete_all()
    pacs = {
        "name": "pacs",
        "ae_title": orthanc.aet,
        "host": HOST,
        "port": orthanc.dicom_port,
        "withdraw": True,
    }
    settings = {**quick([pacs]), "engine": {"preference": "department", "members": 8}}
    settings |= {"monitoring": {"port": free_port()}, "logs": {"format": "json"}}
    if request.param == "embedded":
        made = embedded(tmp_path, settings)
        yield from running(made, orthanc)
        return
    broker: RabbitMQ = request.getfixturevalue("rabbitmq")
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield from running(hospital(tmp_path, settings, url, broker.url), orthanc)


def running(made: Deployment, orthanc: Orthanc) -> Iterator[Deployment]:
    """Run the product for a fixture. Orthanc knows its four AE titles."""
    for verb in VERBS:
        orthanc.add_modality(verb, verb, HOST, made.port)
    with common_umask():
        made.start()
    try:
        yield made
    finally:
        made.stop()
