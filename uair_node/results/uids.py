"""Make deterministic UIDs. So a task that runs twice makes the same objects.

This module does not interpret the values from which it makes a UID.
"""

from __future__ import annotations

import hashlib
import uuid


def result_uid(*parts: str | int) -> str:
    """Return the UID that belongs to `parts`, for instance (case digest, model digest, round, k, kind).

    The UID has the UUID-derived form ``2.25.<decimal>`` (PS3.5 B.2), at most 44 characters. The UUID contains
    122 bits of a SHA-256 digest of the parts. The length of each part is hashed before the part. So
    ``("ab", "c")`` and ``("a", "bc")`` give different UIDs. An integer counts as its decimal text.

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
    # Version 5 ("name-based, hash") marks the number as a well-formed UUID. The hash here is SHA-256.
    return f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}"


def lesion_uid(case_digest: str, number: int) -> str:
    """Return the Tracking UID of a case's lesion. It is the same in every candidate and round."""
    return result_uid(case_digest, "lesion", number)
