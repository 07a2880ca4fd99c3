"""Make deterministic UIDs. So a task that runs twice makes the same objects.

This module does not know the meaning of the parts.
"""

from __future__ import annotations

import hashlib
import uuid


def result_uid(*parts: str | int) -> str:
    """Return the UID that belongs to `parts`, for instance (case digest, model digest, round, k, kind).

    The UID has the UUID-derived form ``2.25.<decimal>`` (PS3.5 B.2), at most 44 characters. The UUID holds
    122 bits of a SHA-256 digest of the parts. The length of each part is hashed before the part, so that
    ``("ab", "c")`` and ``("a", "bc")`` differ. An integer counts as its decimal text.

    Raises
    ------
    ValueError
        There is no part.
    """
    if not parts:
        raise ValueError("a UID needs at least one part to be derived from")
    digest = hashlib.sha256()
    for part in parts:
        raw = str(part).encode("utf-8")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    # Version 5 ("name-based, hash") marks the number as a well-formed UUID; the hash is a better one.
    return f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}"


def lesion_uid(case_digest: str, number: int) -> str:
    """Return the Tracking UID of a case's lesion, the same in every candidate and round."""
    return result_uid(case_digest, "lesion", number)
