"""Check, without parsing values, that a DICOM file is complete and within limits.

A parser that builds objects needs about 0.1 ms for each sequence item, and recursion for each level. The
check of this module needs a few microseconds for each element, so it runs before any parser.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_config.errors import InputError

MOST_ITEMS = 16_000
"""The largest number of sequence items of a file, at all levels.

An Enhanced CT of 1000 frames has about 12,000 items.
"""
MOST_ELEMENTS = 100_000
DEEPEST = 64
"""The largest depth of nested sequences. The content trees of structured reports have about 10 levels."""
MOST_INFLATED_BYTES = 128 << 20
"""The largest deflated data set after inflation. Parsers inflate the whole data set in memory."""

_PIECE_BYTES = 1 << 16
_INFLATED_PIECE_BYTES = 1 << 20
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_DELIMITERS = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_PREAMBLE_BYTES = 132
_TRANSFER_SYNTAX = 0x00020010


def require_bounded(file: bytes) -> None:
    """Refuse a DICOM file (PS3.10) that is too expensive to parse. A damaged file passes.

    Raises
    ------
    InputError
        ``instance-too-complex``: too many items, elements or levels, or too many bytes after inflation.
    """
    _walk(file)


def is_whole(file: bytes) -> bool:
    """Return whether a DICOM file ends where its last element ends.

    The function raises the errors of `require_bounded`.
    """
    return _walk(file)


def inflated_size(data: bytes | memoryview, most: int) -> int:
    """Return the bytes of a deflated data set (PS3.5 A.5) after inflation. Stop counting above `most`.

    Raises
    ------
    zlib.error
        The data set is damaged or truncated.
    """
    total = 0
    for part in _inflated(data):
        total += len(part)
        if total > most:
            break
    return total


def plain_file(file: bytes) -> bytes:
    """Return a DICOM file with its data set inflated, so that no other code inflates the data set again.

    A file that is not deflated, or that is damaged, is returned unchanged.

    Raises
    ------
    InputError
        ``instance-too-complex``: too many bytes after inflation.
    """
    try:
        meta = _read_meta(file)
        if meta.syntax != DeflatedExplicitVRLittleEndian:
            return file
        plain = BytesIO()
        plain.write(file[: meta.syntax_at[0]])
        plain.write(str(ExplicitVRLittleEndian).encode().ljust(meta.syntax_at[1] - meta.syntax_at[0], b"\0"))
        plain.write(file[meta.syntax_at[1] : meta.end])
        for part in _inflated(memoryview(file)[meta.end :]):
            plain.write(part)
            if plain.tell() > MOST_INFLATED_BYTES + meta.end:
                raise _too_complex(f"its data set inflates to more than {MOST_INFLATED_BYTES >> 20} MiB")
        return plain.getvalue()
    except (struct.error, zlib.error):
        return file


def _inflated(data: bytes | memoryview) -> Iterator[bytes]:
    """Inflate piece by piece, because zlib copies the rest of its input at each call."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(data), _PIECE_BYTES):
        rest: bytes | memoryview = data[start : start + _PIECE_BYTES]
        while rest and not unpacker.eof:
            yield unpacker.decompress(rest, _INFLATED_PIECE_BYTES)
            rest = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise zlib.error("the stream is truncated")


def _walk(file: bytes) -> bool:
    file = plain_file(file)
    try:
        meta = _read_meta(file)
        if meta.syntax == DeflatedExplicitVRLittleEndian:
            return False
        return _Walk(file, meta.syntax).data_set(meta.end)
    except struct.error:  # the file ends in the middle of an element
        return False


@dataclass(frozen=True)
class _Meta:
    """A file's transfer syntax, the byte range [begin, end) of its UID, and the data set's offset."""

    syntax: str
    syntax_at: tuple[int, int]
    end: int


def _read_meta(file: bytes) -> _Meta:
    """Read the file meta information (PS3.10 7.1)."""
    meta, at = _Walk(file, ""), _PREAMBLE_BYTES
    syntax, place = str(ImplicitVRLittleEndian), (0, 0)
    while file[at : at + 2] == b"\x02\x00":
        tag, _, value, length = meta.header(at, explicit=True)
        at = value + length
        if tag == _TRANSFER_SYNTAX:
            syntax, place = file[value:at].rstrip(b"\0 ").decode("ascii", "replace"), (value, at)
    return _Meta(syntax, place, at)


@dataclass(frozen=True)
class _Open:
    """A sequence or item around the walk's present place. `end` is None if a delimiter ends the element."""

    end: int | None
    explicit: bool
    fragments: bool = False


class _Walk:
    """One walk over a data set in one transfer syntax."""

    def __init__(self, data: bytes, syntax: str) -> None:
        self._data = data
        self._explicit = syntax != ImplicitVRLittleEndian
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        self._tag, self._short, self._long = (struct.Struct(order + form) for form in ("HH", "H", "L"))
        self._items = self._elements = 0

    def header(self, at: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        """Return an element's tag, VR, the offset of its value, and its length (PS3.5 7.1)."""
        group, element = self._tag.unpack_from(self._data, at)
        tag = group << 16 | element
        if group == _DELIMITERS or not explicit:
            return tag, b"", at + 8, self._long.unpack_from(self._data, at + 4)[0]
        vr = self._data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            return tag, vr, at + 12, self._long.unpack_from(self._data, at + 8)[0]
        return tag, vr, at + 8, self._short.unpack_from(self._data, at + 6)[0]

    def data_set(self, at: int) -> bool:
        """Walk to the end of the data. Return whether the last element ends there."""
        size, opened = len(self._data), [_Open(None, self._explicit)]
        while at < size:
            while (end := opened[-1].end) is not None and at >= end:
                opened.pop()
            inside = opened[-1]
            tag, vr, at, length = self.header(at, explicit=inside.explicit)
            self._count(tag, inside, len(opened))
            if tag in (_ITEM_END, _SEQUENCE_END):
                if len(opened) > 1:
                    opened.pop()
            elif length != _UNDEFINED and at + length > size:
                return False
            elif length == _UNDEFINED or _holds_elements(tag, vr, inside):
                end = None if length == _UNDEFINED else at + length
                # The content of UN has implicit VR (PS3.5 6.2.2, note 2).
                fragments = tag == _PIXEL_DATA or vr in (b"OB", b"OW")
                opened.append(_Open(end, inside.explicit and vr != b"UN", fragments))
            else:
                at += length
        return at == size and all(each.end == size for each in opened[1:])

    def _count(self, tag: int, inside: _Open, levels: int) -> None:
        self._elements += 1
        self._items += tag == _ITEM and not inside.fragments
        if self._items > MOST_ITEMS:
            raise _too_complex(f"it has more than {MOST_ITEMS} sequence items")
        if self._elements > MOST_ELEMENTS:
            raise _too_complex(f"it has more than {MOST_ELEMENTS} elements")
        if levels > 2 * DEEPEST:  # each level has a sequence and its item
            raise _too_complex(f"its sequences are nested more than {DEEPEST} deep")


def _holds_elements(tag: int, vr: bytes, inside: _Open) -> bool:
    if tag == _ITEM:
        return not inside.fragments
    if vr == b"SQ":
        return True
    return vr in (b"", b"UN") and dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


def _too_complex(why: str) -> InputError:
    return InputError(
        "instance-too-complex",
        f"The instance cannot be registered: {why}.",
        "Send smaller objects, or uncompressed ones if the object was deflated.",
    )
