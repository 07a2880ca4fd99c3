"""`uair up`, `uair node`: run the product until a signal stops it."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from dicom_config.model import Settings, load_settings
from uair_node import __version__
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import console
from uair_node.context import Context
from uair_node.logs import set_up_logging
from uair_node.node import Node
from uair_node.operations.checks.connections import check_tls
from uair_node.operations.checks.finding import Level
from uair_node.operations.monitoring.service_watch import ServiceWatch
from uair_node.storage.node_lock import only_node
from uair_node.supervisor import Workers
from uair_node.work.dispatch import clear_embedded_messages
from uair_node.work.service_start import open_service

log = logging.getLogger(__name__)


def up(config: ConfigOption = None, verbose: bool = False) -> None:
    """Run node, GPU worker and IO worker on this machine, without a broker server (embedded mode)."""
    settings = load_settings(config)
    set_up_logging(verbose=verbose, form=settings.logs.format)
    with only_node(settings.data_dir):
        clear_embedded_messages(settings)
        context = open_service(settings, migrate=True)
        workers = Workers(config, ["gpu", "io"])
        workers.start()
        try:
            _run_node(context, tend=workers.tend)
        finally:
            workers.stop()


def node(config: ConfigOption = None, verbose: bool = False) -> None:
    """Run only the DICOM node. Start workers elsewhere with `uair worker`."""
    settings = load_settings(config)
    set_up_logging(verbose=verbose, form=settings.logs.format)
    with only_node(settings.data_dir):
        _run_node(open_service(settings, migrate=True))


def _run_node(context: Context, tend: Any = lambda: None) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    _warn_of_certificates(context.settings)
    node = Node(context)
    node.start()
    _announce(context.settings, node.port)
    watch = ServiceWatch(node.alive)
    watch.start()
    try:
        while not stopping.wait(1.0):
            tend()
    finally:
        watch.stop()
    node.stop()


def _warn_of_certificates(settings: Settings) -> None:
    """Log certificates that have expired or expire soon. Peers would report only that TLS fails."""
    for finding in check_tls(settings):
        if finding.level != Level.OK:
            log.warning("%s", finding.log_line)


def _announce(settings: Settings, port: int) -> None:
    titles = settings.node.ae_titles
    console.print(
        f"[bold]UAIR node {__version__}[/] listens on {settings.node.host}:{port}. "
        f"Send series to [bold]{titles.store}[/], picks to [bold]{titles.pick}[/], "
        f"acceptances to [bold]{titles.accept}[/], rejections to [bold]{titles.reject}[/]. "
        f"Data in {settings.data_dir}. Not a medical device.",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
