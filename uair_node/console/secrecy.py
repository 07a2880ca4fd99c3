"""Hide secrets in URLs that the console shows: in the configuration, or in a sentence about a peer."""

from __future__ import annotations

import re

HIDDEN = "••••••"
_URL_PASSWORD = re.compile(r"(?P<before>\w+://[^/@\s]*?:)[^/@\s]+(?=@)")
_URL_SECRET = re.compile(
    r"(?P<before>[?&;][^=&]*(?:password|secret|token|key|sig)[^=&]*=)[^&#\s]+", re.IGNORECASE
)


def without_url_secrets(text: str) -> str:
    """Return a text without the passwords and tokens in its URLs."""
    shown = _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}", text)
    return _URL_SECRET.sub(rf"\g<before>{HIDDEN}", shown)
