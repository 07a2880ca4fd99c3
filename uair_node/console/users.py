"""The users file: names, roles and password hashes. There is no default password.

Passwords are hashed with scrypt (RFC 7914), N = 2^15, r = 8, p = 3: 32 MiB and about a third of a second.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dicom_config.errors import ConfigError, InputError
from dicom_config.model import Settings
from uair_node.storage.store import make_folder_durably, write_durably

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")
_N, _R, _P = 1 << 15, 8, 3
_MOST_MEMORY = 1 << 27


class Role(StrEnum):
    """A user's role. An operator has all rights of a viewer."""

    VIEWER = "viewer"
    OPERATOR = "operator"

    def covers(self, needed: Role) -> bool:
        """Return whether this role has the rights of `needed`."""
        return self == Role.OPERATOR or needed == Role.VIEWER


@dataclass(frozen=True)
class User:
    """One line of the users file."""

    name: str
    role: Role
    password_hash: str


class UsersFile:
    """The users file. A changed file is read again, so that a removed user is logged out at once.

    Parameters
    ----------
    path
        A JSON file that only its owner can read. It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._users: Mapping[str, User] = {}
        self._one_at_a_time = threading.Lock()  # a verification needs 32 MiB

    def all(self) -> list[User]:
        """Return the users by name.

        Raises
        ------
        ConfigError
            ``users-file``: the file cannot be read.
        """
        return [user for _, user in sorted(self._read().items())]

    def get(self, name: str) -> User | None:
        """Return a user by name; None if there is no such user."""
        return self._read().get(name)

    @cached_property
    def _unknown(self) -> str:
        """The hash of a random password. An unknown name is verified with this hash, in the same time."""
        return hash_password(secrets.token_hex(16))

    def verify(self, name: str, password: str) -> User | None:
        """Return the user if the password is right. An unknown name takes as long as a wrong password."""
        user = self.get(name)
        with self._one_at_a_time:
            right = is_password(password, user.password_hash if user else self._unknown)
        return user if right else None

    def add(self, name: str, role: Role, password: str) -> None:
        """Add a user.

        Raises
        ------
        InputError
            ``user-exists``, ``user-name``, ``password-length``.
        """
        check_name(name)
        if self.get(name) is not None:
            remedy = (
                f"Change the password with `uair console user password {name}`, or remove the user first."
            )
            raise InputError("user-exists", f"There is a user {name} already.", remedy)
        self._write({**self._read(), name: User(name, role, _checked_hash(password))})

    def change_password(self, name: str, password: str) -> None:
        """Change a user's password. Sessions with the old password end.

        Raises
        ------
        InputError
            ``no-such-user``, ``password-length``.
        """
        user = self._existing(name)
        self._write({**self._read(), name: User(name, user.role, _checked_hash(password))})

    def remove(self, name: str) -> None:
        """Remove a user. Their sessions end.

        Raises
        ------
        InputError
            ``no-such-user``.
        """
        self._existing(name)
        self._write({other: user for other, user in self._read().items() if other != name})

    def _existing(self, name: str) -> User:
        user = self.get(name)
        if user is None:
            raise InputError("no-such-user", "There is no such user.", "See `uair console user list`.")
        return user

    def _read(self) -> Mapping[str, User]:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._users = _parse(self.path.read_text("utf-8"))
                self._stamp = stamp
        except FileNotFoundError:
            self._users, self._stamp = {}, None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                "users-file",
                f"The users file {self.path} cannot be read ({type(error).__name__}).",
                "Make the user that runs the console the owner of the file. If the file is damaged, restore "
                "the file, or delete it and add the users again.",
            ) from None
        return self._users

    def _write(self, users: Mapping[str, User]) -> None:
        values = {name: {"role": user.role, "password": user.password_hash} for name, user in users.items()}
        make_folder_durably(self.path.parent)
        # Only the owner can read the temporary file of write_durably. A rename keeps these rights.
        write_durably(self.path, lambda temporary: temporary.write_text(json.dumps(values, indent=2) + "\n"))


def users_file(settings: Settings) -> UsersFile:
    """Return the configured users file."""
    return UsersFile(settings.console.users_file or settings.data_dir / "console-users.json")


def check_name(name: str) -> None:
    """Raise an InputError ``user-name`` if a name cannot be used in audit rows and logs."""
    if not _NAME.fullmatch(name):
        remedy = "Use 1 to 40 letters, digits, dots, hyphens, underscores or @, a letter or digit first."
        raise InputError("user-name", "This user name is not allowed.", remedy)


def hash_password(password: str) -> str:
    """Return the hash of a password in the form ``scrypt$N$r$p$salt$key``."""
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, _N, _R, _P)
    encoded = (base64.b64encode(part).decode() for part in (salt, key))
    return "$".join(["scrypt", str(_N), str(_R), str(_P), *encoded])


def is_password(password: str, password_hash: str) -> bool:
    """Return whether a password has this hash. An unreadable hash matches no password."""
    try:
        kind, n, r, p, salt, key = password_hash.split("$")
        expected = base64.b64decode(key, validate=True)
        derived = _derive(password, base64.b64decode(salt, validate=True), int(n), int(r), int(p))
    except ValueError:
        return False
    return kind == "scrypt" and hmac.compare_digest(derived, expected)


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password[:LONGEST_PASSWORD].encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


def _checked_hash(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        sentence = f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters."
        remedy = "Use a sentence as password, or let a password manager make a password."
        raise InputError("password-length", sentence, remedy)
    return hash_password(password)


def _parse(text: str) -> dict[str, User]:
    values: dict[str, Any] = json.loads(text)
    return {
        name: User(name, Role(record["role"]), str(record["password"])) for name, record in values.items()
    }
