"""The conformance statement says what the code does, and the printed one is the present one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import UID
from typer.testing import CliRunner

from dicom_config.contexts import SENT_SOP_CLASSES, sop_classes, transfer_syntaxes
from dicom_config.model import load_settings
from dicom_config.tls import TLS_1_2_SUITES
from uair_node.cli import app
from uair_node.network.scp import Rejection
from uair_node.network.store_status import StoreStatus
from uair_node.operations.conformance import conformance_statement

_ROOT = Path(__file__).parents[2]


def test_the_printed_statement_is_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remedy: `uair conformance > docs/conformance.md`."""
    printed = (_ROOT / "docs" / "conformance.md").read_text("utf-8")
    assert printed == conformance_statement(load_settings())


def test_the_command_prints_it(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("node: {port: 4711, ae_titles: {store: LIVER}}\n", "utf-8")
    result = CliRunner().invoke(app, ["conformance", "--config", str(site)])
    assert result.exit_code == 0
    assert "port 4711" in result.stdout
    assert "| `LIVER` | a series to be segmented |" in result.stdout


def test_nothing_that_the_code_does_is_left_out() -> None:
    text = conformance_statement(load_settings())
    for uid in (*transfer_syntaxes(), *(sop_classes() - {"1.2.840.10008.1.1"})):
        assert f"| {uid} |" in text
    for uid in SENT_SOP_CLASSES:
        assert UID(uid).name in text
    for status in StoreStatus:
        assert f"| {status:04X} |" in text
    for rejection in Rejection:
        assert "/".join(map(str, rejection.value)) in text
    for suite in TLS_1_2_SUITES:
        assert suite in text


def test_the_readme_links_the_statement_and_names_what_is_sent() -> None:
    readme = (_ROOT / "README.md").read_text("utf-8")
    assert "(docs/conformance.md)" in readme
    for uid in SENT_SOP_CLASSES:
        assert UID(uid).name.removesuffix(" Storage") in readme
