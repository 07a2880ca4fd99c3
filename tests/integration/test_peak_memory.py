"""Peak memory of the listener under many associations at a time.

`make bench ARGS=tests/bench/test_memory_by_syntax.py` does it with fifty, for each transfer syntax.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.support.listening import ASSOCIATIONS
from tests.support.peak_memory import (
    BUSY,
    FULL,
    MOST_BYTES,
    NOT_UNDERSTOOD,
    TAKEN,
    Listening,
    data_set,
    edits_at_once,
    label_map,
    listening_in,
    send_at_once,
)

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening_in(tmp_path_factory.mktemp("listening")) as made:
        yield made


# Read without a codec, decoded in a child, refused by the header of its codestream.
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_edits_at_a_time_take_bounded_memory(listening: Listening, tmp_path: Path, syntax: UID) -> None:
    assert edits_at_once(listening, syntax, tmp_path, associations=4) < MOST_BYTES


def test_deflated_objects_at_a_time_take_bounded_memory(listening: Listening) -> None:
    """Each is 0.1 MB and inflates to 120 MiB of zeros: together more than twice what is allowed."""
    dataset = label_map(listening)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(data_set(dataset)[: -len(dataset.PixelData) - 12])]
    size = 120 << 20
    parts.append(packer.compress(b"\xe0\x7f\x10\x00OB\x00\x00" + struct.pack("<L", size)))
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    data = b"".join([*parts, packer.flush()])
    before = listening.forget()
    statuses = send_at_once(
        listening, dataset, DeflatedExplicitVRLittleEndian, data, called="UAIR", associations=12
    )
    assert statuses <= {TAKEN, BUSY, FULL}
    assert TAKEN in statuses, "the memory of one object is there"
    assert listening.peak_bytes() - before < MOST_BYTES


def test_damaged_objects_at_a_time_are_refused(listening: Listening) -> None:
    dataset = label_map(listening)
    data = data_set(dataset)[:300]
    before = listening.forget()
    statuses = send_at_once(
        listening, dataset, ExplicitVRLittleEndian, data, called="UAIR", associations=ASSOCIATIONS
    )
    assert statuses == {NOT_UNDERSTOOD}
    assert listening.peak_bytes() - before < MOST_BYTES
