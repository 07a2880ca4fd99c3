"""The environment of the templates: all values are escaped, and an unknown name is an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from uair_node import __version__
from uair_node.cases.states import CaseState
from uair_node.console.secrecy import without_url_secrets

_SIGNS = {
    CaseState.RECEIVING: ("…", "busy"),
    CaseState.READY: ("○", "busy"),
    CaseState.SEGMENTING: ("◐", "busy"),
    CaseState.REFINING: ("◐", "busy"),
    CaseState.AWAITING_SELECTION: ("?", "waits"),
    CaseState.ACCEPTED: ("✓", "good"),
    CaseState.REJECTED: ("⊘", "bad"),
    CaseState.FAILED: ("✗", "bad"),
    CaseState.EXPIRED: ("–", "quiet"),
    CaseState.SUPERSEDED: ("–", "quiet"),
}


def make_environment() -> Environment:
    """Return the environment with our filters."""
    environment = Environment(
        loader=PackageLoader("uair_node.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=moment,
        span=span,
        state_sign=_sign,
        state_tone=_tone,
        size=size,
        prose=prose,
        volumes=volumes,
    )
    environment.globals.update(version=__version__)
    return environment


def moment(at: datetime) -> str:
    """Return a time in words: UTC, to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Return a duration in its two largest units: "3 min", "2 h 5 min", "4 d 1 h"."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    units = (("d", 86400), ("h", 3600), ("min", 60))
    parts: list[str] = []
    for unit, length in units:
        number, left = divmod(left, length)
        if number or parts:
            parts.append(f"{number} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def prose(text: str) -> Markup:
    """Return a sentence as HTML.

    Text between backticks becomes a code element. Secrets in URLs are hidden. All text is escaped.
    """
    text = without_url_secrets(text)
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick that is never closed
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def volumes(volumes_ml: Mapping[str, Any]) -> str:
    """Return a candidate's volumes in words: "liver 1520 ml, 2 lesions 14.2 ml".

    The result is empty if the volumes are unknown.
    """
    if "liver" not in volumes_ml:
        return ""
    lesions = volumes_ml.get("lesions", [])
    noun = "lesion" if len(lesions) == 1 else "lesions"
    said = f", {len(lesions)} {noun} {sum(lesions):.1f} ml" if lesions else ", no lesion"
    return f"liver {volumes_ml['liver']:.0f} ml{said}"


def size(mebibytes: float) -> str:
    """Return an amount of memory (MiB) as text in GiB."""
    return f"{mebibytes / 1024:.1f} GiB"


def _sign(state: Any) -> str:
    return _SIGNS[CaseState(state)][0]


def _tone(state: Any) -> str:
    return _SIGNS[CaseState(state)][1]
