"""Check the DICOM connections: our own port, TLS files, and every destination."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from dicom_config.contexts import SENT_SOP_CLASSES
from dicom_config.errors import ConfigError, TransientError, UairError
from dicom_config.model import AnyDestination, Destination, Settings
from dicom_config.tls import TlsClientSection, TlsServerSection
from uair_node.network.destination_kinds import address_of, host_of, probe, service_of
from uair_node.network.peer import CHECK_TITLE
from uair_node.network.scu import refused_classes
from uair_node.network.tls import certificate_end, client_context, peer_certificate_end, server_context
from uair_node.operations.checks.finding import Finding, fault, good, of_error, warning

_RENEW_BEFORE_DAYS = 30
_ANSWER_S = 5.0
_TLS_RECORDS = (b"\x15", b"\x16")
"""The possible first bytes of a TLS server's answer: an alert or a handshake (RFC 8446 5.1)."""
_NARROW = {4: 24, 6: 64}
"""IP version -> the shortest network prefix that `uair check` does not warn about."""


def check_listener(settings: Settings) -> Iterable[Finding]:
    """Check whether the node, another program or no program listens on the node's port."""
    node = settings.node
    if node.port == 0:
        return
    host = "127.0.0.1" if node.host in ("0.0.0.0", "::") else node.host
    at = f"{node.host}:{node.port}"
    if _connects(host, node.port):
        if speaks_tls(host, node.port) if node.tls else _speaks_dicom(settings, host):
            yield good("listener", f"the node answers at {at}")
            return
        remedy = "Set node.port to a free port, or end the other program (`ss -ltnp` names it)."
        yield fault("listener", "port-taken", f"another program answers at {at}", remedy)
        return
    reason = _bind_error(node.host, node.port)
    if reason:
        remedy = "Set node.host to an address of this machine and node.port to a free port."
        yield fault("listener", "port-unavailable", f"the node cannot listen at {at} ({reason}).", remedy)
    else:
        remedy = "Start `uair node` (or `uair up`); on a machine that runs only workers, this is normal."
        yield warning("listener", "node-not-running", f"no program answers at {at}", remedy)


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _ANSWER_S).close()
    except OSError:
        return False
    return True


def _speaks_dicom(settings: Settings, host: str) -> bool:
    """Return whether the port accepts or rejects an association. A DICOM node gives one of these answers."""
    ours = Destination(
        name="our own port",
        ae_title=settings.node.ae_titles.store,
        host=host,
        port=settings.node.port,
        calling_ae=CHECK_TITLE,
        timeout_s=_ANSWER_S,
    )
    try:
        refused_classes(ours, ())
    except TransientError as error:
        return error.code == "peer-rejects"
    return True


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a peer answers the start of a TLS handshake with TLS. The connection is then closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, hello).do_handshake()
    try:
        with socket.create_connection((host, port), _ANSWER_S) as plain:
            plain.settimeout(_ANSWER_S)
            plain.sendall(hello.read())
            return plain.recv(1) in _TLS_RECORDS
    except OSError:
        return False


def _bind_error(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or type(error).__name__
    return ""


def check_admitted(settings: Settings) -> Iterable[Finding]:
    """Check that allow rules without certificates admit few addresses, because AE titles are no secret."""
    wide = [
        network
        for rule in settings.node.allow
        if not rule.certificates
        for network in map(ipaddress.ip_network, rule.networks)
        if not network.is_loopback and network.prefixlen < _NARROW[network.version]
    ]
    if wide:
        named = ", ".join(sorted({str(network) for network in wide}))
        remedy = (
            "Name only the router and the PACS in node.allow (for example 10.20.1.5/32), or bind the rule "
            "to `certificates`. Behind NAT every sender has the gateway's address."
        )
        yield warning("admitted networks", "wide-network", f"node.allow admits all of {named}", remedy)
    else:
        yield good("admitted networks", "node.allow names few addresses, or certificates")


def check_tls(settings: Settings) -> Iterable[Finding]:
    """Check that every configured certificate, key and CA can be used today and in the next 30 days."""
    if settings.node.tls is not None:
        yield _tls("tls of the node", settings.node.tls, "the node's certificate", "senders refuse the node")
    for destination in settings.destinations:
        if destination.tls is not None:
            name = destination.name
            _, what = destination_parts(name)
            yield _tls(what, destination.tls, f"our certificate for {name}", f"{name} refuses us")


def _tls(what: str, section: TlsServerSection | TlsClientSection, certificate: str, effect: str) -> Finding:
    try:
        server_context(section) if isinstance(section, TlsServerSection) else client_context(section)
    except ConfigError as error:
        return of_error(what, error)
    files = (
        (section.certificate, certificate, effect),
        (section.ca, f"the CA's certificate of {what}", "no certificate of a peer is valid here"),
    )
    ends = [(certificate_end(path), path, whose, so) for path, whose, so in files if path is not None]
    end, path, certificate, effect = min(ends)
    days = (end - datetime.now(UTC)) / timedelta(days=1)
    remedy = f"Renew {path}, then restart the node and the workers: it is read at the start."
    if days < 0:
        sentence = f"{certificate} expired {_days(-days)} ago, on {end:%Y-%m-%d}: {effect}"
        return fault(what, "certificate-expired", sentence, remedy)
    if days < _RENEW_BEFORE_DAYS:
        sentence = f"{certificate} expires in {_days(days)}, on {end:%Y-%m-%d}; from then on {effect}"
        return warning(what, "certificate-expires", sentence, remedy)
    return good(what, f"certificate, key and CA can be used until {end:%Y-%m-%d}")


def _days(number: float) -> str:
    if number < 1:
        return "less than a day"
    return f"{number:.0f} {'day' if round(number) == 1 else 'days'}"


def destination_parts(name: str) -> tuple[str, str]:
    """Return the names that findings use for a destination, and for its TLS section."""
    return f"destination {name}", f"tls of {name}"


def check_destinations(settings: Settings) -> Iterable[Finding]:
    """Check that every destination answers, accepts our AE title and accepts our objects."""
    if not settings.destinations:
        remedy = "Name your PACS under `destinations`, or results are not delivered."
        return [fault("destinations", "no-destination", "none configured", remedy)]
    with ThreadPoolExecutor(len(settings.destinations)) as pool:
        return list(pool.map(_destination, settings.destinations))


def _wants_tls(destination: Destination, error: UairError) -> bool:
    """Return whether a destination without TLS settings failed with `error` because the peer needs TLS."""
    plain = destination.tls is None and error.code in ("peer-unreachable", "peer-aborted")
    return plain and speaks_tls(destination.host, destination.port)


def _expired_there(what: str, destination: AnyDestination) -> Finding | None:
    """Return the finding that the peer's own certificate has expired; None if it has not expired."""
    host, port = host_of(destination)
    end = peer_certificate_end(host, port, _ANSWER_S)
    age_days = (datetime.now(UTC) - end) / timedelta(days=1) if end else 0.0
    if end is None or age_days <= 0:
        return None
    name = destination.name
    sentence = f"the certificate of {name} expired {_days(age_days)} ago, on {end:%Y-%m-%d}: we send nothing"
    remedy = f"Ask the administrator of {host} to renew the certificate. Nothing is lost: objects wait here."
    return fault(what, "peer-certificate-expired", sentence, remedy)


def _destination(destination: AnyDestination) -> Finding:
    what, _ = destination_parts(destination.name)
    try:
        if not isinstance(destination, Destination):
            probe(destination)
            return good(what, f"{address_of(destination)} answers {service_of(destination)}")
        refused = refused_classes(destination, SENT_SOP_CLASSES)
    except UairError as error:
        if isinstance(destination, Destination) and _wants_tls(destination, error):
            sentence = (
                f"{destination.host}:{destination.port} needs TLS, but the section of this "
                "destination has no `tls`"
            )
            return fault(what, "peer-wants-tls", sentence, f"Give {destination.name} a `tls` section.")
        if error.code == "peer-tls":
            return _expired_there(what, destination) or of_error(what, error)
        return of_error(what, error)
    if refused:
        names = ", ".join(refused)
        remedy = "Configure the peer to accept these SOP classes (explicit or implicit VR little endian)."
        return fault(what, "peer-refuses-class", f"{destination.ae_title} does not accept {names}", remedy)
    return good(what, f"{destination.ae_title} answers C-ECHO and accepts all our objects")
