"""The kinds of destination: sending to a destination of each kind, its test, and its address for display.

Other modules call these functions and treat all destinations alike. A new kind needs a ``case`` in each
function. If a ``case`` is missing, then mypy reports the call of `assert_never`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never
from urllib.parse import urlsplit

from dicom_config.model import AnyDestination, Destination, StowDestination
from uair_node.network.outgoing import Announce, OutgoingInstance, SendResult
from uair_node.network.scu import echo, send
from uair_node.network.stow import probe_stow, send_stow

_PORTS = {"http": 80, "https": 443}


def send_to(
    destination: AnyDestination, instances: Sequence[OutgoingInstance], announce: Announce
) -> Iterator[SendResult]:
    """Send objects to a destination. Call `announce` before each object, and yield each result at once.

    Raises
    ------
    TransientError
        The destination cannot be reached, or ends the connection. Objects without a result may have arrived.
    ConfigError
        A file in the destination's section cannot be used.
    """
    match destination:
        case Destination():
            return send(destination, instances, announce)
        case StowDestination():
            return send_stow(destination, instances, announce)
        case _:
            assert_never(destination)


def probe(destination: AnyDestination) -> None:
    """Send the smallest request to a destination. Return if the destination answers.

    Raises
    ------
    TransientError, ConfigError
        The errors of `send_to`.
    """
    match destination:
        case Destination():
            echo(destination)
        case StowDestination():
            probe_stow(destination)
        case _:
            assert_never(destination)


def service_of(destination: AnyDestination) -> str:
    """Return the name of the service that `probe` requests."""
    match destination:
        case Destination():
            return "C-ECHO"
        case StowDestination():
            return "DICOMweb"
        case _:
            assert_never(destination)


def address_of(destination: AnyDestination) -> str:
    """Return a destination's address for display. A password in a URL is not removed."""
    match destination:
        case Destination():
            return f"{destination.ae_title} at {destination.host}:{destination.port}"
        case StowDestination():
            return destination.url
        case _:
            assert_never(destination)


def host_of(destination: AnyDestination) -> tuple[str, int]:
    """Return host and port of a destination."""
    match destination:
        case Destination():
            return destination.host, destination.port
        case StowDestination():
            url = urlsplit(destination.url)
            return url.hostname or "", url.port or _PORTS[url.scheme]
        case _:
            assert_never(destination)
