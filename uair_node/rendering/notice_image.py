"""Draw the picture of a notice: a heading, one or two sentences, and the disclaimer."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_config import codes
from uair_node.rendering.drawing import FAINT, INK, PAPER, pixels

_DPI = 100
_WIDTH, _MARGIN, _LINE, _HEADING, _FOOTER = 9.0, 0.35, 0.34, 0.75, 0.6  # inches
_CHARACTERS, _HEADING_CHARACTERS = 66, 40


def draw_notice(heading: str, text: str) -> NDArray[np.uint8]:
    """Draw a notice.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns, 3)`` uint8, sRGB; 900 columns, as many rows as the text needs.
    """
    headings = textwrap.wrap(f"UAIR  {heading}", _HEADING_CHARACTERS)
    lines = textwrap.wrap(text, _CHARACTERS)
    height = 2 * _MARGIN + _HEADING * len(headings) + _LINE * len(lines) + _FOOTER
    figure = Figure(figsize=(_WIDTH, height), facecolor=PAPER)

    def write(words: str, y: float, size: float, **style: Any) -> None:
        figure.text(_MARGIN / _WIDTH, y / height, words, fontsize=size, **({"color": INK} | style))

    y = height - _MARGIN - 0.3
    for words in headings:
        write(words, y, 22, weight="bold")
        y -= 0.6 * _HEADING
    y -= 0.4 * _HEADING
    for words in lines:
        write(words, y, 16)
        y -= _LINE
    write(f"{codes.DISCLAIMER}.", _MARGIN, 12, color=FAINT)
    return pixels(figure, _DPI)
