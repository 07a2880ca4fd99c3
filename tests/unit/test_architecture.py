"""The figures of docs/architecture.md: drawn again, states and queues are the ones on the page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def _figures(page: str) -> dict[str, str]:
    """Figures by their headings."""
    return dict(re.findall(r"^## (.+?)\n.*?^```mermaid\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


def test_the_page_shows_the_states_and_queues_of_the_code() -> None:
    drawn = _figures(runpy.run_path(str(_ROOT / "scripts" / "architecture.py"))["page"]())
    there = _figures((_ROOT / "docs" / "architecture.md").read_text("utf-8"))
    assert (
        set(there)
        == set(drawn)
        == {
            "Who imports whom",
            "States of a case",
            "Kinds of work and their queues",
        }
    )
    for heading in ("States of a case", "Kinds of work and their queues"):
        assert there[heading] == drawn[heading], "run `make architecture`"
    assert "uair_node --> workers" not in drawn["Who imports whom"]


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_that_the_developers_page_names_exist() -> None:
    page = (_ROOT / "docs" / "developers.md").read_text("utf-8")
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.py)`", page)) | set(re.findall(r"`((?:[\w.]+/)+)`", page))
    assert len(named) > 40
    folders = (_ROOT, _ROOT / "uair_node", _ROOT / "workers")
    lost = sorted(name for name in named if not any((folder / name).exists() for folder in folders))
    assert not lost, "each name is a path from the root, `uair_node` or `workers`"
