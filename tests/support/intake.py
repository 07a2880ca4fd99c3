"""Instances in the form in which the listener passes them on, and a context that receives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import make_url

from dicom_config.model import Settings, Verb
from tests.support.made_once import migrated_sqlite
from uair_node.cases.database import Database
from uair_node.context import Context
from uair_node.network.scp import ReceivedInstance
from uair_node.storage.store import Store


@contextmanager
def context_in(folder: Path, database_url: str, **sections: object) -> Iterator[Context]:
    """A migrated database and a data folder, with short waits."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        migrated_sqlite(Path(str(url.database)))
    database = Database(database_url)
    database.migrate()
    values = {
        "intake": {"quiet_s": 0.01, "max_wait_s": 60, "partial_edit_wait_s": 0.01, "min_free_bytes": 0},
        **sections,
    }
    settings = Settings(data_dir=folder, **values)
    yield Context(settings, database, Store(folder))
    database.close()


def received(path: Path, verb: Verb = Verb.STORE, calling_ae: str = "ROUTER") -> ReceivedInstance:
    """The instance in a file, as if a sender had sent it."""
    header = dcmread(path, stop_before_pixels=True)
    return ReceivedInstance(
        verb=verb,
        calling_ae=calling_ae,
        address="127.0.0.1",
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        data=path.read_bytes(),
    )
