"""The whole loop with a viewer: the archive sends a phantom, and passes on the viewer's stored objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from tests.support.ohif import OhifPage
from tests.support.orthanc import Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, embedded, quick
from uair_node.dicom.volume import Volume, read_series
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

PATIENCE_S = 300.0  # rounds are computed while a browser and an archive share the processors
SEED = 3
_STORE_TRIES, _STORED_S = 4, 90.0


def looping(folder: Path, orthanc: Orthanc, **engine: Any) -> Iterator[Deployment]:
    """Yield the product in one process tree, with the emptied archive as its only peer."""
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": HOST, "port": orthanc.dicom_port}
    # A browser on this machine may keep a worker from its processor for longer than a short lease.
    settings = {**quick([pacs], work={"lease_s": 60}), "engine": {"members": 8, **engine}}
    made = embedded(folder, settings)
    for title in ("UAIR", "UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT"):
        orthanc.add_modality(title, title, HOST, made.port)
    made.start()
    yield made
    made.stop()


def send_phantom(folder: Path, orthanc: Orthanc) -> Volume:
    """Put a phantom's series into the archive, which sends it to the node."""
    phantom = make_phantom(SEED, size="small")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * phantom.spacing_mm
    affine[:3, 3] = (-190.0, -185.0, 40.0)
    paths = write_ct_series(folder / "ct", phantom.hu, affine)
    orthanc.store([orthanc.upload(path.read_bytes()) for path in paths], "UAIR")
    return read_series(paths)


def study_of(volume: Volume) -> str:
    """Return the Study Instance UID of a series."""
    return str(pydicom.dcmread(volume.slices[0].path, stop_before_pixels=True).StudyInstanceUID)


def on_screen(page: OhifPage, row: float, column: float, size: int) -> tuple[float, float]:
    """Return the pixel of a voxel's centre. The viewer shows the whole square image in its middle."""
    left, top, width, height = page.canvas()
    pixel, middle = min(width, height) / size, (size - 1) / 2
    return left + width / 2 + (column - middle) * pixel, top + height / 2 + (row - middle) * pixel


def store_until(stored: Callable[[], bool], store: Callable[[], None]) -> None:
    """Repeat `store` until the archive has the object (`stored`).

    A browser on a busy machine loses clicks. A reader who sees no stored object opens the study again.
    """
    for _ in range(_STORE_TRIES):
        with suppress(TimeoutError):
            store()
            wait_until(stored, "the archive to have it", _STORED_S)
            return
    raise TimeoutError(f"the viewer stored nothing in {_STORE_TRIES} tries")


def notice_texts(orthanc: Orthanc) -> list[str]:
    """Return the texts of the notices in the study, in their order."""
    series = [
        found
        for found in orthanc.series()
        if found.tags.get("SeriesDescription", "").startswith("UAIR NOTICES")
    ]
    instances: list[Mapping[str, Any]] = [
        orthanc.tags(instance) for found in series for instance in found.instances
    ]
    ordered = sorted(instances, key=lambda tags: int(tags["InstanceNumber"]))
    return [str(tags["ImageComments"]) for tags in ordered]
