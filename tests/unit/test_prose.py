"""Sentences are short and name their nouns; the check of `make lint` finds the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.prose import MOST_WORDS, check, findings, python_findings, sentences

LONG = " ".join(["word"] * (MOST_WORDS + 1)) + "."


def reasons(text: str) -> list[str]:
    return [finding.reason for finding in findings(text)]


def test_a_sentence_may_have_so_many_words_and_no_more() -> None:
    assert not reasons(" ".join(["word"] * MOST_WORDS) + ". A second sentence.")
    assert reasons(LONG) == [f"{MOST_WORDS + 1} words, at most {MOST_WORDS}"]


@pytest.mark.parametrize(
    "text",
    [
        "Of the values.",
        "A first sentence. Of each lesion the volume is kept.",
        "The mask of the one that is asked for.",
        "Of equals the first.",
        "Pure arrays. Knows nothing of files.",
        "Owns the table.",
    ],
)
def test_avoided_phrases_are_found(text: str) -> None:
    assert reasons(text)


@pytest.mark.parametrize(
    "text", ["Of course it is.", "A part of the values.", "`Of the values` is a title.", "```\nOf the\n```"]
)
def test_similar_words_and_code_are_left_alone(text: str) -> None:
    assert not reasons(text)


def test_items_cells_headings_and_definitions_are_paragraphs() -> None:
    text = "# Title\nFirst\nhalf.\n\n- an item\n  that goes on\n1. another\n| a | b |\nname\n    Its meaning."
    assert [sentence for _, sentence in sentences(text)] == [
        "Title",
        "First half.",
        "an item that goes on",
        "another",
        "a",
        "b",
        "name",
        "Its meaning.",
    ]


def test_a_finding_has_the_line_of_its_paragraph() -> None:
    assert [finding.line for finding in findings(f"Short.\n\n```\ncode\n```\n\nShort.\n{LONG}")] == [7]


def test_code_and_addresses_do_not_count_as_words() -> None:
    assert [sentence for _, sentence in sentences("See [here](https://a.b/c) and `a b c d`.")] == [
        "See here and code."
    ]


def test_docstrings_comments_and_messages_of_a_module_are_read() -> None:
    source = (
        f'"""Module. {LONG}"""\n'
        "class A:\n"
        f'    """Class. {LONG}"""\n'
        "    x = 1\n"
        f'    """Attribute. {LONG}"""\n'
        "    def f(self):\n"
        f'        """Function. {LONG}"""\n'
        "        # First line,\n"
        f"        # {LONG}\n"
        f"        y = 'no sentence'  # {LONG}\n"
        f"        z = 'A message. {LONG}', f'A {{y}}: {LONG}'\n"
        f"        return '{LONG}'\n"
    )
    assert sorted(finding.line for finding in python_findings(source)) == [1, 3, 5, 7, 8, 10, 11, 11]


@pytest.mark.parametrize("start", ["What", "Who", "How", "Where", "Nothing", "Tell"])
def test_a_docstring_begins_with_a_noun_or_a_verb(start: str) -> None:
    (found,) = python_findings(f'"""{start} is read."""\nx = """{start} is read."""\n# {start} is read.\n')
    assert (found.line, found.reason) == (1, "begin a docstring with a noun or its function's verb")


def test_a_repository_is_read_from_code_to_documents(tmp_path: Path) -> None:
    texts = {
        "uair_node/a/b.py": f'"""{LONG}"""',
        "README.md": LONG,
        "docs/x/y.md": LONG,
        "tests/data.py": f'TEXT = "{LONG}"',
        "tests/t.py": f"# {LONG}",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    found = [str(path.relative_to(tmp_path)) for path, _ in check(tmp_path)]
    assert found == ["uair_node/a/b.py", "tests/t.py", "README.md", "docs/x/y.md"]
