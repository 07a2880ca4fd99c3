"""`uair console`: serve the console's pages, and manage its users."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_config.model import load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.tables import Row, print_rows
from uair_node.console.users import Role, UsersFile, users_file
from uair_node.logs import set_up_logging
from uair_node.operations.monitoring.service_watch import ServiceWatch
from uair_node.work.service_start import open_service

console = Console()
console_app = typer.Typer(
    add_completion=False, help="The administrator's console in a browser; `uair console` serves it."
)
user_app = typer.Typer(no_args_is_help=True, help="Add, list and remove users of the console.")
console_app.add_typer(user_app, name="user")

StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, for scripts.")
]
NameArgument = Annotated[str, typer.Argument(help="Name to log in with.")]


@console_app.callback(invoke_without_command=True)
def run(command: typer.Context, config: ConfigOption = None, verbose: bool = False) -> None:
    """Serve the console."""
    if command.invoked_subcommand is not None:
        return
    from uair_node.console.serve import Pulse, make_server  # imported here, because only `run` needs it

    set_up_logging(verbose=verbose)
    settings = load_settings(config)
    scheme = "http" if settings.console.tls is None else "https"
    address = f"{scheme}://{settings.console.host}:{settings.console.port}/"
    pulse = Pulse()
    server = make_server(open_service(settings), pulse)
    console.print(f"[bold]UAIR console[/] at {address}  Not a medical device.", highlight=False)
    watch = ServiceWatch(pulse.alive)
    watch.start()
    try:
        server.run()
    finally:
        watch.stop()


@user_app.command()
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="viewer: can read; operator: can also act")],
    config: ConfigOption = None,
    password_stdin: StdinOption = False,
) -> None:
    """Add a user. The command asks for the password."""
    _users(config).add(name, role, _password(password_stdin))
    console.print(f"{name} can log in as {role}.", highlight=False)


@user_app.command()
def password(name: NameArgument, config: ConfigOption = None, password_stdin: StdinOption = False) -> None:
    """Change a password. Sessions with the old password end."""
    _users(config).change_password(name, _password(password_stdin))
    console.print(f"The password of {name} is changed.", highlight=False)


@user_app.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user. Their sessions end."""
    _users(config).remove(name)
    console.print(f"{name} can no longer log in.", highlight=False)


@user_app.command("list")
def list_users(config: ConfigOption = None) -> None:
    """List users and roles."""
    rows = [Row((user.name, str(user.role))) for user in _users(config).all()]
    print_rows(console, ("name", "role"), rows)


def _users(config: Path | None) -> UsersFile:
    set_up_logging(quiet=True)
    return users_file(load_settings(config))


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
