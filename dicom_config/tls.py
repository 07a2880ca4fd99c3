"""TLS: what a site configures, and the suites of the one security profile that is supported.

The profile is the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12): TLS 1.3
preferred, TLS 1.2 at least, forward secrecy and authenticated encryption always. There is no other.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from dicom_config.section import Section

TLS_PROFILE = "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12)"

TLS_1_2_SUITES: dict[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
}
"""The recommended suites (RFC 9325 4.2), by registered name; the value is what OpenSSL calls it."""

TLS_1_3_SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
"""All that OpenSSL offers for TLS 1.3; each is authenticated and forward secret."""

FINGERPRINT = "sha256:"
"""The prefix of a certificate's fingerprint that stands for a name; no other name begins so."""


class NameType(StrEnum):
    """The type of a name in a certificate. The same text of two types is two names."""

    CN = "CN"
    DNS = "DNS"
    URI = "URI"
    IP = "IP"


def typed_name(kind: NameType, value: str) -> str:
    """Return a name with its type; DNS names in lower case, IP addresses in their short form.

    Raises
    ------
    ValueError
        `value` is no IP address.
    """
    if kind == NameType.DNS:
        value = value.lower()
    elif kind == NameType.IP:
        value = str(ipaddress.ip_address(value))
    return f"{kind}:{value}"


def _certificate_name(text: str) -> str:
    """Check how a certificate is named; a fingerprint becomes lower case without colons."""
    name = text.strip()
    kind, colon, value = name.partition(":")
    if not name or (colon and not value):
        raise ValueError("a certificate's name is not empty")
    if not colon:
        if re.fullmatch(r"[0-9.]+", name):
            raise ValueError(f"write IP:{name}")
        return name
    if f"{kind.lower()}:" == FINGERPRINT:
        digits = value.replace(":", "").lower()
        if not re.fullmatch("[0-9a-f]{64}", digits):
            raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
        return FINGERPRINT + digits
    if kind.upper() not in NameType.__members__:
        raise ValueError("before the colon stands CN, DNS, URI, IP or sha256")
    return typed_name(NameType(kind.upper()), value)


CertificateName = Annotated[str, AfterValidator(_certificate_name)]
"""``CN:``, ``DNS:``, ``URI:`` or ``IP:`` and a name, or ``sha256:`` and the fingerprint.

Without a colon it is the subject's CN or a DNS entry of its alternative names.
"""


def typed_names(name: str) -> tuple[str, ...]:
    """Return the typed names that a `CertificateName` stands for."""
    if ":" in name:
        return (name,)
    return typed_name(NameType.CN, name), typed_name(NameType.DNS, name)


class TlsServerSection(Section):
    """TLS of the listener; with it, nobody is served without TLS."""

    certificate: Path = Field(description="PEM, ours and then the intermediate ones")
    key: Path = Field(description="PEM, without password")
    ca: Path | None = Field(None, description="PEM, who may have signed the peers' certificates")
    crl: Path | None = Field(None, description="PEM, what the CA has revoked; read again when it changes")
    require_client_certificate: bool = Field(
        True, description="false: a peer may show none, unless its allow rule names certificates"
    )

    @model_validator(mode="after")
    def _needs_ca(self) -> TlsServerSection:
        if self.crl is not None and self.ca is None:
            raise ValueError("crl needs `ca`, who signs the peers' certificates")
        if self.require_client_certificate and self.ca is None:
            raise ValueError("require_client_certificate needs `ca`, who signs the peers' certificates")
        return self


class TlsClientSection(Section):
    """TLS towards a destination."""

    ca: Path = Field(description="PEM, who may have signed the destination's certificate")
    certificate: Path | None = Field(None, description="PEM, ours, for peers that ask for one")
    key: Path | None = Field(None, description="PEM, without password")
    crl: Path | None = Field(None, description="PEM, what the CA has revoked")
    server_name: str = Field("", description="what the peer's certificate must name; empty: the host")

    @model_validator(mode="after")
    def _certificate_and_key(self) -> TlsClientSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together")
        return self
