"""Sessions, kept in the memory of this process. A restart logs all users out. No secret key is needed.

The cookie is 256 random bits; only its digest is kept, so that a memory dump contains no usable cookie.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from uair_node.console.patient_lookup import PatientLookup
from uair_node.console.users import Role

_MOST_SESSIONS = 1000


@dataclass
class Session:
    """A session of a user.

    Parameters
    ----------
    name, role
        The user's name and role.
    credential
        The credential of the login, compared at every request. If the user is removed or the password
        changes, then the session ends.
    csrf
        The token that every form of this session carries.
    notice
        The notice that the next page shows once: (success, text).
    seen
        View (action and subject) -> time of its last row in the audit.
    lookup
        The last look-up by patient data. No address contains its words.
    """

    name: str
    role: Role
    credential: str
    began: float
    used: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    notice: tuple[bool, str] | None = None
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    lookup: PatientLookup | None = None


class Sessions:
    """All sessions of this process.

    Parameters
    ----------
    idle_s, longest_s
        An unused session ends after `idle_s` seconds, every session after `longest_s`.
    clock
        A function that returns seconds. Only tests replace `time.monotonic`.
    """

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, role: Role, credential: str) -> tuple[str, Session]:
        """Start a session, and return its cookie and the session.

        The cookie is always new, as a protection against session fixation.
        """
        cookie, now = secrets.token_urlsafe(32), self._clock()
        session = Session(name, role, credential, now, now)
        with self._lock:
            self._prune(now)
            self._sessions[_digest(cookie)] = session
        return cookie, session

    def find(self, cookie: str, *, touch: bool = True) -> Session | None:
        """Return the open session of a cookie; None if there is none.

        With `touch`, the request counts as a use of the session. A page's own refresh does not count.
        """
        now = self._clock()
        with self._lock:
            session = self._sessions.get(_digest(cookie))
            if session is None or self._is_over(session, now):
                return None
            if touch:
                session.used = now
            return session

    def end(self, cookie: str) -> None:
        """End the session of a cookie, if there is one."""
        with self._lock:
            self._sessions.pop(_digest(cookie), None)

    def end_session(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._sessions = {key: kept for key, kept in self._sessions.items() if kept is not session}

    def now(self) -> float:
        """Return the clock's time."""
        return self._clock()

    def _is_over(self, session: Session, now: float) -> bool:
        return now - session.used > self._idle_s or now - session.began > self._longest_s

    def _prune(self, now: float) -> None:
        alive = {key: kept for key, kept in self._sessions.items() if not self._is_over(kept, now)}
        newest = sorted(alive.items(), key=lambda item: item[1].used)[-(_MOST_SESSIONS - 1) :]
        self._sessions = dict(newest)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
