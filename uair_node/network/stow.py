"""Send objects by STOW-RS (PS3.18 10.5), with a request for each instance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

from dicom_config.errors import ConfigError, TransientError
from dicom_config.model import StowDestination
from dicom_config.tls import TlsClientSection
from uair_node.network.outgoing import Announce, OutgoingInstance, SendResult, read_instance, result_of
from uair_node.network.statuses import DeliveryVerdict, judge
from uair_node.network.tls import client_context

_FOR_GOOD = frozenset({400, 406, 413, 415})
"""HTTP statuses by which a server refuses an instance permanently (PS3.18 Table 10.5.3-1)."""


def send_stow(
    destination: StowDestination, instances: Sequence[OutgoingInstance], announce: Announce
) -> Iterator[SendResult]:
    """Send objects. Call `announce` before each object, and yield each result at once.

    Raises
    ------
    TransientError
        ``peer-unreachable``, ``peer-rejects``, ``peer-aborted``. An object without an answer may have
        arrived.
    ConfigError
        ``password-file``, ``tls-files``.
    """
    with open_client(destination) as client:
        for instance in instances:
            yield _store(client, destination, instance, announce)


def probe_stow(destination: StowDestination) -> None:
    """Test whether a destination answers, with the smallest possible search.

    Raises
    ------
    TransientError, ConfigError
        The errors of `send_stow`.
    """
    with open_client(destination) as client, translated(destination):
        client.search_for_studies(limit=1)


@contextmanager
def open_client(destination: StowDestination) -> Iterator[DICOMwebClient]:
    """Yield a client for a destination, with its user, timeout and TLS."""
    # The client's own log lines contain full UIDs.
    logging.getLogger("dicomweb_client").setLevel(logging.ERROR)
    with requests.Session() as session:
        session.trust_env = False  # ignore the environment's proxy and .netrc, which we do not configure
        if destination.user:
            session.auth = (destination.user, _password(destination))
        if destination.tls:
            session.mount("https://", _TlsAdapter(destination.tls))
        client = DICOMwebClient(destination.url.rstrip("/"), session=session, timeout=destination.timeout_s)
        client.set_http_retry_params(retry=False)  # the outbox does the retries
        yield client


class _TlsAdapter(HTTPAdapter):
    """Lets `requests` use our own TLS context."""

    def __init__(self, section: TlsClientSection) -> None:
        self._section = section
        super().__init__()

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        options["ssl_context"] = client_context(self._section)
        if self._section.server_name:
            options["server_hostname"] = options["assert_hostname"] = self._section.server_name
        super().init_poolmanager(*arguments, **options)  # type: ignore[arg-type]

    def cert_verify(self, *_: object) -> None:
        """Do nothing, because the TLS context verifies the certificate."""


def _store(
    client: DICOMwebClient, destination: StowDestination, instance: OutgoingInstance, announce: Announce
) -> SendResult:
    dataset = read_instance(instance)
    if isinstance(dataset, SendResult):
        return dataset
    sent_before = announce(instance)
    try:
        with translated(destination):
            response = client.store_instances([dataset])
    except _RefusalError as refusal:
        return result_of(instance, refusal.verdict, refusal.reason, sent_before=sent_before)
    return result_of(instance, *_judge(response), sent_before=sent_before)


def _judge(response: Dataset) -> tuple[DeliveryVerdict, str]:
    """Return verdict and reason from a Store Instances Response Module (PS3.18 Table I.2-1)."""
    failed = response.get("FailedSOPSequence")
    if failed:
        return judge(int(failed[0].get("FailureReason", 0x0110)))
    stored = response.get("ReferencedSOPSequence")
    if not stored:
        return DeliveryVerdict.RETRY, "the peer's response does not name the instance"
    return judge(int(stored[0].get("WarningReason") or 0))


class _RefusalError(Exception):
    def __init__(self, verdict: DeliveryVerdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


@contextmanager
def translated(destination: StowDestination) -> Iterator[None]:
    """Turn the client's exceptions into our errors, because the exceptions' texts quote URLs with UIDs."""
    try:
        yield
    except requests.HTTPError as error:
        raise _of_response(destination, error.response) from None
    except requests.exceptions.SSLError:
        raise TransientError(
            "peer-tls",
            f"TLS with {destination.name} fails.",
            "Check certificates, CA and server_name under `tls` of the destination.",
        ) from None
    except requests.ConnectionError:
        raise TransientError(
            "peer-unreachable",
            f"{destination.name} does not answer at {destination.url}.",
            "Check that the peer runs. Check the port, and the network between node and peer.",
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise TransientError(
            "peer-aborted",
            f"{destination.name} did not answer as STOW-RS does ({type(error).__name__}).",
            "Nothing is lost: the node tries again. If this happens often, see the peer's log.",
        ) from None


def _of_response(destination: StowDestination, response: requests.Response | None) -> Exception:
    status = response.status_code if response is not None else 0
    if response is not None and status == requests.codes.conflict:
        try:
            return _RefusalError(*_judge(Dataset.from_json(response.json())))
        except (ValueError, TypeError, KeyError):
            return _RefusalError(DeliveryVerdict.PARK, "the peer refuses the object (HTTP 409)")
    if status in _FOR_GOOD:
        return _RefusalError(DeliveryVerdict.PARK, f"the peer refuses the object (HTTP {status})")
    return TransientError(
        "peer-rejects",
        f"{destination.name} refuses our request (HTTP {status}).",
        "Check url, user and password_file of the destination, and which objects this user may store.",
    )


def _password(destination: StowDestination) -> str:
    if destination.password_file is None:
        return ""
    try:
        return destination.password_file.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(
            "password-file",
            f"The password file of {destination.name} cannot be read ({error.strerror}).",
            "Check destinations.password_file and its rights.",
        ) from None
