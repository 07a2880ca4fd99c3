"""Check that docstrings, comments, messages and documents are plain English.

Sentences are short and contain no avoided phrase.

`python -m scripts.prose` prints each finding with its file and line, and exits with 1 if there are any. The
rules are in CONTRIBUTING.md. There is no list of exceptions: a finding disappears only when an author
rewrites the sentence.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("dicom_config", "uair_node", "workers", "scripts")
TESTS = ("tests",)
"""Packages whose string literals are not checked: they are test data."""

MOST_WORDS = 25
"""The longest sentence that passes, in words."""

AVOIDED = {
    r"^Of (?!course)": "put the subject first instead of 'Of ...'",
    r"\bof equals\b": "say which candidates tie",
    r"\bthe ones? (that|which|who|whose)\b": "name the noun instead of 'the one that'",
    r"\b(bore|heeds?|hastens?|mends?)\b": "use a plain word",
    r"(?i)\b(somebody|nobody|anybody|everybody|someone|anyone|everyone)\b": "name the role, such as 'reader'",
    r"^(Owns|Knows)\b": "name the subject: 'This module ...'",
}
"""Patterns that a sentence must not contain, each with its advice."""

AVOIDED_STARTS = re.compile(r"(What|Who|Whoever|Whose|How|Where|Which|When|Why|Nobody|Nothing|Tells?)\b")
"""First words that a docstring must not have. A docstring begins with a noun or with its function's verb."""

_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')*])\s+")
_WORD = re.compile(r"[A-Za-z][\w'’-]*")
_NEW_UNIT = re.compile(r"^\s*([-*+] |\d+\. |#|>|\||-{3,}$|={3,}$)")
_DEFINITION_INDENT = 4
_MESSAGE = re.compile(r"[A-Z`{].* .* .*[.!?]", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """A fault of a sentence. The sentence begins at `line` or after it."""

    line: int
    reason: str
    sentence: str


def findings(text: str, first_line: int = 1) -> Iterator[Finding]:
    """Yield the faults of a text whose first line has the number `first_line`."""
    for line, sentence in sentences(text):
        words = len(_WORD.findall(sentence))
        if words > MOST_WORDS:
            yield Finding(first_line + line, f"{words} words, at most {MOST_WORDS}", sentence)
        for pattern, advice in AVOIDED.items():
            if re.search(pattern, sentence):
                yield Finding(first_line + line, advice, sentence)


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the sentences of a text in Markdown or numpydoc, each with the offset of its paragraph's line.

    A list item, a table cell, a heading and a numpydoc definition are paragraphs. Code between backticks is a
    single word.
    """
    text = _CODE_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    for line, paragraph in _paragraphs(text):
        plain = _LINK.sub(r"\1", _CODE.sub("code", paragraph))
        for cell in plain.split("|"):
            for sentence in _SENTENCE_END.split(cell):
                if sentence.strip():
                    yield line, sentence.strip()


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    start, lines, indent = 0, list[str](), 0
    for number, line in enumerate(text.splitlines()):
        own_indent = len(line) - len(line.lstrip())
        jumps = abs(own_indent - indent) >= _DEFINITION_INDENT
        heading = line.startswith("#")
        if lines and (not line.strip() or _NEW_UNIT.match(line) or jumps):
            yield start, " ".join(lines)
            lines = []
        indent = own_indent
        if not lines:
            start = number
        if line.strip():
            lines.append(line.strip() if "|" in line else _NEW_UNIT.sub("", line, count=1).strip())
        if heading:
            yield start, " ".join(lines)
            lines = []
    if lines:
        yield start, " ".join(lines)


def python_findings(source: str, *, messages: bool = True) -> Iterator[Finding]:
    """Yield the faults of a module's docstrings and comments, and of its messages if `messages` is true."""
    tree = ast.parse(source)
    docstrings = list(_docstrings(tree))
    for line, text in docstrings:
        if AVOIDED_STARTS.match(text):
            yield Finding(line, "begin a docstring with a noun or its function's verb", text.split("\n")[0])
    literals = _messages(tree) if messages else ()
    for line, text in (*docstrings, *literals, *_comments(source)):
        yield from findings(text, line)


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module and of its attributes, each with its first line."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text)), lineno=line):
                    yield line, inspect.cleandoc(text)


def _messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the string literals that are whole sentences, each with its first line.

    A formatted value counts as a word.
    """
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in statements | parts:
                pass
            case ast.JoinedStr(values=values):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "value" for v in values)
            case _:
                continue
        if _MESSAGE.fullmatch(text):
            yield node.lineno, text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments with their first lines. Comments that fill successive lines are one text."""
    first, lines, previous = 0, list[str](), -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        whole_line = token.line.lstrip().startswith("#")
        if lines and not (whole_line and number == previous + 1):
            yield first, "\n".join(lines)
            lines = []
        if not lines:
            first = number
        lines.append(token.string.lstrip("#: "))
        previous = number if whole_line else -1
    if lines:
        yield first, "\n".join(lines)


def check(root: Path) -> Iterator[tuple[Path, Finding]]:
    """Yield every finding in the project's code, tests and documents."""
    for package in (*PACKAGES, *TESTS):
        for path in sorted((root / package).rglob("*.py")):
            found = python_findings(path.read_text("utf-8"), messages=package not in TESTS)
            yield from ((path, finding) for finding in found)
    documents = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / ".github").rglob("*.md")]
    for path in sorted(documents):
        yield from ((path, finding) for finding in findings(path.read_text("utf-8")))


def main() -> int:
    """Print the findings; return the exit status."""
    found = list(check(ROOT))
    for path, finding in found:
        print(f"{path.relative_to(ROOT)}:{finding.line}: {finding.reason}: {finding.sentence}")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
