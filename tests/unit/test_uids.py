"""Deterministic UIDs."""

import re
import uuid

import pytest

from uair_node.results.uids import result_uid

PARTS = ("case-digest", "model-digest", 1, 3, "seg")


def test_a_uid_never_changes_between_releases() -> None:
    """Pinned: a changed value would make redelivered tasks send their results twice."""
    assert result_uid(*PARTS) == "2.25.292074575446663187141337688276047334076"


@pytest.mark.parametrize("index", range(len(PARTS)))
def test_every_part_counts(index: int) -> None:
    changed = list(PARTS)
    changed[index] = f"{changed[index]}x"
    assert result_uid(*changed) != result_uid(*PARTS)


def test_parts_do_not_run_into_each_other() -> None:
    uids = {
        result_uid(*parts)
        for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), (1, 23), (12, 3)]
    }
    assert len(uids) == 7


def test_form_is_valid() -> None:
    """PS3.5 9.1: digits and dots, 64 characters at most, no leading zero; B.2: a UUID as one integer."""
    for number in range(200):
        uid = result_uid("form", number)
        assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", uid)
        assert len(uid) <= 64
        assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5


def test_nothing_derives_from_nothing() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        result_uid()
