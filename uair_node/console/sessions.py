"""Sessions, kept in this process: a restart logs everybody out, and nothing needs a secret key.

The cookie is 256 random bits; only its digest is kept, so that a memory dump holds no usable cookie.
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
    """One login.

    Parameters
    ----------
    name, role
        The user's name and role.
    credential
        What the login rests on, compared at every request: a removed user or another password ends it.
    csrf
        What every form of this session carries.
    notice
        What the next page says once: (went well, text).
    seen
        When which view was last noted in the audit.
    lookup
        The last look-up by patient data; its words stand in no address.
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
        An unused session ends after the first, every one after the second.
    clock
        Seconds; `time.monotonic`, but for tests.
    """

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, role: Role, credential: str) -> tuple[str, Session]:
        """Start a session and return its cookie, always a new one (no session is taken over)."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        session = Session(name, role, credential, now, now)
        with self._lock:
            self._prune(now)
            self._sessions[_digest(cookie)] = session
        return cookie, session

    def find(self, cookie: str, *, touch: bool = True) -> Session | None:
        """Return a living session; `touch` counts as use, which a page that refreshes itself is not."""
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
