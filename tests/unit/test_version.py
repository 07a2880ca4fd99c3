"""The version stands in one place; what repeats it says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uair_node import __version__

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"\A(?:.|\n)*?^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$"),
        ("docs/conformance.md", r"^UAIR node (\d\S*\d)\."),
        ("docker-compose.yml", r"uair-node:([\d.]+)"),
        ("Dockerfile", r"uair-node:([\d.]+)"),
    ],
)
def test_every_file_names_the_version(file: str, pattern: str) -> None:
    assert set(re.findall(pattern, (_ROOT / file).read_text("utf-8"), re.MULTILINE)) == {__version__}


def test_a_citation_has_the_changelog_s_date() -> None:
    (released,) = re.findall(
        r"^date-released: (\S+)$", (_ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE
    )
    assert f"## [{__version__}] - {released}\n" in (_ROOT / "CHANGELOG.md").read_text("utf-8")
