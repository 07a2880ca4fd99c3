"""Sample objects from Python packages. Many different programs wrote them, and some are damaged.

They are pydicom's and pynetdicom's test files, and pydicom-data, which ``scripts/install-peers.sh`` installs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from tests.support.server import absent, peers_folder
from uair_node.network.responses import KEEP_RESPONSES

_PACKAGES = {"pydicom": "data", "pynetdicom": "tests/dicom_files"}
_NAMED = ["SOPClassUID", "SOPInstanceUID"]
_CONTEXTS = 120
"""Presentation contexts of an association; the maximum is 128 (PS3.8 9.3.2.2)."""
NOT_NEGOTIATED = -1
"""A value in place of a status: the node did not accept the object's class."""
_UNKNOWN = "1.2.826.0.1.3680043.9.3811.9"
"""SOP class and instance of the request if the data set names none."""


@dataclass(frozen=True)
class Sample:
    """An object in the form in which it is sent.

    Attributes
    ----------
    name
        Package and file.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        UIDs of the request.
    data
        The encoded data set, byte for byte as in the file.
    """

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes


def samples() -> list[Sample]:
    """Return every sample that is a DICOM data set, or end the test by `absent` if a package is missing."""
    stores = list((peers_folder() / "python").glob("lib/python*/site-packages/data_store/data"))
    if not stores:
        absent("not installed: pydicom-data")
    folders = [("pydicom-data", stores[0])]
    for package, inside in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folders.append((package, Path(spec.origin).parent / inside))
    found = []
    for package, folder in folders:
        for path in sorted(folder.rglob("*")):
            sample = _sample(f"{package}: {path.relative_to(folder)}", path) if path.is_file() else None
            if sample is not None:
                found.append(sample)
    return found


def _sample(name: str, path: Path) -> Sample | None:
    data = path.read_bytes()
    part_10 = data[128:132] == b"DICM"
    if not part_10 and path.suffix != ".dcm":
        return None
    header = dcmread(BytesIO(data), force=True, specific_tags=_NAMED, stop_before_pixels=True)
    implicit, little = header.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    syntax = header.file_meta.get("TransferSyntaxUID") or (ImplicitVRLittleEndian if implicit else explicit)
    sop_class, instance = (str(header.get(keyword) or _UNKNOWN) for keyword in _NAMED)
    return Sample(name, sop_class, instance, str(syntax), data[_start(header, data) if part_10 else 0 :])


def _start(header: Dataset, data: bytes) -> int:
    """Return the offset of the data set, after preamble, prefix and File Meta Information (PS3.10 7.1)."""
    length = header.file_meta.get("FileMetaInformationGroupLength")
    if length is not None:
        return 132 + 12 + int(length)
    stream = BytesIO(data[132:])
    read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group > 2)
    return 132 + stream.tell()


def send(port: int, called: str, objects: Sequence[Sample]) -> list[tuple[Sample, int, str]]:
    """Send objects over the fewest possible associations; return status and comment of each answer."""
    kinds = sorted({(each.sop_class_uid, each.transfer_syntax_uid) for each in objects})
    answers = []
    for first in range(0, len(kinds), _CONTEXTS):
        proposed = kinds[first : first + _CONTEXTS]
        entity = AE("SENDER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 300.0
        for sop_class, syntax in proposed:
            entity.add_requested_context(sop_class, syntax)
        association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=[KEEP_RESPONSES])
        assert association.is_established
        contexts = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
            for context in association.accepted_contexts
        }
        association._reactor_checkpoint.clear()  # like the library's C-STORE: we read the answers
        for number, each in enumerate(objects, 1):
            kind = each.sop_class_uid, each.transfer_syntax_uid
            if kind not in proposed:
                continue
            if kind not in contexts:
                answers.append((each, NOT_NEGOTIATED, ""))
                continue
            request = C_STORE()
            request.MessageID, request.Priority = number, 2
            request.AffectedSOPClassUID = each.sop_class_uid
            request.AffectedSOPInstanceUID = each.sop_instance_uid
            request.DataSet = BytesIO(each.data)
            association.dimse.send_msg(request, contexts[kind])
            _, answer = association.dimse.get_msg(block=True)
            assert answer is not None, f"no answer to {each.name}"
            answers.append((each, int(answer.Status), str(answer.ErrorComment or "")))
        association._reactor_checkpoint.set()
        association.release()
    return answers
