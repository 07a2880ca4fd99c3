"""Hostile variants of DICOM files: bytes, lengths, elements, values and nesting, from a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from io import BytesIO

import pydicom
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

_HOSTILE_TEXT = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "1.2.\x00.3",
    "1." * 400,
    "",
    "-1",
    "1e308",
    "nan",
    "\\" * 50,
    "9" * 64,
    "'; DROP TABLE cases; --",
    "\x1b$B",
)
_NUMBERS = (0, 1, -1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_DEEP = 60
_DEEPEST_SPOILED = 6


def mutated(seed: bytes, chooser: random.Random) -> bytes:
    """Return a variant of a valid file. Half have broken bytes, half are well-formed with hostile content."""
    if chooser.random() < 0.5:
        return _broken_bytes(seed, chooser)
    try:
        return _hostile_content(seed, chooser)
    except Exception:
        # The writer refuses some contents. Such inputs become broken bytes instead.
        return _broken_bytes(seed, chooser)


def _broken_bytes(seed: bytes, chooser: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chooser.choice((1, 1, 2, 8, 64))):
        at = chooser.randrange(128, len(data))
        kind = chooser.randrange(6)
        if kind == 0:
            data[at] ^= 1 << chooser.randrange(8)
        elif kind == 1:
            data[at : at + 4] = struct.pack("<I", chooser.choice(_NUMBERS) & 0xFFFFFFFF)
        elif kind == 2:
            data[at : at + 2] = struct.pack("<H", chooser.choice(_NUMBERS) & 0xFFFF)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            piece = data[at : at + chooser.randint(1, 200)]
            data[at:at] = piece
        else:
            data[at : at + 4] = struct.pack(
                "<HH", chooser.choice((0x0008, 0xFFFE)), chooser.randrange(1 << 16)
            )
        if len(data) < 140:
            break
    return bytes(data)


def _hostile_content(seed: bytes, chooser: random.Random) -> bytes:
    dataset = pydicom.dcmread(BytesIO(seed))
    for _ in range(chooser.choice((1, 1, 2, 4))):
        place = _some_dataset(dataset, chooser)
        elements = [element for element in place if element.tag.group != 2]
        if elements:
            _spoil(place, chooser.choice(elements), chooser)
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def _some_dataset(dataset: Dataset, chooser: random.Random) -> Dataset:
    """Return the data set itself or one of its items, at some depth."""
    here = dataset
    for _ in range(_DEEPEST_SPOILED):
        if chooser.random() >= 0.7:
            break
        sequences = [element.value for element in here if element.VR == "SQ" and element.value]
        if not sequences:
            break
        here = chooser.choice(chooser.choice(sequences))
    return here


def _spoil(place: Dataset, element: DataElement, chooser: random.Random) -> None:
    kind = chooser.randrange(6)
    if kind == 0:
        del place[element.tag]
    elif element.VR == "SQ":
        _spoil_sequence(place, element, kind, chooser)
    elif kind == 1:
        place[element.tag] = DataElement(element.tag, "UN", chooser.randbytes(chooser.randrange(40)))
    elif kind == 2:
        place[element.tag] = DataElement(element.tag, "LT", chooser.choice(_HOSTILE_TEXT))
    elif kind == 3 and element.VR in ("US", "UL", "SS", "SL", "IS", "DS", "FD", "FL"):
        place[element.tag] = DataElement(element.tag, "SL", chooser.choice((0, 1, -1, 0x7FFFFFFF)))
    else:
        value = _another_value(place, element, chooser)
        place[element.tag] = DataElement(element.tag, element.VR, value)


def _spoil_sequence(place: Dataset, element: DataElement, kind: int, chooser: random.Random) -> None:
    items: Sequence[Dataset] = list(element.value)
    if kind == 1:
        place[element.tag] = DataElement(element.tag, "SQ", Items())
    elif kind == 2:
        place[element.tag] = DataElement(element.tag, "SQ", Items([*items, *items]))
    elif kind == 3 and _can_be_written(place):
        for _ in range(_DEEP):
            shell = Dataset()
            shell[element.tag] = DataElement(element.tag, "SQ", Items(items))
            items = [shell]
        place[element.tag] = DataElement(element.tag, "SQ", Items(items))
    else:
        chosen = list(items)
        chooser.shuffle(chosen)
        place[element.tag] = DataElement(element.tag, "SQ", Items(chosen[:1]))


def _can_be_written(dataset: Dataset) -> bool:
    # If the writer refuses a value below sixty nested items, then its message doubles with each level.
    try:
        dcmwrite(BytesIO(), dataset, implicit_vr=False, little_endian=True)
    except Exception:
        return False
    return True


def _another_value(place: Dataset, element: DataElement, chooser: random.Random) -> object:
    if isinstance(element.value, bytes):
        return element.value[: chooser.randrange(len(element.value) + 1)]
    if element.VR in ("US", "UL"):
        return chooser.choice((0, 1, 0xFFFF))
    if element.VR in ("DS", "IS"):
        return chooser.choice(("0", "-1", "1e300", ["1", "2"]))
    donors = [other.value for other in place if other.VR == element.VR]
    return chooser.choice([*donors, chooser.choice(_HOSTILE_TEXT)])
