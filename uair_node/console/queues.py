"""Queues and workers: what is due, who works on it, what the broker holds, GPU memory."""

from __future__ import annotations

from starlette.responses import Response

from uair_node.console.desk import Ask, Desk
from uair_node.console.figures import Remembered, due_work, holders
from uair_node.operations.gpu import read_gpus


def show_queues(desk: Desk, ask: Ask) -> Response:
    """Answer with all figures; what does not answer is said in a sentence."""
    with desk.context.database.reading() as session:
        due, held = due_work(session), holders(session)
    broker = desk.kept.setdefault("broker", Remembered()).ask(desk.context.settings)
    return desk.page(
        "queues.html", ask, title="Queues and workers", due=due, held=held, broker=broker, gpus=read_gpus()
    )
