"""The keys by which the node finds the studies of a patient.

The database has a keyed digest (HMAC-SHA256) of each Patient ID. A digest without a secret does not hide an
ID: a program finds an ID of 8 digits by trial in minutes. The secret is in a separate file, outside of the
database. The database has a fingerprint of the secret, so that a wrong secret is an error. Without the
fingerprint, keys of two secrets would never match, and there would be no error.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from dicom_config.errors import ConfigError
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import PatientSecret
from uair_node.cases.tables import Case
from uair_node.storage.store import make_folder_durably, write_durably

SECRET_FILE = "patient-key-secret"
"""The secret's file name in the data folder, unless `intake.patient_secret_file` names another file."""

_SECRET_BYTES = 32
_FEWEST_CHARACTERS = 32
_UNKEYED_DIGITS = 32
"""Number of digits of the digests of earlier versions, which had no secret. A key has 64 digits."""


class PatientKeys:
    """The function that makes keys, with its secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @property
    def fingerprint(self) -> str:
        """A digest that distinguishes this secret from other secrets and does not reveal it."""
        return self._keyed("fingerprint")

    def key(self, digest: str) -> str:
        """Return the key of a patient, 64 hexadecimal digits; empty for an empty digest.

        Parameters
        ----------
        digest
            The digest of `uair_node.dicom.readers.hash_patient_id`.
        """
        return self._keyed(f"patient {digest}") if digest else ""

    def _keyed(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("ascii"), hashlib.sha256).hexdigest()


def open_patient_keys(database: Database, folder: Path, configured: Path | None) -> PatientKeys:
    """Return the keys of an installation. Replace digests of an earlier version by keys.

    The first process makes the secret file, with mode 0600. Other processes that start meanwhile wait. A
    single transaction replaces all stored digests. After an interruption, the next start repeats it.

    Parameters
    ----------
    folder
        The data folder.
    configured
        `intake.patient_secret_file`: the file of a secret that the site itself makes.

    Raises
    ------
    ConfigError
        ``patient-secret-missing``, ``patient-secret-unusable``, or ``patient-secret-other``: the database's
        keys have another secret.
    """
    with database.alone() as session:
        known = session.scalar(select(PatientSecret.fingerprint))
        if configured is None and known is None:
            _make_secret(folder / SECRET_FILE)
        keys = _load(configured or folder / SECRET_FILE)
        if known is None:
            session.add(PatientSecret(fingerprint=keys.fingerprint))
        else:
            _require_same(keys, known, configured or folder / SECRET_FILE)
        _key_stored_digests(session, keys)
    return keys


def find_patient_keys(database: Database, folder: Path, configured: Path | None) -> PatientKeys | None:
    """Return the keys without a change of files or rows; None before a secret exists.

    The errors and parameters are those of `open_patient_keys`.
    """
    with database.reading() as session:
        known = session.scalar(select(PatientSecret.fingerprint))
    file = configured or folder / SECRET_FILE
    if known is None and configured is None and not file.exists():
        return None
    keys = _load(file)
    if known is not None:
        _require_same(keys, known, file)
    return keys


def replace_patient_keys(
    database: Database, folder: Path, configured: Path | None, digests: Mapping[int, str]
) -> int:
    """Make new keys for all cases, after the secret was lost or became known.

    Return the number of cases that lose their key, because their digest is missing. Without `configured`, a
    new secret replaces the old secret.

    Parameters
    ----------
    digests
        Case id -> digest of the Patient ID, as for `PatientKeys.key`, for cases with existing images.

    Raises
    ------
    ConfigError
        ``patient-secret-missing``, ``patient-secret-unusable``: `configured` cannot be used.
    """
    with database.alone() as session:
        if configured is None:
            (folder / SECRET_FILE).unlink(missing_ok=True)
            _make_secret(folder / SECRET_FILE)
        keys = _load(configured or folder / SECRET_FILE)
        session.query(PatientSecret).delete()
        session.add(PatientSecret(fingerprint=keys.fingerprint))
        lost = 0
        for case in session.scalars(select(Case).where(Case.patient_key != "")):
            case.patient_key = keys.key(digests.get(case.id, ""))
            lost += not case.patient_key
    return lost


def _make_secret(file: Path) -> None:
    """Write a new secret, unless the file exists."""
    make_folder_durably(file.parent)
    if not file.exists():
        # The file gets mode 0600, because mkstemp makes the temporary file.
        write_durably(file, lambda part: part.write_text(secrets.token_hex(_SECRET_BYTES) + "\n", "ascii"))


def _load(file: Path) -> PatientKeys:
    try:
        secret = file.read_bytes().strip()
    except FileNotFoundError:
        raise ConfigError(
            "patient-secret-missing",
            f"The secret of the patient keys, {file}, is missing.",
            "Copy the file from the backup or from the machine that made it, with mode 0600, or name it in "
            "intake.patient_secret_file. If it is lost: stop the nodes, run `uair renew-patient-keys`.",
        ) from None
    except OSError as error:
        raise _unusable(file, f"cannot be read ({error.strerror})") from None
    if len(secret) < _FEWEST_CHARACTERS:
        raise _unusable(file, f"has fewer than {_FEWEST_CHARACTERS} characters")
    return PatientKeys(secret)


def _unusable(file: Path, why: str) -> ConfigError:
    return ConfigError(
        "patient-secret-unusable",
        f"The secret of the patient keys, {file}, {why}.",
        "Correct the rights of the file, or restore the file from the backup. `openssl rand -hex 32` makes "
        "a first secret.",
    )


def _require_same(keys: PatientKeys, known: str, file: Path) -> None:
    if not hmac.compare_digest(keys.fingerprint, known):
        raise ConfigError(
            "patient-secret-other",
            f"{file} is not the secret that the database's patient keys were made with.",
            "Restore the file that belongs to this database. If it is lost: stop the nodes, run "
            "`uair renew-patient-keys`.",
        )


def _key_stored_digests(session: Session, keys: PatientKeys) -> None:
    unkeyed = select(Case.patient_key).where(func.length(Case.patient_key) == _UNKEYED_DIGITS).distinct()
    changes = [{"old": digest, "new": keys.key(digest)} for digest in session.scalars(unkeyed)]
    if changes:
        statement = update(Case).where(Case.patient_key == bindparam("old"))
        session.connection().execute(statement.values(patient_key=bindparam("new")), changes)
