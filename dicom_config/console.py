"""Configuration of the administrator's console: its address, its users, and a trusted reverse proxy."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from dicom_config.errors import ConfigError
from dicom_config.section import Network, Port, Section, is_loopback

ANYBODY = "*"
"""The name that stands for every user whom the proxy lets in."""


class ConsoleTls(Section):
    """HTTPS of the console, for an installation without a reverse proxy."""

    certificate: Path = Field(
        description="PEM file: the console's certificate, then the intermediate certificates"
    )
    key: Path = Field(description="PEM file of the private key, without password")


def _header(value: str) -> str:
    if not value.replace("-", "").isalnum() or not value.isascii():
        raise ValueError("a header's name has letters, digits and hyphens")
    return value


_FEWEST_CHARACTERS = 16


class ConsoleProxy(Section):
    """A reverse proxy that does the login and writes the user's name into an HTTP header.

    The console uses the header only if the connection comes from one of `networks`. If a secret is
    configured, then the request must also contain the secret. The secret is in a second header. The proxy
    must remove both headers from the requests of browsers.
    """

    networks: tuple[Network, ...] = Field(min_length=1, description="networks that the proxy connects from")
    user_header: Annotated[str, AfterValidator(_header)] = "X-Remote-User"
    secret_header: Annotated[str, AfterValidator(_header)] = "X-UAIR-Proxy-Secret"
    secret_file: Path | None = Field(
        None, description="file with the secret that the proxy sends in secret_header"
    )
    operators: tuple[str, ...] = Field((), description="users who may act; `*`: all that the proxy admits")
    viewers: tuple[str, ...] = Field((), description="users who may read; `*`: all that the proxy admits")

    def read_secret(self) -> bytes:
        """Return the secret that every request of the proxy must contain; empty if no secret is configured.

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
            "Make it with `openssl rand -hex 32`, readable for the console's user. The proxy must send it.",
        )

    def trusts(self, address: str) -> bool:
        """Return whether `address` is an IP address in one of the proxy's networks."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:  # `address` is no IP address
            return False
        return any(peer in ipaddress.ip_network(network) for network in self.networks)


class ConsoleSection(Section):
    """The console, `uair console`."""

    host: str = "127.0.0.1"
    port: Port = 11180
    users_file: Path | None = Field(
        None,
        description="the file that `uair console user add` writes; empty: `console-users.json` in the data "
        "folder",
    )
    tls: ConsoleTls | None = Field(None, description="empty: plain HTTP, on this machine only")
    proxy: ConsoleProxy | None = Field(None, description="a reverse proxy that says who is logged in")
    plain_http: bool = Field(
        False, description="permit HTTP from other machines: for a container whose port is published locally"
    )
    idle_minutes: PositiveFloat = Field(30.0, description="a session that is not used ends after this time")
    session_hours: PositiveFloat = Field(12.0, description="every session ends after this time")

    @model_validator(mode="after")
    def _no_plain_passwords(self) -> ConsoleSection:
        guarded = self.tls is not None or self.proxy is not None or self.plain_http
        if not guarded and not is_loopback(self.host):
            raise ValueError(
                "a console that other machines reach needs `tls` or a reverse proxy (`proxy`); without "
                "them, passwords and patient data are sent unencrypted; `plain_http: true` permits this"
            )
        return self
