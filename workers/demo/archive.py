"""A small archive for the demonstration: a Storage SCP that keeps every object as a file.

It runs as a separate process: ``python -m workers.demo.archive --port P --folder F``.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

AE_TITLE = "DEMO_PACS"


def start_archive(port: int, folder: Path) -> None:
    """Answer C-STORE and C-ECHO on loopback. Each object becomes ``<SOP Instance UID>.dcm``."""
    folder.mkdir(parents=True, exist_ok=True)
    entity = AE(AE_TITLE)
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(Verification)
    handlers = [(evt.EVT_C_STORE, _keep, [folder])]
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)


def _keep(event: Event, folder: Path) -> int:
    path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
    partial = path.with_suffix(".part")
    partial.write_bytes(event.encoded_dataset())
    partial.replace(path)
    return 0x0000


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description="Demonstration archive")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    start_archive(arguments.port, arguments.folder)
    threading.Event().wait()


if __name__ == "__main__":
    main()
