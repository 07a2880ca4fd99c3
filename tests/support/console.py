"""A console on a node's real data, and a user who logs in by the form, as in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

from httpx2 import Response
from starlette.testclient import TestClient

from uair_node.console.app import make_app
from uair_node.console.console_app import ConsoleApp, make_console
from uair_node.console.users import Role, UsersFile
from uair_node.context import Context

BASE = "http://127.0.0.1:11180"
PASSWORD = "a long enough password"
OPERATOR, VIEWER = "olga", "viktor"


@dataclass
class Site:
    """A console under test, and its test clients."""

    console: ConsoleApp

    @property
    def context(self) -> Context:
        """The node's context."""
        return self.console.context

    @contextmanager
    def visitor(self, address: str = "127.0.0.1", base: str = BASE) -> Iterator[TestClient]:
        """A client that is not logged in."""
        client = TestClient(
            make_app(self.console), base_url=base, follow_redirects=False, client=(address, 40000),
            raise_server_exceptions=False,
        )  # fmt: skip
        yield client
        client.close()

    def enter(self, client: TestClient, name: str) -> TestClient:
        """Give a user a session without the cost of a password."""
        user = self.console.users.get(name)
        assert user is not None
        cookie, _ = self.console.sessions.begin(user.name, user.role, user.password_hash)
        client.cookies.set("uair-console", cookie, domain="127.0.0.1", path="/")
        return client

    def log_in(self, client: TestClient, name: str, password: str = PASSWORD) -> int:
        """Fill in and send the login form; return the status of the answer."""
        form = hidden_fields(client.get("/login").text)
        return client.post("/login", data={**form, "name": name, "password": password}).status_code


def console_site(context: Context) -> Site:
    """The console of a node, with an operator and a viewer."""
    console = make_console(context)
    console.users.path.parent.mkdir(exist_ok=True)
    console.users.path.write_text(_users())
    return Site(console)


@cache
def _users() -> str:
    """The text of a users file, made once: hashing is slow on purpose."""
    with TemporaryDirectory() as folder:
        users = UsersFile(Path(folder) / "users.json")
        users.add(OPERATOR, Role.OPERATOR, PASSWORD)
        users.add(VIEWER, Role.VIEWER, PASSWORD)
        return users.path.read_text()


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden fields of the page's last form, except the logout form."""
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in fields}


def submit(client: TestClient, path: str, page: str = "", **fields: str) -> Response:
    """Open the page of a form (its own path unless `page`), fill it in and send it."""
    return client.post(path, data={**hidden_fields(client.get(page or path).text), **fields})
