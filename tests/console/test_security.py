"""The security pass: who gets in, what a stranger, a viewer or a foreign page can do, what headers say."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from dicom_config.console import ConsoleProxy, ConsoleSection
from dicom_config.errors import ConfigError, InputError
from tests.console.conftest import MARKUP
from tests.support.console import OPERATOR, PASSWORD, VIEWER, Site, console_site, hidden_fields, submit
from tests.support.intake import context_in
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome, Transition, utc_now
from uair_node.console.app import make_app
from uair_node.console.headers import CONTENT_SECURITY_POLICY
from uair_node.console.login import safe_target
from uair_node.console.serve import Pulse, make_server
from uair_node.console.sessions import Sessions
from uair_node.console.throttle import Throttle
from uair_node.console.users import Role, UsersFile, is_password
from uair_node.operations.checks.finding import fault

PUBLIC = {"/login", "/static"}


def _routes(site: Site) -> list[tuple[str, str]]:
    found = []
    for route in make_app(site.console).routes:
        if isinstance(route, Route):
            path = re.sub(r"\{\w+:int\}", "1", route.path).replace("{form:str}", "json")
            path = path.replace("{action:str}", "retry").replace("{name:path}", "pacs")
            found += [(method, path) for method in route.methods or () if method != "HEAD"]
        else:
            assert isinstance(route, Mount)
            assert route.path in PUBLIC
    return found


def test_nothing_but_the_login_opens_without_a_session(site: Site, visitor: TestClient) -> None:
    asked = [(method, path) for method, path in _routes(site) if path not in PUBLIC]
    assert len(asked) > 12
    for method, path in asked:
        answer = visitor.request(method, path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login")
    assert visitor.get("/cases", headers={"hx-request": "true"}).status_code == 401


def test_a_viewer_reaches_no_deed_and_no_audit(site: Site, viewer: TestClient) -> None:
    token = hidden_fields(viewer.get("/cases").text)["csrf"]
    reading = {
        "/login",
        "/logout",
        "/cases/patient",
    }  # a look-up is a form, so that no address holds its words
    deeds = [path for method, path in _routes(site) if method == "POST" and path not in reading]
    assert deeds
    for path in deeds:
        assert viewer.post(path, data={"csrf": token}).status_code == 403, path
    assert viewer.get("/access").status_code == 403
    assert viewer.get("/cases/1/expire").status_code == 403
    assert "/cases/1/expire" not in viewer.get("/cases/1").text
    with site.context.database.transaction() as session:
        refused = session.query(AccessRecord).filter_by(action="forbidden").count()
        assert session.query(Transition).filter(Transition.actor.startswith("console")).count() == 0
    assert refused == len(deeds) + 2


def test_every_answer_carries_the_headers(site: Site, operator: TestClient, visitor: TestClient) -> None:
    answers = [
        visitor.get("/login"),
        visitor.get("/cases"),
        visitor.get("/nowhere"),
        visitor.get("/static/console.css"),
        operator.get("/cases"),
        operator.get("/cases/99"),
        operator.post("/checks"),
    ]
    assert [answer.status_code for answer in answers] == [200, 303, 404, 200, 200, 404, 400]
    for answer in answers:
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_pages_obey_their_own_policy(operator: TestClient) -> None:
    """No inline script, style or handler, nothing from elsewhere: the policy would block it."""
    for address in (
        "/cases",
        "/cases/1",
        "/cases/1/segmentation",
        "/queues",
        "/destinations",
        "/refused",
        "/checks",
        "/cases/1/accept",
    ):
        page = operator.get(address).text
        assert not re.search(r"<script(?![^>]*src=\"/static/)|<style| style=|\son\w+=\"", page), address
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", page), address


def test_a_form_without_this_sessions_token_changes_nothing(site: Site, operator: TestClient) -> None:
    with site.visitor() as other:
        site.enter(other, OPERATOR)
        foreign = hidden_fields(other.get("/cases/1/expire").text)["csrf"]
    seen = {"seen": "AWAITING_SELECTION/1"}
    for fields in ({}, {"csrf": ""}, {"csrf": "é"}, {"csrf": foreign}):
        assert operator.post("/cases/1/expire", data={**seen, **fields}).status_code == 403
    right = {**seen, **hidden_fields(operator.get("/cases/1/expire").text)}
    for header in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil"},
    ):
        assert operator.post("/cases/1/expire", data=right, headers=header).status_code == 403
    for bad in (b"x" * 20_000, b"\xff\xfe"):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert operator.post("/cases/1/expire", content=bad, headers=headers).status_code == 400
    assert operator.post("/cases/1/expire", json=right).status_code == 400
    assert operator.get("/cases/1/expire").status_code == 200, "still possible: nothing happened"
    assert (
        operator.post("/cases/1/expire", data=right, headers={"origin": "http://127.0.0.1:11180"}).status_code
        == 303
    )


def test_login_gives_a_new_session_whatever_cookie_came(site: Site, visitor: TestClient) -> None:
    visitor.cookies.set("uair-console", "chosen-by-somebody-else", domain="127.0.0.1", path="/")
    assert site.log_in(visitor, VIEWER) == 303
    assert visitor.cookies["uair-console"] != "chosen-by-somebody-else"
    with site.visitor() as attacker:
        attacker.cookies.set("uair-console", "chosen-by-somebody-else", domain="127.0.0.1", path="/")
        assert attacker.get("/cases").status_code == 303


def test_logging_in_again_and_logging_out_end_a_session(site: Site, viewer: TestClient) -> None:
    old = viewer.cookies["uair-console"]
    site.log_in(viewer, VIEWER)
    assert viewer.cookies["uair-console"] != old
    new = viewer.cookies["uair-console"]
    assert submit(viewer, "/logout", page="/cases").headers["location"] == "/login"
    for cookie in (old, new):
        with site.visitor() as thief:
            thief.cookies.set("uair-console", cookie, domain="127.0.0.1", path="/")
            assert thief.get("/cases").status_code == 303


def test_the_cookie_is_http_only_and_over_https_bound_to_the_host(site: Site, tmp_path: Path) -> None:
    with site.visitor() as client:
        form = hidden_fields(client.get("/login").text)
        answer = client.post("/login", data={**form, "name": VIEWER, "password": PASSWORD})
        cookie = answer.headers.get_list("set-cookie")[0].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie
        assert "domain" not in cookie
    tls = {"certificate": "c.pem", "key": "k.pem"}
    with context_in(
        tmp_path / "tls", f"sqlite:///{tmp_path / 'tls.sqlite'}", console={"tls": tls}
    ) as context:
        secure = console_site(context)
        with secure.visitor(base="https://console") as client:
            assert secure.log_in(client, VIEWER) == 303
            answer = client.get("/cases")
            assert answer.status_code == 200
            assert "__Host-uair-console" in client.cookies
            assert answer.headers["strict-transport-security"]


def test_wrong_passwords_are_slowed_down_and_noted_without_what_was_typed(
    site: Site, visitor: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert [site.log_in(visitor, VIEWER, f"guess number {n}") for n in range(6)] == [401] * 5 + [429]
        assert site.log_in(visitor, VIEWER) == 429, "the right password does not help now"
        assert site.log_in(visitor, "my secret password") == 401, "an unknown name"
    with site.visitor(address="127.0.0.2") as elsewhere:
        assert site.log_in(elsewhere, VIEWER) == 303, "nobody locks another one out"
    with site.context.database.transaction() as session:
        kept = [(record.actor, record.outcome) for record in session.query(AccessRecord)]
    assert kept == [
        *[(VIEWER, "wrong password")] * 5,
        (VIEWER, "throttled"),
        ("(unknown name)", "wrong password"),
        (VIEWER, "done"),
    ]
    assert "guess" not in caplog.text
    assert "my secret" not in caplog.text


def test_an_address_and_a_name_have_bounds_of_their_own() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for n in range(30):
        throttle.failed(f"name{n}", "10.0.0.1")
    assert throttle.wait_s("other", "10.0.0.1") == 900
    assert throttle.wait_s("other", "10.0.0.2") == 0
    for n in range(100):
        throttle.failed("olga", f"10.1.0.{n}")
    assert throttle.wait_s("olga", "10.9.9.9") > 0
    now[0] = 901
    assert throttle.wait_s("olga", "10.9.9.9") == throttle.wait_s("other", "10.0.0.1") == 0


@pytest.mark.parametrize(
    "path", ["../app.py", "%2e%2e/app.py", "..%2f..%2fcli.py", "/etc/passwd", "templates"]
)
def test_files_beside_the_static_ones_are_not_served(visitor: TestClient, path: str) -> None:
    answer = visitor.get(f"/static/{path}")
    assert answer.status_code in (303, 404)
    assert "import" not in answer.text


def test_a_foreign_login_form_logs_nobody_in(visitor: TestClient) -> None:
    form = hidden_fields(visitor.get("/login").text)
    right = {**form, "name": VIEWER, "password": PASSWORD}
    assert visitor.post("/login", data={**right, "token": "x"}).status_code == 403
    assert visitor.post("/login", data=right, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    visitor.cookies.clear()
    assert visitor.post("/login", data=right).status_code == 403


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/ok\r\nSet-Cookie: a=b",
        "/\t/evil.example",
        "cases",
        "",
    ],
)
def test_the_login_leads_to_no_other_site(target: str) -> None:
    assert safe_target(target) == "/"


def test_what_the_login_form_is_given_is_not_believed(visitor: TestClient) -> None:
    target = "//evil.example\r\nSet-Cookie: a=b"
    form = hidden_fields(visitor.get("/login").text)
    data = {**form, "next": target, "name": VIEWER, "password": PASSWORD}
    answer = visitor.post("/login", data=data)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "a=b" not in str(answer.headers)


@pytest.mark.parametrize("path", ["/cases/", "//cases", "//evil.example/cases", "/login/"])
def test_no_redirect_names_a_host(visitor: TestClient, path: str) -> None:
    answer = visitor.get(f"http://127.0.0.1:11180{path}", headers={"host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_the_login_leads_back_to_where_somebody_wanted_to_go(site: Site, visitor: TestClient) -> None:
    where = visitor.get("/cases?search=ACC%26-1&state=READY").headers["location"]
    form = hidden_fields(visitor.get(where).text)
    answer = visitor.post("/login", data={**form, "name": VIEWER, "password": PASSWORD})
    assert answer.headers["location"] == "/cases?search=ACC%26-1&state=READY"


def test_markup_from_anywhere_is_shown_as_text(site: Site, operator: TestClient) -> None:
    """A hostile sender writes AE titles, accession numbers, reasons; a peer writes its refusals."""
    with site.context.database.transaction() as session:
        case = session.get_one(Case, 1)
        case.accession_number = case.assumed = case.warnings = case.sentence = case.remedy = MARKUP
        case.code, case.calling_ae = "<i>", "<b>AE</b>"
        session.add(Transition(case_id=1, origin=None, state=CaseState.READY, actor="<u>", reason=MARKUP))
        session.add(
            Selection(
                case_id=1, round_number=1, verb="pick", mechanism="<s>", calling_ae="<q>", code="x",
                outcome=SelectionOutcome.REFUSED, sentence=MARKUP, remedy=MARKUP,
            )
        )  # fmt: skip
        for result in case.rounds[0].results:
            result.character = MARKUP
    for address in ("/cases", "/cases/1", "/refused", "/cases/1/pick", f"/cases?search={MARKUP}"):
        page = operator.get(address).text
        assert not re.search(r"<(img src=x|i>|b>|u>|s>|q>)", page), address
    assert MARKUP.replace("<", "&lt;").replace(">", "&gt;") in operator.get("/cases/1").text


def test_secrets_of_the_configuration_are_hidden(tmp_path: Path) -> None:
    sections = {
        "database": {"url": ""},
        "broker": {"url": "amqp://uair:br0ker-secret@rabbit:5672//?password=qu3ry-secret"},
        "destinations": [
            {
                "name": "cloud",
                "url": "https://h/dicom?token=t0ken-secret",
                "password_file": "/run/p",
            }
        ],
    }
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'u.sqlite'}", **sections) as context:
        site = console_site(context)
        with site.visitor() as client:
            site.enter(client, OPERATOR)
            kept = fault("destination cloud", "x", "nobody at https://u:ch3ck-secret@h/", "")
            site.console.kept["checks"] = (utc_now(), [kept])
            pages = [client.get(where).text for where in ("/configuration", "/destinations", "/checks")]
    assert "amqp://uair:" in pages[0]
    assert "/run/p" in pages[0], "the path of a secret is none"
    assert all("-secret" not in page for page in pages)


def test_an_error_page_says_nothing_of_a_foreign_exception(
    site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr("uair_node.console.refused._groups", explode)
    answer = viewer.get("/refused")
    assert answer.status_code == 500
    assert "Doe" not in answer.text + caplog.text
    assert "ValueError at " in caplog.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_no_patient_name_in_the_log(
    site: Site, operator: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for address in ("/cases?search=ACC-1", "/cases/1", "/cases/1/patient"):
            assert operator.get(address).status_code == 200
        submit(operator, "/cases/1/pick", candidate="2")
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert "Probe" not in ours
    assert "ACC-1" not in ours


def test_who_is_removed_or_gets_another_password_is_out(site: Site, viewer: TestClient) -> None:
    other = UsersFile(site.console.users.path)
    other.change_password(VIEWER, "quite another password")
    assert viewer.get("/cases").status_code == 303
    assert site.log_in(viewer, VIEWER, "quite another password") == 303
    other.remove(VIEWER)
    assert viewer.get("/cases").status_code == 303


def test_sessions_end_when_idle_or_old_and_refreshing_is_not_using() -> None:
    now = [0.0]
    sessions = Sessions(100.0, 250.0, lambda: now[0])
    cookie, _ = sessions.begin("olga", Role.OPERATOR, "hash")
    now[0] = 90
    assert sessions.find(cookie, touch=False)
    now[0] = 101
    assert sessions.find(cookie) is None
    cookie, _ = sessions.begin("olga", Role.OPERATOR, "hash")
    for now[0] in (190.0, 280.0, 350.0):
        assert sessions.find(cookie)
    now[0] = 352
    assert sessions.find(cookie) is None


def test_the_users_file_holds_no_password_and_is_its_owners_alone(tmp_path: Path) -> None:
    users = UsersFile(tmp_path / "users.json")
    users.add("olga", Role.OPERATOR, PASSWORD)
    users.add("viktor", Role.VIEWER, PASSWORD)
    assert PASSWORD not in users.path.read_text()
    assert users.path.stat().st_mode & 0o077 == 0
    hashes = [load["password"] for load in json.loads(users.path.read_text()).values()]
    assert len(set(hashes)) == 2, "salted"
    assert users.verify("olga", PASSWORD)
    assert not users.verify("olga", PASSWORD + "x")
    assert not users.verify("nobody", PASSWORD)
    for damaged in ("", "scrypt$x", "scrypt$1$1$1$!$!", "plain$1$1$1$$"):
        assert not is_password("", damaged)


@pytest.mark.parametrize(
    ("name", "password", "code"),
    [
        ("olga", PASSWORD, "user-exists"),
        ("new", "short", "password-length"),
        ("new", "x" * 257, "password-length"),
        ("../x", PASSWORD, "user-name"),
        ("a b", PASSWORD, "user-name"),
        ("", PASSWORD, "user-name"),
    ],
)
def test_users_are_checked(tmp_path: Path, name: str, password: str, code: str) -> None:
    users = UsersFile(tmp_path / "users.json")
    users.add("olga", Role.OPERATOR, PASSWORD)
    with pytest.raises(InputError) as caught:
        users.add(name, Role.VIEWER, password)
    assert caught.value.code == code


def test_a_damaged_users_file_lets_nobody_in(site: Site, viewer: TestClient) -> None:
    site.console.users.path.write_text("{")
    answer = viewer.get("/cases")
    assert answer.status_code == 409
    assert "users-file" in answer.text
    assert "/cases/1" not in answer.text
    with site.visitor() as stranger:
        form = hidden_fields(stranger.get("/login").text)
        answer = stranger.post("/login", data={**form, "name": VIEWER, "password": PASSWORD})
    assert answer.status_code == 503
    assert "console-users.json" not in answer.text


def test_without_users_it_does_not_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'u.sqlite'}"
    with context_in(tmp_path / "data", url) as context, pytest.raises(ConfigError, match="no default"):
        make_server(context, Pulse())


def test_beyond_this_machine_it_needs_tls_or_a_proxy() -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        ConsoleSection(host="0.0.0.0")
    assert ConsoleSection(host="0.0.0.0", proxy=ConsoleProxy(networks=("10.0.0.5/32",)))
    assert ConsoleSection(host="::1")
