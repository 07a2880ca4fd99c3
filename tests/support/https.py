"""An HTTPS front of a server that speaks HTTP, like a department's reverse proxy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.certificates import Certificate


@contextmanager
def https_front(port: int, certificate: Certificate) -> Iterator[int]:
    """Accept TLS connections and pass their bytes to a loopback port. Yield the port to call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, context, port), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            client = server.accept()[0]
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, context, port), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    try:
        secured = context.wrap_socket(client, server_side=True)
    except OSError:  # the client does not trust us
        client.close()
        return
    upstream = socket.create_connection(("127.0.0.1", port))
    threading.Thread(target=_pass_on, args=(upstream, secured), daemon=True).start()
    _pass_on(secured, upstream)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
