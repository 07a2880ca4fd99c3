"""The classes of the real peers that the fixtures in ``conftest.py`` return, for import from one module."""

from tests.support.dcmtk import Dcmtk, StoreScp
from tests.support.orthanc import Orthanc, OrthancSeries
from tests.support.postgres import Postgres
from tests.support.rabbitmq import RabbitMQ
from tests.support.server import absent, find_program, need

__all__ = [
    "Dcmtk",
    "Orthanc",
    "OrthancSeries",
    "Postgres",
    "RabbitMQ",
    "StoreScp",
    "absent",
    "find_program",
    "need",
]
