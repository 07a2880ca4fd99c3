"""A reverse proxy that says who is logged in: from its address, with its secret, one name in a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_config.errors import ConfigError
from tests.support.console import Site, console_site, hidden_fields, submit
from tests.support.intake import context_in
from uair_node.cases.installation_tables import AccessRecord
from uair_node.console.serve import Pulse, make_server

_SECRET = "0123456789abcdef" * 4


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Site]:
    proxy = {"networks": ["10.0.0.5/32"], "operators": ["olga"], "viewers": ["viktor"]}
    with context_in(
        tmp_path / "data", f"sqlite:///{tmp_path / 'u.sqlite'}", console={"proxy": proxy}
    ) as context:
        yield console_site(context)


def test_its_header_counts_from_its_address_only(proxied: Site) -> None:
    named = {"x-remote-user": "olga"}
    with proxied.visitor(address="10.0.0.5") as client:
        assert "operator" in client.get("/queues", headers=named).text
        assert client.get("/queues").status_code == 303, "no header, no session"
    with proxied.visitor(address="10.0.0.6") as client:
        assert client.get("/queues", headers=named).status_code == 303


def test_roles_and_strangers(proxied: Site) -> None:
    with proxied.visitor(address="10.0.0.5") as client:
        assert client.get("/access", headers={"x-remote-user": "olga"}).status_code == 200
        assert client.get("/access", headers={"x-remote-user": "viktor"}).status_code == 403
        for name in ("mallory", "", "a\tb", "x" * 80, "<b>"):
            assert client.get("/cases", headers={"x-remote-user": name}).status_code == 403


def test_two_names_in_one_request_are_refused_in_any_order(proxied: Site) -> None:
    two = [("x-remote-user", "olga"), ("x-remote-user", "viktor")]
    with proxied.visitor(address="10.0.0.5") as client:
        for names in (two, two[::-1], two[:1] * 2):
            assert client.get("/cases", headers=names).status_code == 403
        assert client.get("/cases", headers=two[:1]).status_code == 200


@pytest.fixture
def with_secret(tmp_path: Path) -> Iterator[Site]:
    secret = tmp_path / "proxy"
    secret.write_text(_SECRET + "\n")
    proxy = {"networks": ["10.0.0.5/32"], "operators": ["olga"], "secret_file": secret}
    url = f"sqlite:///{tmp_path / 'u.sqlite'}"
    with context_in(tmp_path / "data", url, console={"proxy": proxy}) as context:
        yield console_site(context)


def test_its_header_counts_with_its_secret_only(with_secret: Site, caplog: pytest.LogCaptureFixture) -> None:
    named, secret = ("x-remote-user", "olga"), ("x-uair-proxy-secret", _SECRET)
    wrong = ("x-uair-proxy-secret", _SECRET[:-1] + "0")
    damaged = (b"x-uair-proxy-secret", b"\xe9")
    with with_secret.visitor(address="10.0.0.5") as client:
        for headers in ([], [wrong], [damaged], [secret, wrong], [wrong, secret], [secret] * 2):
            answer = client.get("/cases", headers=[named, *headers])
            assert answer.status_code == 403, headers
            assert "set-cookie" not in answer.headers
            assert _SECRET not in answer.text
        assert client.get("/cases", headers=[secret]).status_code == 303, "no name, no session"
        assert client.get("/cases", headers=[named, secret]).status_code == 200
        page = client.get("/configuration", headers=[named, secret]).text
        assert _SECRET not in page
        assert "X-UAIR-Proxy-Secret" in page
    with with_secret.visitor(address="10.0.0.6") as client:
        assert client.get("/cases", headers=[named, secret]).status_code == 303
    assert "without the proxy's secret" in caplog.text
    assert _SECRET not in caplog.text


def test_without_its_secret_nobody_says_an_address(with_secret: Site) -> None:
    """Wrong passwords are counted by address: who chooses the address is never slowed down."""
    said = {"x-forwarded-for": "192.168.1.9"}
    with with_secret.visitor(address="10.0.0.5") as client:
        form = hidden_fields(client.get("/login", headers=said).text)
        client.post("/login", data={**form, "name": "olga", "password": "wrong"}, headers=said)
    with with_secret.context.database.transaction() as session:
        assert session.query(AccessRecord).one().address == "10.0.0.5"


@pytest.mark.parametrize("content", [None, "", "short\n"])
def test_with_an_unusable_secret_it_does_not_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "proxy"
    if content is not None:
        file.write_text(content)
    proxy = {"networks": ["10.0.0.5/32"], "viewers": ["*"], "secret_file": file}
    url = f"sqlite:///{tmp_path / 'u.sqlite'}"
    with context_in(tmp_path / "data", url, console={"proxy": proxy}) as context:
        with pytest.raises(ConfigError) as caught:
            make_server(context, Pulse())
        assert caught.value.code == "proxy-secret"


def test_forms_need_the_token_there_too(proxied: Site) -> None:
    with proxied.visitor(address="10.0.0.5") as client:
        client.headers["x-remote-user"] = "olga"
        client.get("/checks")
        assert client.post("/checks", data={"csrf": ""}).status_code == 403
        assert submit(client, "/checks").status_code == 303


def test_it_tells_address_and_scheme(proxied: Site) -> None:
    said = {
        "x-remote-user": "olga",
        "x-forwarded-for": "6.6.6.6, 192.168.1.9",
        "x-forwarded-proto": "https",
    }
    with proxied.visitor(address="10.0.0.5", base="https://console") as client:
        assert "; Secure" in client.get("/cases", headers=said).headers["set-cookie"]
    with proxied.context.database.transaction() as session:
        assert session.query(AccessRecord).one().address == "192.168.1.9"
