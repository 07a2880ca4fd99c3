"""Each private peer proves itself by a real exchange; what the other integration tests stand on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import kombu
import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from tests.support.peers import Dcmtk, Orthanc, Postgres, RabbitMQ, need
from tests.support.ports import answers, free_port, wait_until

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).parents[2]


def _instance(sop_class: str, modality: str) -> Dataset:
    """A small instance with one 8 x 8 frame; an SCP looks at its identity only."""
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.SOPClassUID = sop_class
    instance.SOPInstanceUID = generate_uid()
    instance.StudyInstanceUID = generate_uid()
    instance.SeriesInstanceUID = generate_uid()
    instance.PatientID = "PEERS"
    instance.Modality = modality
    instance.Rows = instance.Columns = 8
    instance.BitsAllocated = instance.BitsStored = 16
    instance.HighBit = 15
    instance.SamplesPerPixel = 1
    instance.PixelRepresentation = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.PixelData = np.arange(64, dtype="<i2").tobytes()
    return instance


@pytest.fixture
def ct_file(tmp_path: Path) -> Path:
    path = tmp_path / "ct.dcm"
    _instance(CTImageStorage, "CT").save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def archive(orthanc: Orthanc) -> Orthanc:
    orthanc.delete_all()
    return orthanc


def test_orthanc_answers_c_echo(archive: Orthanc, dcmtk: Dcmtk) -> None:
    assert dcmtk.echoscu("127.0.0.1", archive.dicom_port, archive.aet, "TESTER").returncode == 0


def test_echo_to_nobody_fails(dcmtk: Dcmtk) -> None:
    assert dcmtk.echoscu("127.0.0.1", free_port(), "NOBODY", "TESTER").returncode != 0


def test_orthanc_lists_what_was_uploaded(archive: Orthanc, ct_file: Path) -> None:
    sent = dcmread(ct_file)
    uploaded = archive.upload(ct_file.read_bytes())

    (series,) = archive.series()
    assert series.modality == "CT"
    assert series.tags["SeriesInstanceUID"] == sent.SeriesInstanceUID
    assert series.instances == (uploaded,)
    assert archive.instances() == [uploaded]
    assert archive.dicom(uploaded) == ct_file.read_bytes()
    assert archive.tags(uploaded)["PatientID"] == "PEERS"
    assert archive.find("Series", {"SeriesInstanceUID": sent.SeriesInstanceUID}) == [series.id]
    assert archive.find("Series", {"SeriesInstanceUID": "1.2.3"}) == []
    archive.delete_all()
    assert archive.instances() == []


def test_storescu_stores_ct_and_seg_in_orthanc(archive: Orthanc, dcmtk: Dcmtk, ct_file: Path) -> None:
    folder = ct_file.parent
    _instance(SegmentationStorage, "SEG").save_as(folder / "seg.dcm", enforce_file_format=True)
    done = dcmtk.storescu("127.0.0.1", archive.dicom_port, archive.aet, "ROUTER", [folder])
    assert done.returncode == 0, done.stderr
    assert sorted(series.modality for series in archive.series()) == ["CT", "SEG"]


def test_orthanc_sends_to_a_modality_under_the_called_title(
    archive: Orthanc, dcmtk: Dcmtk, ct_file: Path
) -> None:
    uploaded = archive.upload(ct_file.read_bytes())
    with dcmtk.storescp("PICK_HERE") as receiver:
        archive.add_modality("pick", receiver.aet, "127.0.0.1", receiver.port)
        assert archive.echo("pick")
        archive.store(uploaded, "pick")
        (received,) = receiver.files()
        assert dcmread(received).SOPInstanceUID == dcmread(ct_file).SOPInstanceUID
        assert dcmread(received).file_meta.SourceApplicationEntityTitle == archive.aet
    assert not archive.echo("pick")


def test_orthanc_serves_dicomweb(archive: Orthanc, ct_file: Path) -> None:
    archive.upload(ct_file.read_bytes())
    assert archive.dicomweb_url is not None, "orthanc-dicomweb is not installed"
    with urllib.request.urlopen(f"{archive.dicomweb_url}/series", timeout=10) as answer:
        assert dcmread(ct_file).SeriesInstanceUID in answer.read().decode()


def test_storescu_to_storescp_keeps_every_value(dcmtk: Dcmtk, ct_file: Path) -> None:
    with dcmtk.storescp("ARCHIVE") as receiver:
        done = dcmtk.storescu("127.0.0.1", receiver.port, receiver.aet, "ROUTER", [ct_file])
        assert done.returncode == 0, done.stderr
        (received,) = receiver.files()
        assert dcmread(received) == dcmread(ct_file)


def _take(connection: kombu.Connection, queue: kombu.Queue) -> object:
    """Get one message and no other: what a consumer holds while its broker is killed may stay with it."""
    taken: list[object] = []

    def got() -> bool:
        message = queue(connection.channel()).get()
        if message is not None:
            taken.append(message.payload)
            message.ack()
        return bool(taken)

    wait_until(got, "a message", 120.0)
    return taken[0]


def test_message_in_a_quorum_queue_survives_a_broker_restart(rabbitmq: RabbitMQ) -> None:
    name = "peers.quorum"
    queue = kombu.Queue(name, routing_key=name, queue_arguments={"x-queue-type": "quorum"})
    confirmed = {"confirm_publish": True}
    with kombu.Connection(rabbitmq.url, transport_options=confirmed) as connection:
        with connection.Producer() as producer:
            for number in (1, 2):
                producer.publish({"id": number}, routing_key=name, delivery_mode=2, declare=[queue])
        assert _take(connection, queue) == {"id": 1}

    rabbitmq.restart()

    with kombu.Connection(rabbitmq.url) as connection:
        assert _take(connection, queue) == {"id": 2}
        queue(connection.channel()).delete()


def test_queue_depths_come_from_the_broker(rabbitmq: RabbitMQ) -> None:
    name = "peers.depth"
    queue = kombu.Queue(name, routing_key=name)
    with kombu.Connection(rabbitmq.url, transport_options={"confirm_publish": True}) as connection:
        with connection.Producer() as producer:
            for number in (1, 2, 3):
                producer.publish({"id": number}, routing_key=name, declare=[queue])
        wait_until(lambda: rabbitmq.queue_depths().get(name) == 3, "three messages to be counted")
        queue(connection.channel()).delete()


def test_broker_runs_with_the_deployed_settings(rabbitmq: RabbitMQ) -> None:
    """Task limits have to stay below this one, or RabbitMQ hands a running task out again."""
    assert "{ok,14400000}" in rabbitmq.ctl("eval", "application:get_env(rabbit, consumer_timeout).")


def test_databases_of_one_server_are_apart(postgres: Postgres) -> None:
    with postgres.database() as first, postgres.database() as second:
        table = sa.Table("peers", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
        engine = sa.create_engine(first)
        table.create(engine)
        with engine.begin() as connection:
            connection.execute(table.insert(), [{"id": 1}, {"id": 2}])
        engine.dispose()

        postgres.restart()

        with engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 2
        engine.dispose()
        other = sa.create_engine(second)
        assert sa.inspect(other).get_table_names() == []
        other.dispose()


def test_empty_database_url_is_fresh(empty_database_url: str) -> None:
    """Both runs of this test create the same table: neither finds the other's."""
    engine = sa.create_engine(empty_database_url)
    table = sa.Table("fresh", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    table.create(engine, checkfirst=False)
    assert sa.inspect(engine).get_table_names() == ["fresh"]
    engine.dispose()


def test_killed_server_is_gone_and_comes_back(postgres: Postgres) -> None:
    postgres.kill()
    assert not answers(postgres.port)
    postgres.start()
    assert answers(postgres.port)


def test_servers_die_with_a_killed_test_process(tmp_path: Path) -> None:
    """SIGKILL to the process that started a server leaves no server behind."""
    port = free_port()
    program = textwrap.dedent(f"""
        import signal, sys, time
        from pathlib import Path
        from tests.support.server import guarded
        serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
        guarded(serve, Path({str(tmp_path / "log")!r}), signal.SIGTERM, {{}})
        time.sleep(600)
    """)
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=_ROOT)
    try:
        wait_until(lambda: answers(port), "the server under guard")
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    wait_until(lambda: not answers(port), "the server to end with its owner", timeout_s=15.0)


def test_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_missing_program_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        need("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        need("no-such-program")


def test_real_ct_is_where_the_tests_look(ct_dir: Path) -> None:
    slices = [entry for entry in os.scandir(ct_dir / "ircadb01_p17" / "PATIENT_DICOM") if entry.is_file()]
    assert len(slices) == 119
