"""Names and prose that `make lint` refuses: a variable called `one`, a sentence that is hard to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.prose import check

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("dicom_config", "uair_node", "workers", "scripts", "tests")
_BANNED = frozenset({"one"})


def banned_names(source: str) -> Iterator[int]:
    """Yield the lines on which a variable, a parameter or a function has a banned name."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) if name in _BANNED:
                yield node.lineno


def bound_in(template: str) -> Iterator[str]:
    """Yield the names that a Jinja template binds by ``for`` and ``set``."""
    for names in re.findall(r"{%-?\s*(?:for|set)\s+([\w, ]+?)\s+(?:in|=)\s", template):
        yield from (name.strip() for name in names.split(","))


def test_no_variable_is_called_one() -> None:
    found = [
        f"{path.relative_to(_ROOT)}:{line}"
        for package in _PACKAGES
        for path in sorted((_ROOT / package).rglob("*.py"))
        for line in banned_names(path.read_text("utf-8"))
    ]
    assert not found, "name the thing"


def test_no_variable_of_a_template_is_called_one() -> None:
    found = [
        f"{path.name}: {name}"
        for path in sorted((_ROOT / "uair_node" / "console" / "templates").rglob("*.html"))
        for name in bound_in(path.read_text("utf-8"))
        if name in _BANNED
    ]
    assert not found, "name the thing"
    assert list(bound_in("{% for name, one in rows %}{% set other = one %}")) == ["name", "one", "other"]


def test_no_sentence_is_hard_to_read() -> None:
    found = [
        f"{path.relative_to(_ROOT)}:{finding.line}: {finding.reason}: {finding.sentence}"
        for path, finding in check(_ROOT)
    ]
    assert not found, "rewrite these sentences"


def test_every_kind_of_binding_is_seen() -> None:
    loops = "for one in found: print(one)\n[one for one in found]\nlambda one: one\n"
    others = (
        "def one(): ...\ndef first(*, one): ...\none = 1\nwith found as one: ...\nprint('one', found.one)\n"
    )
    assert sorted(set(banned_names(loops))) == [1, 2, 3]
    assert sorted(set(banned_names(others))) == [1, 2, 3, 4]
