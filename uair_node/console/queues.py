"""Show queues and workers: due work, running work, the broker's messages, GPU memory."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.figures import Remembered, due_work, holders
from uair_node.operations.gpu import read_gpus
from uair_node.work.unserved import unserved_queues


def show_queues(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with all figures. A sentence names services that do not answer."""
    with console.context.database.reading() as session:
        due, held = due_work(session), holders(session)
        unserved = unserved_queues(session)
    broker = console.kept.setdefault("broker", Remembered()).ask(console.context.settings)
    return console.page(
        "queues.html",
        request,
        title="Queues and workers",
        due=due,
        held=held,
        broker=broker,
        silent=[queue for queue in unserved if queue.name not in broker.alone_since],
        gpus=read_gpus(),
    )
