"""Destinations of results: by C-STORE, with or without storage commitment, or by STOW-RS."""

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
    """The time at which a destination gets rejection notes. The notes hide invalid results."""

    NEVER = "never"
    END = "end"
    EACH_ROUND = "each-round"


def _as_withdrawal(value: object) -> object:
    """Return the Withdrawal for `true` or `false`; any other value is unchanged.

    An environment variable gives `true` and `false` as text.
    """
    words = {"true": Withdrawal.END, "false": Withdrawal.NEVER}
    return words.get(str(value).lower(), value)


class Recipient(Section):
    """The keys that all destinations of results have."""

    name: str
    profile: Profile = Field(
        Profile.STRICT, description="the kind of viewer at this destination, see docs/readers.md"
    )
    withdraw: Annotated[Withdrawal, BeforeValidator(_as_withdrawal)] = Field(
        Withdrawal.NEVER,
        description="when rejection notes (IHE IOCM) are sent. `end`, or `true`: when a candidate is "
        "accepted, for all candidates; `each-round`: also after each round, when the next "
        "candidates are delivered",
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
        description="request storage commitment, and send an object again if it is not committed after "
        "this time; empty: the success of C-STORE is enough",
    )


class StowDestination(Recipient):
    """A peer that gets results by STOW-RS (PS3.18 10.5)."""

    url: Annotated[
        str,
        Field(
            pattern="^https?://[^/@]+(/|$)",
            description="URL of the DICOMweb root, without /studies and without password (see "
            "`password_file`)",
        ),
    ]
    user: str = Field("", description="user for basic authentication; it needs https, except on this machine")
    password_file: Path | None = None

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> StowDestination:
        parts = urlsplit(self.url)
        if self.user and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"{self.name}: basic authentication over http sends the password unencrypted; use https"
            )
        return self


_DICOM_TAG, _STOW_TAG = DESTINATION_TAGS = ("(C-STORE)", "(STOW-RS)")
"""Tags of the two kinds of destinations. pydantic puts a tag into the path of a wrong key."""


def _destination_kind(value: object) -> str:
    stow = "url" in value if isinstance(value, dict) else isinstance(value, StowDestination)
    return _STOW_TAG if stow else _DICOM_TAG


AnyDestination = Annotated[
    Annotated[Destination, Tag(_DICOM_TAG)] | Annotated[StowDestination, Tag(_STOW_TAG)],
    Discriminator(_destination_kind),
]
