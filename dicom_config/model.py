"""The whole configuration as one model, and how it is read.

A configuration is a YAML file; any key can be overridden by an environment variable whose name is
``UAIR_`` and the path of the key joined by two underscores (``UAIR_NODE__PORT=11113``). A wrong file is
answered with the key, the reason and a mend. Settings are built once and passed down.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_config.destinations import DESTINATION_TAGS
from dicom_config.destinations import AnyDestination as AnyDestination
from dicom_config.destinations import Destination as Destination
from dicom_config.destinations import StowDestination as StowDestination
from dicom_config.errors import ConfigError
from dicom_config.profiles import NEEDS
from dicom_config.rules import RulesSection
from dicom_config.section import AeTitle
from dicom_config.section import Section as _Section
from dicom_config.tls import CertificateName, TlsServerSection


def _network(value: str) -> str:
    """Check an IP network in CIDR notation."""
    return str(ipaddress.ip_network(value, strict=False))


Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Verb(StrEnum):
    """What a sender asks for; told by the AE title that it calls."""

    STORE = "store"
    PICK = "pick"
    ACCEPT = "accept"
    REJECT = "reject"


class AeTitles(_Section):
    """Called AE titles: each one is a verb (DESIGN §5)."""

    store: AeTitle = "UAIR"
    pick: AeTitle = "UAIR_PICK"
    accept: AeTitle = "UAIR_ACCEPT"
    reject: AeTitle = "UAIR_REJECT"

    @model_validator(mode="after")
    def _distinct(self) -> AeTitles:
        if len(set(self.by_title())) != len(Verb):
            raise ValueError("the four AE titles must differ, they are how verbs are told apart")
        return self

    def by_title(self) -> dict[str, Verb]:
        """Return the verb of each AE title."""
        return {getattr(self, verb.value): verb for verb in Verb}


class Tags(_Section):
    """Words that make an object sent to the store AE title a selection, where a site cannot add AE titles.

    They stand in Series Description or Content Label, as words of their own, in upper or lower case. An empty
    word switches its verb off.
    """

    pick: str = "PICK"
    accept: str = "ACCEPT"
    reject: str = "REJECT"

    @model_validator(mode="after")
    def _distinct(self) -> Tags:
        words = [word.casefold() for word, _ in self._by_word()]
        if len(set(words)) != len(words):
            raise ValueError("the words must differ, they are how verbs are told apart")
        return self

    def _by_word(self) -> list[tuple[str, Verb]]:
        """Return words and their verbs, the most reversible first."""
        words = [(self.pick, Verb.PICK), (self.reject, Verb.REJECT), (self.accept, Verb.ACCEPT)]
        return [(word, verb) for word, verb in words if word]

    def verb_in(self, text: str) -> Verb | None:
        """Return the verb of the first word that `text` holds; None without one."""
        for word, verb in self._by_word():
            if re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text, re.IGNORECASE):
                return verb
        return None


class AllowRule(_Section):
    """Who may use which verbs. A rule matches when all of its fields match; no rule, no entry."""

    verbs: frozenset[Verb] = frozenset(Verb)
    calling_ae: Annotated[tuple[AeTitle, ...], Field(description="empty: any")] = ()
    networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    certificates: Annotated[
        tuple[CertificateName, ...],
        Field(description="the peer's certificate must have one of these names; empty: any, or none"),
    ] = ()

    def mismatch(
        self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str] = ()
    ) -> str | None:
        """Return the first field that keeps a peer from using `verb` by this rule, None if it may.

        Parameters
        ----------
        certificate
            The names of the peer's verified certificate, see `CertificateName`; none without TLS.
        """
        peer = ipaddress.ip_address(address)
        matches = {
            "verbs": verb in self.verbs,
            "calling_ae": not self.calling_ae or calling_ae.strip() in self.calling_ae,
            "networks": any(peer in ipaddress.ip_network(net) for net in self.networks),
            "certificates": not self.certificates or any(name in self.certificates for name in certificate),
        }
        return next((field for field, matching in matches.items() if not matching), None)

    def admits(self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str] = ()) -> bool:
        """Tell whether this rule lets a peer use `verb`; parameters as of `mismatch`."""
        return self.mismatch(verb, calling_ae, address, certificate) is None


class NodeSection(_Section):
    """The DICOM listener."""

    host: str = "127.0.0.1"
    port: Port = 11112
    ae_titles: AeTitles = AeTitles()
    tags: Tags = Tags()
    allow: tuple[AllowRule, ...] = (AllowRule(),)
    tls: TlsServerSection | None = Field(None, description="empty: no TLS")
    max_associations: PositiveInt = Field(20, description="served at a time; more wait, see wait_s")
    wait_s: NonNegativeFloat = Field(10.0, description="then a waiting association is rejected for now")
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 262_144
    max_instance_bytes: PositiveInt = 1 << 30
    idle_timeout_s: PositiveFloat = Field(60.0, description="longest silence, within a PDU too")
    association_timeout_s: PositiveFloat = Field(3600.0, description="longest life of an association")

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> NodeSection:
        named = any(rule.certificates for rule in self.allow)
        if named and (self.tls is None or self.tls.ca is None):
            raise ValueError("allow rules that name certificates need `tls` with `ca`")
        return self

    def admits(self, verb: Verb, calling_ae: str, address: str, certificate: Collection[str]) -> bool:
        """Tell whether a rule lets a peer use `verb`; parameters as of `AllowRule.mismatch`."""
        return any(rule.admits(verb, calling_ae, address, certificate) for rule in self.allow)


class IntakeSection(_Section):
    """From instances to a case."""

    quiet_s: PositiveFloat = Field(10.0, description="quiet time after the last instance")
    max_wait_s: PositiveFloat = Field(
        120.0, description="how long an irregular series is waited for before it is rejected"
    )
    together_s: PositiveFloat = Field(
        5.0, description="how long a returned SEG that lacks some targets waits for others sent with it"
    )
    min_free_bytes: NonNegativeInt = Field(
        1 << 30, description="below this much free disk C-STORE is answered A700"
    )


class GateSection(_Section):
    """What a series must be to be segmented."""

    min_slices: PositiveInt = 10
    min_coverage_mm: PositiveFloat = Field(60.0, description="shortest extent along the slice axis")
    max_spacing_mm: PositiveFloat = Field(10.0, description="largest distance between slices")
    spacing_tolerance: PositiveFloat = Field(
        0.05, description="largest deviation of one slice distance, as a part of the median"
    )
    max_tilt_deg: PositiveFloat = Field(
        1.0, description="largest angle between slice normal and stacking direction (gantry tilt)"
    )
    max_oblique_deg: PositiveFloat = Field(
        45.0, description="largest angle between slice normal and the patient's long axis"
    )


class DatabaseSection(_Section):
    """Where the truth lives. Empty: a SQLite file in the data folder."""

    url: str = ""


class BrokerSection(_Section):
    """What transports tasks. Empty: files in the data folder, no server (embedded mode)."""

    url: str = ""
    delivery_limit: PositiveInt = Field(
        5, description="RabbitMQ hands a message out this often before it is dead-lettered"
    )


class DeliverySection(_Section):
    """How results travel, and how often a destination is tried again."""

    retry_first_s: PositiveFloat = 2.0
    retry_max_s: PositiveFloat = 600.0
    max_attempts: PositiveInt = Field(
        100,
        description="then a row that is refused for now is parked; a peer that is away refuses nothing",
    )


class ResultsSection(_Section):
    """What goes back besides the segmentations."""

    pages: bool = Field(True, description="pictures of the candidates, for viewers that cannot draw SEG")
    notices: bool = Field(True, description="tell in the study what became of each selection")


LocalizerName = Literal["learned", "templates"]
Preference = Literal["off", "department", "reader"]


class EngineSection(_Section):
    """The method (ENGINE.md); defaults are its measured ones."""

    model: Literal["embedded", "vit_b", "vit_l", "vit_h"] = "embedded"
    checkpoint: Path | None = Field(None, description="needed for every model but the embedded")
    localizer: LocalizerName = "learned"
    templates: Path | None = Field(
        None, description="folder of your template scans; `templates` in the data folder unless set"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    members: Annotated[int, Field(ge=8, le=32)] = 16
    rule: Literal["max_variance", "medoids"] = "medoids"
    seed: NonNegativeInt = 0
    max_lesions: Annotated[int, Field(ge=0, le=200)] = 12
    preference: Preference = Field(
        "off",
        description="whether accepted cases shape later ones: of the AE title that sends the series "
        "(department), or of the one that picks (reader)",
    )
    threads: NonNegativeInt = Field(0, description="CPU threads of one worker; 0: torch's choice")
    embeddings_dir: Path | None = Field(
        None, description="what the model saw, kept for later rounds, on a local disk; none: in data_dir"
    )
    embeddings_bytes: NonNegativeInt = Field(
        4 << 30, description="the least recently used are deleted beyond this; 0: keep none"
    )

    @model_validator(mode="after")
    def _needs_checkpoint(self) -> EngineSection:
        if self.model != "embedded" and self.checkpoint is None:
            raise ValueError(f"model {self.model} needs `checkpoint`, the path of its .pth file")
        return self


class WorkSection(_Section):
    """How tasks are held, retried and given up."""

    lease_s: PositiveFloat = Field(30.0, description="a task's claim on a case; renewed while alive")
    sweep_s: PositiveFloat = Field(2.0, description="how often what is due is looked for")
    max_attempts: PositiveInt = Field(4, description="then the case is FAILED, with its cause")
    time_limit_s: Annotated[float, Field(gt=0, lt=1800, description="hard limit of one task")] = 1500.0
    expire_after_days: PositiveFloat = Field(90.0, description="then an unanswered case is EXPIRED")


class Settings(BaseSettings):
    """Everything a site configures."""

    model_config = SettingsConfigDict(
        env_prefix="UAIR_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Path("uair-data")
    node: NodeSection = NodeSection()
    intake: IntakeSection = IntakeSection()
    gate: GateSection = GateSection()
    rules: RulesSection = RulesSection()
    database: DatabaseSection = DatabaseSection()
    broker: BrokerSection = BrokerSection()
    destinations: tuple[AnyDestination, ...] = ()
    delivery: DeliverySection = DeliverySection()
    results: ResultsSection = ResultsSection()
    engine: EngineSection = EngineSection()
    work: WorkSection = WorkSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file (whose values arrive as init arguments)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _usable_destinations(self) -> Settings:
        names = [d.name for d in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("destinations need distinct names")
        if not self.results.pages and any(not NEEDS[d.profile].segmentations for d in self.destinations):
            raise ValueError("destinations without segmentations (profile no-seg) need `results.pages`")
        return self

    @model_validator(mode="after")
    def _commitment_comes_back(self) -> Settings:
        ours = self.node.ae_titles.by_title()
        for one in self.destinations:
            if isinstance(one, Destination) and one.commitment_timeout_s and one.calling_ae not in ours:
                raise ValueError(
                    f"{one.name} reports storage commitment to {one.calling_ae}: "
                    "its calling_ae must be one of node.ae_titles"
                )
        return self

    @property
    def embedded(self) -> bool:
        """Whether no broker server is configured."""
        return not self.broker.url

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL, a SQLite file in the data folder unless configured."""
        return self.database.url or f"sqlite:///{self.data_dir.resolve() / 'uair.sqlite'}"


def load_settings(path: Path | None = None) -> Settings:
    """Read a configuration file (the packaged ``embedded.yaml`` if none) and the environment.

    Raises
    ------
    ConfigError
        ``config-missing``, ``config-syntax`` or ``config-value``; the sentence names the file and the
        line or the key, the mend says what would be right.
    """
    values = _read_yaml(path)
    source = str(path) if path else "embedded.yaml"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _as_config_error(source, error) from None
    if not settings.data_dir.is_absolute():
        base = path.parent if path and "UAIR_DATA_DIR" not in os.environ else Path.cwd()
        settings = settings.model_copy(update={"data_dir": (base / settings.data_dir).resolve()})
    return settings


def _read_yaml(path: Path | None) -> dict[str, Any]:
    if path is None:
        text = resources.files("dicom_config").joinpath("embedded.yaml").read_text("utf-8")
    else:
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(
                "config-missing",
                f"The configuration {path} cannot be read ({error.strerror}).",
                "Name an existing file with --config, or leave the option out for embedded mode.",
            ) from None
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            "config-syntax",
            f"{path}{where}: this is not YAML ({getattr(error, 'problem', 'syntax')}).",
            "Check indentation, colons and quotes on and above that line.",
        ) from None
    if not isinstance(values, dict):
        raise ConfigError("config-syntax", f"{path} holds no keys.", "See hospital.yaml for an example.")
    return values


def _as_config_error(source: str, error: ValidationError) -> ConfigError:
    """Turn the first validation error into key, reason, mend."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in DESTINATION_TAGS]
    key = ".".join(path) or "(whole file)"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "there is no such key"
        mend = "Check its spelling and its section; `uair check` lists what was loaded."
    else:
        mend = f"Correct `{key}` in the file, or unset its UAIR_… variable."
    more = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    return ConfigError("config-value", f"{source}: `{key}`: {reason}.{more}", mend)
