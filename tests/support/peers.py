"""The real peers of the integration tests: one import for what the fixtures in ``conftest.py`` hand out."""

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
