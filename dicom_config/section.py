"""Shared parts of the configuration's sections: base class, checks of AE titles, networks and hosts."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base class of the configuration's sections. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ae_title(value: str) -> str:
    """Check an AE title: 1 to 16 characters of the default repertoire, no backslash (PS3.5 6.2)."""
    stripped = value.strip()
    if not 1 <= len(stripped) <= 16 or not stripped.isascii() or not stripped.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters")
    if "\\" in stripped:
        raise ValueError("an AE title has no backslash")
    return stripped


AeTitle = Annotated[str, AfterValidator(_ae_title)]


def _network(value: str) -> str:
    """Check an IP network in CIDR notation."""
    return str(ipaddress.ip_network(value, strict=False))


Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=0, le=65535)]


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
