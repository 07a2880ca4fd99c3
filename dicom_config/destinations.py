"""Destinations of results: peers by C-STORE, with or without storage commitment, and by STOW-RS."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from dicom_config.profiles import Profile
from dicom_config.section import AeTitle, Section, is_loopback
from dicom_config.tls import TlsClientSection


class Withdrawal(StrEnum):
    """The time at which a destination gets a rejection note that hides results."""

    NEVER = "never"
    END = "end"
    EACH_ROUND = "each-round"


def _as_withdrawal(value: object) -> object:
    """Return the word for yes and no, also from an environment variable."""
    words = {"true": Withdrawal.END, "false": Withdrawal.NEVER}
    return words.get(str(value).lower(), value)


class Recipient(Section):
    """Keys that all destinations of results have."""

    name: str
    profile: Profile = Field(Profile.STRICT, description="what its viewer needs, see docs/readers.md")
    withdraw: Annotated[Withdrawal, BeforeValidator(_as_withdrawal)] = Field(
        Withdrawal.NEVER,
        description="IHE IOCM rejection notes. `end`, or `true`: for the candidates once one is accepted; "
        "`each-round`: for those of a closed round, too, once the next ones are delivered",
    )
    timeout_s: PositiveFloat = 30.0
    tls: TlsClientSection | None = Field(None, description="empty: no TLS, for https the system's CAs")


class Destination(Recipient):
    """A peer that gets results by C-STORE."""

    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    calling_ae: AeTitle = "UAIR"
    commitment_timeout_s: PositiveFloat | None = Field(
        None,
        description="ask for storage commitment, and send again what is not committed after this long; "
        "empty: C-STORE's success is enough",
    )


class StowDestination(Recipient):
    """A peer that gets results by STOW-RS (PS3.18 10.5)."""

    url: Annotated[
        str,
        Field(
            pattern="^https?://[^/@]+(/|$)",
            description="DICOMweb root, before /studies; without password, which belongs in `password_file`",
        ),
    ]
    user: str = Field("", description="for basic authentication, over https; over http on this machine only")
    password_file: Path | None = None

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> StowDestination:
        parts = urlsplit(self.url)
        if self.user and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(f"{self.name}: basic authentication over http shows the password; use https")
        return self


_DICOM_TAG, _STOW_TAG = DESTINATION_TAGS = ("(C-STORE)", "(STOW-RS)")
"""The tags of destinations, which pydantic puts into the path of a wrong key."""


def _destination_kind(value: object) -> str:
    stow = "url" in value if isinstance(value, dict) else isinstance(value, StowDestination)
    return _STOW_TAG if stow else _DICOM_TAG


AnyDestination = Annotated[
    Annotated[Destination, Tag(_DICOM_TAG)] | Annotated[StowDestination, Tag(_STOW_TAG)],
    Discriminator(_destination_kind),
]
