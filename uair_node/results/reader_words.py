"""Sentences for a reader at a viewer, who has no command line: how to answer, and names of answers."""

from __future__ import annotations

import re

from dicom_config.node import AeTitles
from uair_node.cases.tables import MARKS, Selection

CHANGE_SINCE = "change since"
"""The beginning of the name of a change page. The day of the earlier study follows."""
_SENTENCE_END = re.compile(r"(?<=[.!?]) +")
_COMMAND = re.compile(r"`uair\b")


def how_to_answer(titles: AeTitles) -> str:
    """Return a sentence for the reader with the AE titles for a pick, an acceptance and a rejection."""
    return (
        f"To answer, send a candidate to {titles.pick} (four new ones), {titles.accept} (final) "
        f"or {titles.reject} (none fits)."
    )


def answer_words(selection: Selection) -> str:
    """Return the name of a reader's answer: "your pick of candidate 2", "your answer "none fits""."""
    if selection.artifact:
        return f"your edit of candidate {selection.picked}{', with marks' if selection.marks else ''}"
    if selection.marks is not None and not selection.marks["picked"]:
        return "your marks" if selection.mechanism == MARKS else "your changes to the findings"
    if selection.picked is None:
        return 'your answer "none fits"'
    return f"your pick of {selection.words}"


def how_to_drop(titles: AeTitles, number: int) -> str:
    """Return sentences that explain how a reader drops lesion `number` with the lesion's page."""
    return (
        f"No lesion? Send this page, or a Key Object of it, to {titles.pick}: lesion {number} is dropped. "
        f"With a candidate beside it, {titles.accept} ends the case without lesion {number}."
    )


def without_commands(text: str, case_id: int) -> str:
    """Replace sentences with a `uair` command by a sentence that refers the reader to the administrator."""
    sentences = [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]
    kept = [sentence for sentence in sentences if not _COMMAND.search(sentence)]
    if len(kept) < len(sentences):
        kept.append(f"Ask your administrator, and name UAIR case {case_id}.")
    return " ".join(kept)
