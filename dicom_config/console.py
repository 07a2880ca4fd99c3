"""The administrator's console: where it listens, who may log in, whom it believes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from dicom_config.errors import ConfigError
from dicom_config.section import Network, Port, Section, is_loopback

ANYBODY = "*"
"""Stands for every name that the proxy lets through."""


class ConsoleTls(Section):
    """HTTPS of the console itself, where no reverse proxy provides it."""

    certificate: Path = Field(description="PEM, ours and then the intermediate ones")
    key: Path = Field(description="PEM, without password")


def _header(value: str) -> str:
    if not value.replace("-", "").isalnum() or not value.isascii():
        raise ValueError("a header's name has letters, digits and hyphens")
    return value


_FEWEST_CHARACTERS = 16


class ConsoleProxy(Section):
    """A reverse proxy that logs people in and says who they are in a header.

    The header counts only where the connection comes from one of `networks` and, with a secret, where the
    request bears the secret. The proxy must remove both headers from what browsers send.
    """

    networks: tuple[Network, ...] = Field(min_length=1, description="where the proxy connects from")
    user_header: Annotated[str, AfterValidator(_header)] = "X-Remote-User"
    secret_header: Annotated[str, AfterValidator(_header)] = "X-UAIR-Proxy-Secret"
    secret_file: Path | None = Field(None, description="what the proxy sends in secret_header")
    operators: tuple[str, ...] = Field((), description="names that may act; `*`: everybody it lets through")
    viewers: tuple[str, ...] = Field((), description="names that may read; `*`: everybody it lets through")

    def read_secret(self) -> bytes:
        """Return the secret that every request of the proxy must have; empty if none is configured.

        Raises
        ------
        ConfigError
            ``proxy-secret``: the file cannot be read, or holds fewer than 16 characters.
        """
        if self.secret_file is None:
            return b""
        try:
            secret = self.secret_file.read_bytes().strip()
        except OSError as error:
            raise self._unusable(f"cannot be read ({error.strerror})") from None
        if len(secret) < _FEWEST_CHARACTERS:
            raise self._unusable(f"has fewer than {_FEWEST_CHARACTERS} characters")
        return secret

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            "proxy-secret",
            f"The secret of the reverse proxy, {self.secret_file}, {why}.",
            "Make it with `openssl rand -hex 32`, readable for the console's user; the proxy sends the same.",
        )

    def trusts(self, address: str) -> bool:
        """Return whether a connection from `address` is the proxy's."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:  # no IP connection
            return False
        return any(peer in ipaddress.ip_network(network) for network in self.networks)


class ConsoleSection(Section):
    """The console, `uair console`."""

    host: str = "127.0.0.1"
    port: Port = 11180
    users_file: Path | None = Field(
        None,
        description="made by `uair console user add`; `console-users.json` in the data folder unless set",
    )
    tls: ConsoleTls | None = Field(None, description="empty: plain HTTP, on this machine only")
    proxy: ConsoleProxy | None = Field(None, description="a reverse proxy that says who is logged in")
    plain_http: bool = Field(
        False, description="plain HTTP beyond this machine: for a container whose port is published locally"
    )
    idle_minutes: PositiveFloat = Field(30.0, description="an unused session ends")
    session_hours: PositiveFloat = Field(12.0, description="every session ends")

    @model_validator(mode="after")
    def _no_plain_passwords(self) -> ConsoleSection:
        guarded = self.tls is not None or self.proxy is not None or self.plain_http
        if not guarded and not is_loopback(self.host):
            raise ValueError(
                "beyond this machine the console needs `tls` or a reverse proxy (`proxy`), "
                "or passwords and patient data travel in the clear; `plain_http: true` permits it"
            )
        return self
