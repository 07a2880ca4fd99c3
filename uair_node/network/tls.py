"""TLS contexts for server and client, and the names in a verified certificate.

Connections follow PS3.15 B.12 (BCP 195, RFC 9325). This module does not use AE titles. Allow rules bind AE
titles to certificates.
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from dicom_config.errors import ConfigError
from dicom_config.tls import (
    FINGERPRINT,
    TLS_1_2_SUITES,
    NameType,
    TlsClientSection,
    TlsServerSection,
    typed_name,
)

log = logging.getLogger(__name__)

_NAMING_TYPES = {"DNS": NameType.DNS, "URI": NameType.URI, "IP Address": NameType.IP}
"""The name types, by `ssl`'s keys for the entries of the subject's alternative names."""

_HANDSHAKE = b"\x16"
"""The first byte of a connection with TLS: the content type handshake (RFC 8446 5.1)."""
_CUT_OFF = "UNEXPECTED_EOF"
_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for an answer that is not TLS."""
_CERTIFICATE_ALERTS = (
    "ALERT_UNKNOWN_CA",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNSUPPORTED_CERTIFICATE",
)
"""Alerts with which a peer refuses our certificate (RFC 8446 6.2)."""

_PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def server_context(section: TlsServerSection) -> ssl.SSLContext:
    """Return the listener's context.

    Raises
    ------
    ConfigError
        ``tls-files``: a file is missing, or contains no usable certificate or key. ``crl-unreadable``,
        ``crl-expired``: the list of revoked certificates cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _strict(context)
    _load_certificate(context, section.certificate, section.key)
    if section.ca is not None:
        _load_authorities(context, section.ca, section.crl)
        required = section.require_client_certificate
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(section: TlsClientSection) -> ClientContext:
    """Return the context of an association to a destination, which verifies the destination's certificate.

    Raises
    ------
    ConfigError
        The errors of `server_context`.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _strict(context)
    _load_authorities(context, section.ca, section.crl)
    if section.certificate is not None and section.key is not None:
        _load_certificate(context, section.certificate, section.key)
    return context


def certificate_names(connection: object) -> frozenset[str]:
    """Return all names in the peer's verified certificate; empty if it sent no certificate.

    Allow rules refer to certificates by these names. They are the subject's CNs, and the DNS, URI and IP
    entries of its alternative names, each with its type. A further name is ``sha256:`` with the
    certificate's fingerprint.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return frozenset()
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return frozenset()
    fingerprint = FINGERPRINT + hashlib.sha256(encoded).hexdigest()
    return frozenset({fingerprint, *_names(connection.getpeercert() or {})})


def certificate_end(path: Path) -> datetime:
    """Return the earliest time at which a certificate of a PEM file expires."""
    return min(
        certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(path.read_bytes())
    )


def peer_certificate_end(host: str, port: int, timeout_s: float) -> datetime | None:
    """Return the time at which a peer's certificate expires; None if the peer sends no certificate.

    The certificate is not verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown or b"").not_valid_after_utc
    except (OSError, ValueError):
        return None


class ClosedError(OSError):
    """The peer closed the connection before it sent a byte."""


class PlainSenderError(OSError):
    """The peer began a connection without TLS."""


def require_tls(connection: socket.socket) -> None:
    """Check that a connection begins with TLS. The check leaves the first byte in the connection.

    Raises
    ------
    ClosedError, PlainSenderError
        The peer closes the connection, or sends other bytes than a TLS handshake.
    """
    first = connection.recv(1, socket.MSG_PEEK)
    if not first:
        raise ClosedError
    if first != _HANDSHAKE:
        raise PlainSenderError


def hung_up(error: OSError) -> bool:
    """Return whether the error means that the peer closed the connection without a reason."""
    cut = isinstance(error, ClosedError | ConnectionError | ssl.SSLEOFError)
    return cut or (isinstance(error, ssl.SSLError) and (error.reason or "").startswith(_CUT_OFF))


def why_sender_failed(error: Exception) -> str:
    """Return the reason why TLS with a sender failed. The text says whose certificate is the cause.

    The reason contains no data of the peer.
    """
    if isinstance(error, PlainSenderError):
        return "a plain sender, which does not speak TLS"
    if isinstance(error, ClosedError):
        return "it closed the connection without an answer"
    if isinstance(error, ssl.SSLError) and error.reason == _NO_CERTIFICATE:
        return "it sends no certificate (node.tls requires one)"
    return _why(error, "its certificate is not valid here", "it does not accept the node's certificate")


def why_peer_failed(error: Exception) -> str:
    """Return the reason why TLS with a destination failed. The text says whose certificate is the cause."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if reason in _PLAIN:
        return f"it does not speak TLS at this port ({_plain_words(reason)})"
    if reason.endswith("ALERT_CERTIFICATE_REQUIRED"):
        return f"it requests a certificate from us; none is configured ({_plain_words(reason)})"
    if isinstance(error, ConnectionError) or reason.startswith(_CUT_OFF):
        return "it closes the connection in the handshake; perhaps it does not speak TLS at this port"
    return _why(error, "its certificate is not valid here", "it does not accept our certificate")


def _why(error: Exception, theirs: str, ours: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{theirs} ({error.verify_message.rstrip('.')})"
    words = tls_reason(error)
    if isinstance(error, ssl.SSLError) and any(
        cause in (error.reason or "") for cause in _CERTIFICATE_ALERTS
    ):
        return f"{ours} ({words})"
    return words


def tls_reason(error: Exception) -> str:
    """Return the reason of a TLS failure in OpenSSL's words, which contain no data of the peer."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return _plain_words(error.reason)
    if isinstance(error, TimeoutError):
        return "timed out"
    return "connection lost"


def _plain_words(reason: str) -> str:
    return reason.lower().replace("_", " ")


class ListenerTls:
    """The listener's TLS context. A changed CRL is read again, since CAs publish a new CRL every few days.

    If a new CRL cannot be used, then a warning is logged, and the previous CRL is used until it expires.

    Raises
    ------
    ConfigError
        The errors of `server_context`.
    """

    def __init__(self, section: TlsServerSection) -> None:
        self._section = section
        self._seen = self._stamp()
        self._context = server_context(section)

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection. The method is thread-safe."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._context = server_context(self._section)
                log.info("read the list of revoked certificates again")
            except ConfigError as error:
                log.error("%s", error.log_line)
        return self._context

    def _stamp(self) -> tuple[int, ...]:
        """Return a value that changes when the CRL file changes."""
        try:
            found = self._section.crl.stat() if self._section.crl is not None else None
        except OSError:
            found = None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found is not None else ()


class _ExplainingSocket(ssl.SSLSocket):
    """A socket that records in its context why TLS failed.

    pynetdicom only reports that the connection is closed. In TLS 1.3, a server refuses our certificate only
    after our handshake is done (RFC 8446 4.4.2). So a read can also fail for this reason.
    """

    context: ClientContext

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            self.context.failure = why_peer_failed(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            self.context.failure = why_peer_failed(error)
            raise


class ClientContext(ssl.SSLContext):
    """A TLS context for a single association. It records why TLS failed.

    Attributes
    ----------
    failure
        The reason of the failure; empty without a failure.
    """

    sslsocket_class = _ExplainingSocket
    failure: str = ""


def _strict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS_1_2_SUITES.values()))
    # RFC 9325 3.3 and 3.4 forbid compression and renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # With an empty password, a protected key is refused. Otherwise OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise _unusable(f"{certificate} and {key}", error) from None


def _load_authorities(context: ssl.SSLContext, ca: Path, crl: Path | None) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise _unusable(str(ca), error) from None
    if crl is not None:
        _require_current(crl)
        context.load_verify_locations(crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _require_current(crl: Path) -> None:
    """Refuse a list of revoked certificates that cannot be read or is expired."""
    try:
        lists = [x509.load_pem_x509_crl(found) for found in _PEM_CRL.findall(crl.read_bytes())]
    except (OSError, ValueError) as error:
        raise _unreadable(crl, getattr(error, "strerror", None) or "it is damaged") from None
    if not lists:
        raise _unreadable(crl, "it holds no CRL in PEM form")
    ends = [each.next_update_utc for each in lists if each.next_update_utc is not None]
    if ends and min(ends) <= datetime.now(UTC):
        raise ConfigError(
            "crl-expired",
            f"{crl} is too old: its CA announced the next list for {min(ends):%Y-%m-%d %H:%M} UTC.",
            "Fetch the newest CRL from the CA. Fetch each later CRL as soon as the CA publishes it.",
        )


def _unreadable(crl: Path, why: str) -> ConfigError:
    return ConfigError(
        "crl-unreadable",
        f"The list of revoked certificates {crl} cannot be read ({why}).",
        "Give a CRL as PEM (`openssl crl -inform DER -in FILE -out FILE.pem`) that this user can read.",
    )


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


def _names(certificate: dict) -> Iterator[str]:  # type: ignore[type-arg]  # ssl's nested tuples
    for relative_name in certificate.get("subject", ()):
        yield from (typed_name(NameType.CN, text) for kind, text in relative_name if kind == "commonName")
    for kind, text in certificate.get("subjectAltName", ()):
        if kind in _NAMING_TYPES:
            with suppress(ValueError):  # an IP entry with an invalid length
                yield typed_name(_NAMING_TYPES[kind], text)
