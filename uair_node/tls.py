"""TLS contexts for both roles, and whom a verified certificate names.

Owns what PS3.15 B.12 (BCP 195, RFC 9325) asks of a connection. It must not know AE titles: allow rules bind
them to certificates.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509

from dicom_config.errors import ConfigError
from dicom_config.tls import FINGERPRINT, TLS_1_2_SUITES, TlsClientSection, TlsServerSection

_NAMING_TYPES = frozenset({"DNS", "URI", "IP Address"})


def server_context(section: TlsServerSection) -> ssl.SSLContext:
    """Return the listener's context.

    Raises
    ------
    ConfigError
        ``tls-files``: a file is missing or holds no usable certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _strict(context)
    _load_certificate(context, section.certificate, section.key)
    if section.ca is not None:
        _load_authorities(context, section.ca)
        required = section.require_client_certificate
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(section: TlsClientSection) -> ClientContext:
    """Return the context of an association to a destination, whose certificate is always verified.

    Raises
    ------
    ConfigError
        As `server_context`.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _strict(context)
    _load_authorities(context, section.ca)
    if section.certificate is not None and section.key is not None:
        _load_certificate(context, section.certificate, section.key)
    return context


def certificate_names(connection: object) -> frozenset[str]:
    """Return all names of the peer's verified certificate, none where it showed none.

    The subject's CNs, the DNS, URI and IP entries of its alternative names, and ``sha256:`` with the
    fingerprint: what allow rules name certificates by.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return frozenset()
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return frozenset()
    fingerprint = FINGERPRINT + hashlib.sha256(encoded).hexdigest()
    return frozenset({fingerprint, *_texts(connection.getpeercert() or {})})


def certificate_end(path: Path) -> datetime:
    """Return when the first certificate of a PEM file expires."""
    return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(path.read_bytes()))


def tls_reason(error: Exception) -> str:
    """Say why TLS failed, in OpenSSL's words; they hold no data of the peer's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "timed out"
    return "connection lost"


class _ExplainingSocket(ssl.SSLSocket):
    """Keeps in its context why TLS failed: all that a DUL passes on is that the connection is gone.

    In TLS 1.3 a server refuses our certificate only after our handshake is done (RFC 8446 4.4.2), hence
    a read can tell, too.
    """

    context: ClientContext

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            self.context.failure = tls_reason(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            self.context.failure = tls_reason(error)
            raise


class ClientContext(ssl.SSLContext):
    """A context for one association that knows afterwards why TLS failed.

    Attributes
    ----------
    failure
        Empty while nothing failed.
    """

    sslsocket_class = _ExplainingSocket
    failure: str = ""


def _strict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS_1_2_SUITES.values()))
    # RFC 9325 3.3, 3.4: no compression, no renegotiation
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # An empty password: a key that has one is refused instead of asked for on a terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise _unusable(f"{certificate} and {key}", error) from None


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise _unusable(str(ca), error) from None


def _unusable(files: str, error: Exception) -> ConfigError:
    if isinstance(error, ssl.SSLError):
        reason = tls_reason(error)
    else:
        reason = getattr(error, "strerror", None) or type(error).__name__
    return ConfigError(
        "tls-files",
        f"{files} cannot be used for TLS ({reason}).",
        "Give PEM files that this user can read: a certificate with its own key (no password), and the CA.",
    )


def _texts(certificate: dict) -> Iterator[str]:  # type: ignore[type-arg]
    """Yield the names; none that says it is a fingerprint: a CA may sign any text as URI or CN."""
    return (name for name in _names(certificate) if not name.strip().lower().startswith(FINGERPRINT))


def _names(certificate: dict) -> Iterator[str]:  # type: ignore[type-arg]  # ssl's nested tuples
    for relative_name in certificate.get("subject", ()):
        yield from (value for kind, value in relative_name if kind == "commonName")
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in _NAMING_TYPES:
            yield value
