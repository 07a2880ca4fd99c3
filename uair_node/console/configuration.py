"""Show the configuration that this process loaded. Secrets are hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from dicom_config.model import Settings
from dicom_config.overrides import find_overrides
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.secrecy import HIDDEN, without_url_secrets

_SECRET_KEY = re.compile("password|secret|token|credential|passphrase", re.IGNORECASE)
_HARMLESS = ("_file", "_header")  # the name of a file or header is no secret


@dataclass(frozen=True)
class Line:
    """A key of the configuration with its value.

    Attributes
    ----------
    ours
        Whether the value is the default.
    variable
        The environment variable that sets the key; empty if the value comes from the file or is the default.
    """

    key: str
    value: str
    ours: bool
    variable: str = ""


def show_configuration(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with all keys and their values, by section."""
    sections: dict[str, list[Line]] = {}
    for line in lines(console.context.settings):
        sections.setdefault(line.key.split(".")[0].split("[")[0], []).append(line)
    file = console.context.settings.source
    return console.page("configuration.html", request, title="Configuration", sections=sections, file=file)


def lines(settings: Settings) -> list[Line]:
    """Return every key of a configuration. Secrets are hidden."""
    defaults = dict(_flat("", Settings.model_construct().model_dump()))
    variables = {override.key: override.variable for override in find_overrides(settings.source)}
    return [
        Line(key, without_secrets(key, value), defaults.get(key) == value, variables.get(key, ""))
        for key, value in _flat("", settings.model_dump())
    ]


def without_secrets(key: str, value: str) -> str:
    """Return a value in the form that the page shows.

    A URL loses its password, and the value of a secret key is hidden.
    """
    name = key.rsplit(".", 1)[-1]
    if value and _SECRET_KEY.search(name) and not name.endswith(_HARMLESS):
        return HIDDEN
    return without_url_secrets(value)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, dict | list | tuple) for inner in value):
        for number, inner in enumerate(value, start=1):
            yield from _flat(f"{prefix}[{number}]", inner)
    elif isinstance(value, list | tuple | frozenset):
        yield prefix, ", ".join(sorted(map(str, value)) if isinstance(value, frozenset) else map(str, value))
    else:
        yield prefix, "" if value is None or value == {} else str(value)
