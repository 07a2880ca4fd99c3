"""Load the module of a command when the command is called.

So `uair --help`, `uair --version` and completion need no database, no DICOM library and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class LazyCommand:
    """The place of a command, and its help text, which is known without loading the command.

    Attributes
    ----------
    where
        ``module:name`` of a function, or of a `typer.Typer` with subcommands.
    help
        The help text, a single sentence.
    panel
        The heading for this command in the help.
    """

    where: str
    help: str
    panel: str | None = None

    def listed(self, name: str) -> TyperCommand:
        """Return an empty command with this name, for help and completion."""
        return TyperCommand(name, help=self.help, rich_help_panel=self.panel)

    def load(self, name: str) -> Any:
        """Import the command."""
        module, _, attribute = self.where.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = get_command(found)
            group.name = name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        return get_command(alone)


class LazyGroup(TyperGroup):
    """A group of commands from a table. Subclasses set the table."""

    table: ClassVar[Mapping[str, LazyCommand]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return an empty command, since help and completion request every command."""
        found = self.table.get(cmd_name)
        return found.listed(cmd_name) if found else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the called command. Return its name, the command, and the remaining arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        found = self.table.get(name or "")
        return name, found.load(name or "") if found else command, rest


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[LazyGroup]:
    """Return the class of a group with these commands, for ``typer.Typer(cls=...)``."""
    return type("Commands", (LazyGroup,), {"table": commands})
