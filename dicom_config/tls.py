"""Configuration of TLS, and the cipher suites of the supported security profile.

The profile is the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12). It prefers
TLS 1.3, needs at least TLS 1.2, and always has forward secrecy and authenticated encryption. No other
profile is supported.
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
"""The recommended cipher suites (RFC 9325 4.2): registered name -> name in OpenSSL."""

TLS_1_3_SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
"""All cipher suites that OpenSSL has for TLS 1.3. Each suite has authentication and forward secrecy."""

FINGERPRINT = "sha256:"
"""The prefix of a certificate's fingerprint in a list of names. Other names never begin with it."""


class NameType(StrEnum):
    """The type of a name in a certificate. Names with the same text and different types are different."""

    CN = "CN"
    DNS = "DNS"
    URI = "URI"
    IP = "IP"


def typed_name(kind: NameType, value: str) -> str:
    """Return a name with its type as prefix. DNS names become lower case, IP addresses get their short form.

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
    """Check and normalise a certificate's name. A fingerprint becomes lower case without colons."""
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
        raise ValueError("the part before the colon must be CN, DNS, URI, IP or sha256")
    return typed_name(NameType(kind.upper()), value)


CertificateName = Annotated[str, AfterValidator(_certificate_name)]
"""A name with the prefix ``CN:``, ``DNS:``, ``URI:`` or ``IP:``, or a fingerprint with ``sha256:``.

A name without a prefix can match the subject's CN or a DNS name in Subject Alternative Name.
"""


def typed_names(name: str) -> tuple[str, ...]:
    """Return the names with a type prefix (see `typed_name`) that a `CertificateName` can mean."""
    if ":" in name:
        return (name,)
    return typed_name(NameType.CN, name), typed_name(NameType.DNS, name)


class TlsServerSection(Section):
    """TLS of the listener. If TLS is configured, then the node refuses peers without TLS."""

    certificate: Path = Field(
        description="PEM file: the node's certificate, then the intermediate certificates"
    )
    key: Path = Field(description="PEM file of the private key, without password")
    ca: Path | None = Field(None, description="PEM file of the CAs that sign the peers' certificates")
    crl: Path | None = Field(
        None, description="PEM file with the CA's list of revoked certificates; read again when it changes"
    )
    require_client_certificate: bool = Field(
        True, description="false: a peer needs a certificate only if its allow rule names certificates"
    )

    @model_validator(mode="after")
    def _needs_ca(self) -> TlsServerSection:
        if self.crl is not None and self.ca is None:
            raise ValueError("crl needs `ca`, the CAs that sign the peers' certificates")
        if self.require_client_certificate and self.ca is None:
            raise ValueError(
                "require_client_certificate needs `ca`, the CAs that sign the peers' certificates"
            )
        return self


class TlsClientSection(Section):
    """TLS for connections to a destination."""

    ca: Path = Field(description="PEM file of the CAs that sign the destination's certificate")
    certificate: Path | None = Field(
        None, description="PEM file of the node's certificate, for peers that request one"
    )
    key: Path | None = Field(None, description="PEM file of the private key, without password")
    crl: Path | None = Field(None, description="PEM file with the CA's list of revoked certificates")
    server_name: str = Field(
        "", description="name that the destination's certificate must have; empty: the host"
    )

    @model_validator(mode="after")
    def _certificate_and_key(self) -> TlsClientSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("set both `certificate` and `key`, or none")
        return self
