"""Fixtures: a round in the archive, and the viewer's page on this archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium
from tests.support.ohif import Ohif, OhifPage
from tests.support.orthanc import Orthanc
from tests.support.running_node import Deployment
from tests.viewer.loop import send_phantom
from tests.viewer.rounds import RoundInArchive, put_round
from uair_node.dicom.volume import Volume


@pytest.fixture(scope="module")
def round_in_archive(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> RoundInArchive:
    """Four candidates of one series, the only objects in the archive."""
    return put_round(orthanc, tmp_path_factory.mktemp("round"))


@pytest.fixture(scope="module")
def page(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OhifPage]:
    """OHIF on the archive, in a browser with a new profile."""
    ohif = Ohif(orthanc.url)
    try:
        browser = Chromium(tmp_path_factory.mktemp("chromium"), width=1100, height=720)
        yield OhifPage(browser, ohif)
        browser.close()
    finally:
        ohif.close()


@pytest.fixture
def volume(tmp_path: Path, orthanc: Orthanc, deployment: Deployment) -> Volume:
    """A phantom's series, which the archive sends to the `deployment` of the module."""
    return send_phantom(tmp_path, orthanc)
