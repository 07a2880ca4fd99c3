"""Certificates for tests: an authority that signs nodes and peers, expired and foreign ones too."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """The fingerprint in the form of the allow rules."""
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return "sha256:" + loaded.fingerprint(hashes.SHA256()).hex(":").upper()


class Authority:
    """A certification authority with files in a folder."""

    def __init__(self, folder: Path, name: str, days: int = 30) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self._name, self._name, self._key, days=days).add_extension(constraints, True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def revoke(self, file: Path, *revoked: Certificate, days: int = 1) -> Path:
        """Write the list of revoked certificates, whose next update is due in `days`; return `file`."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - 30 * _DAY).next_update(now + days * _DAY)
        for each in revoked:
            number = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - _DAY)
            builder = builder.add_revoked_certificate(entry.build())
        content = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        part = file.with_suffix(".part")
        part.write_bytes(content)
        return part.replace(file)

    def issue(
        self, name: str, *, host: str = "", uri: str = "", dns: str = "", days: int = 7, file: str = ""
    ) -> Certificate:
        """Sign a certificate with CN `name` and these other names; it is expired if days < 0."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(name), self._name, key, days)
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(host))] if host else []
        names += [x509.UniformResourceIdentifier(uri)] if uri else []
        names += [x509.DNSName(dns)] if dns else []
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        made = builder.sign(self._key, hashes.SHA256())
        files = Certificate(self._folder / f"{file or name}.crt", self._folder / f"{file or name}.key")
        files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * _DAY)
        .not_valid_after(now + days * _DAY)
    )
