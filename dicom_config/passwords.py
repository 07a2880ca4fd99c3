"""Read passwords from files. So they appear in no configuration, environment or process list."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from dicom_config.errors import ConfigError


def with_password(url: str, file: Path | None) -> str:
    """Return a server's URL with the password from a file. Without a file, the URL is unchanged.

    Raises
    ------
    ConfigError
        ``password-file``: the file cannot be read or is empty, or the URL has no user name.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    try:
        password = file.read_text("utf-8").strip()
    except OSError as error:
        raise _unusable(f"The password file {file} cannot be read ({error.strerror}).") from None
    if not password:
        raise _unusable(f"The password file {file} is empty.")
    if not parts.username:
        raise _unusable("A password file is configured, but its URL names no user.")
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}").geturl()


def _unusable(sentence: str) -> ConfigError:
    return ConfigError(
        "password-file", sentence, "Correct `password_file`, its rights, or the URL (…://user@host/…)."
    )
