"""Configuration of the DICOM listener: address, an AE title for each verb, permitted peers, limits."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from dicom_config.section import AeTitle, Network, Port, Section
from dicom_config.tls import CertificateName, TlsServerSection, typed_names


class Verb(StrEnum):
    """The request of a sender. The called AE title determines it."""

    STORE = "store"
    PICK = "pick"
    ACCEPT = "accept"
    REJECT = "reject"
    START = "start"


class AeTitles(Section):
    """The called AE titles. Each title has its own verb."""

    store: AeTitle = "UAIR"
    pick: AeTitle = "UAIR_PICK"
    accept: AeTitle = "UAIR_ACCEPT"
    reject: AeTitle = "UAIR_REJECT"
    start: AeTitle = "UAIR_START"

    @model_validator(mode="after")
    def _distinct(self) -> AeTitles:
        if len(set(self.by_title())) != len(Verb):
            raise ValueError("the AE titles must differ, because the AE title says which verb is meant")
        return self

    def by_title(self) -> dict[str, Verb]:
        """Return the verb of each AE title."""
        return {getattr(self, verb.value): verb for verb in Verb}


class Tags(Section):
    """Words that make an object a selection although the sender called the store AE title.

    They are for a site that cannot add AE titles. A word must stand alone in Series Description or Content
    Label, in upper or lower case. If a field of this section is empty, then its verb has no word.
    """

    pick: str = "PICK"
    accept: str = "ACCEPT"
    reject: str = "REJECT"

    @model_validator(mode="after")
    def _distinct(self) -> Tags:
        words = [word.casefold() for word, _ in self._by_word()]
        if len(set(words)) != len(words):
            raise ValueError("the words must differ, because the word says which verb is meant")
        return self

    def _by_word(self) -> list[tuple[str, Verb]]:
        """Return the words and their verbs. The verb whose effect is easiest to undo comes first."""
        words = [(self.pick, Verb.PICK), (self.reject, Verb.REJECT), (self.accept, Verb.ACCEPT)]
        return [(word, verb) for word, verb in words if word]

    def verb_in(self, text: str) -> Verb | None:
        """Return the verb whose word `text` contains; None if `text` contains no such word.

        The words are tried in this order: pick, reject, accept.
        """
        for word, verb in self._by_word():
            if re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text, re.IGNORECASE):
                return verb
        return None


class MarkWords(Section):
    """Words that a reader writes into the label of a measurement.

    A word must stand alone in the label, in upper or lower case.
    """

    drop: Annotated[
        tuple[str, ...], Field(description="words that say that the marked finding is no lesion")
    ] = (
        "no lesion",
        "drop",
    )


class AllowRule(Section):
    """A rule admits a peer to a verb if all its fields match. A peer that no rule admits is refused."""

    verbs: frozenset[Verb] = frozenset(Verb)
    calling_ae: Annotated[tuple[AeTitle, ...], Field(description="empty: any")] = ()
    networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    certificates: Annotated[
        tuple[CertificateName, ...],
        Field(
            description="names of certificates: the peer's certificate must have at least one of them; "
            "empty: any certificate, or none"
        ),
    ] = ()

    def mismatch(
        self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str] = ()
    ) -> str | None:
        """Return the first field of this rule that refuses `verb` to a peer; None if the peer is admitted.

        Parameters
        ----------
        certificate
            The names in the peer's verified certificate, each with its type (see `typed_name`); empty without
            TLS.
        """
        peer = ipaddress.ip_address(address)
        names = {name for each in self.certificates for name in typed_names(each)}
        matches = {
            "verbs": verb in self.verbs,
            "calling_ae": not self.calling_ae or calling_ae.strip() in self.calling_ae,
            "networks": any(peer in ipaddress.ip_network(net) for net in self.networks),
            "certificates": not self.certificates or not names.isdisjoint(certificate),
        }
        return next((field for field, matching in matches.items() if not matching), None)

    def admits(self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str] = ()) -> bool:
        """Return whether this rule admits a peer to `verb`. The parameters are those of `mismatch`."""
        return self.mismatch(verb, calling_ae, address, certificate) is None


class NodeSection(Section):
    """The DICOM listener."""

    host: str = "127.0.0.1"
    port: Port = 11112
    ae_titles: AeTitles = AeTitles()
    tags: Tags = Tags()
    marks: MarkWords = MarkWords()
    allow: tuple[AllowRule, ...] = (AllowRule(),)
    tls: TlsServerSection | None = Field(None, description="empty: no TLS")
    max_associations: PositiveInt = Field(
        20, description="associations that are served at a time; further ones wait, see wait_s"
    )
    wait_s: NonNegativeFloat = Field(
        10.0, description="longest time that a further association waits; then it is rejected as temporary"
    )
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 262_144
    max_instance_bytes: PositiveInt = 1 << 30
    in_flight_bytes: PositiveInt = Field(
        512 << 20,
        description="most bytes of all instances that are being received; if more arrive, "
        "C-STORE is answered A700",
    )
    idle_timeout_s: PositiveFloat = Field(
        60.0, description="longest time without data from the peer, also within a PDU"
    )
    association_timeout_s: PositiveFloat = Field(3600.0, description="longest life of an association")

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> NodeSection:
        named = any(rule.certificates for rule in self.allow)
        if named and (self.tls is None or self.tls.ca is None):
            raise ValueError("allow rules that name certificates need `tls` with `ca`")
        return self

    def admits(self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str]) -> bool:
        """Return whether any rule admits a peer to `verb`. Parameters are those of `AllowRule.mismatch`."""
        return any(rule.admits(verb, calling_ae, address, certificate) for rule in self.allow)
