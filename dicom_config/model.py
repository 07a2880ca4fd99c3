"""The model of the whole configuration, and the functions that read it.

A configuration is a YAML file. An environment variable can override any key. The variable's name is ``UAIR_``
and the path of the key, joined by two underscores (``UAIR_NODE__PORT=11113``). The error for a wrong file
contains the key, the reason and a remedy. The program builds the settings once and passes them to all other
modules.
"""

from __future__ import annotations

import os
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_config.console import ConsoleSection
from dicom_config.destinations import DESTINATION_TAGS
from dicom_config.destinations import AnyDestination as AnyDestination
from dicom_config.destinations import Destination as Destination
from dicom_config.destinations import StowDestination as StowDestination
from dicom_config.engine import EngineSection as EngineSection
from dicom_config.engine import LocalizerName as LocalizerName
from dicom_config.engine import Preference as Preference
from dicom_config.engine import WorkSection as WorkSection
from dicom_config.errors import ConfigError
from dicom_config.modalities import CT, PROFILES, ModalityProfile
from dicom_config.modalities.profile import LIVER
from dicom_config.node import AllowRule as AllowRule
from dicom_config.node import NodeSection as NodeSection
from dicom_config.node import Tags as Tags
from dicom_config.node import Verb as Verb
from dicom_config.operation import LogsSection, MonitoringSection, RetentionSection, StoreSection
from dicom_config.passwords import with_password
from dicom_config.profiles import NEEDS
from dicom_config.renamed_keys import RENAMED, refuse_renamed_variables
from dicom_config.rules import RulesSection
from dicom_config.section import Section


def _profile_name(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name}; the profiles are {', '.join(PROFILES)}")
    return name


EVERY_ACQUISITION, NO_ACQUISITION = "each", "refuse"


class IntakeSection(Section):
    """The intake: how received instances become a case."""

    profiles: Annotated[tuple[Annotated[str, AfterValidator(_profile_name)], ...], Field(min_length=1)] = (
        CT.name,
    )
    quiet_s: PositiveFloat = Field(
        10.0, description="time without a new instance after which a series counts as complete"
    )
    max_wait_s: PositiveFloat = Field(
        120.0, description="how long the node waits for missing slices before it rejects a series"
    )
    partial_edit_wait_s: PositiveFloat = Field(
        5.0,
        description="how long a returned SEG that lacks targets waits for further SEGs of the same answer",
    )
    min_free_bytes: NonNegativeInt = Field(
        1 << 30, description="free disk space below which C-STORE is answered A700"
    )
    acquisitions: Literal["each", "refuse"] | PositiveInt = Field(
        "each",
        description="a series with several acquisitions: each: a case for each acquisition; refuse: no case; "
        "a number: a case for the acquisition with this number in time",
    )
    other_objects: Literal["keep", "drop"] = Field(
        "keep",
        description="objects of classes that no case can use; drop: they are answered B006 and not kept",
    )
    other_objects_bytes: NonNegativeInt = Field(
        4 << 30, description="disk space for all objects that other_objects keeps; more are dropped"
    )

    patient_secret_file: Path | None = Field(
        None,
        description="file of the secret for digests of Patient IDs; empty: the node makes one in the "
        "data folder",
    )

    @property
    def modalities(self) -> tuple[ModalityProfile, ...]:
        """The profiles that `profiles` names."""
        return tuple(PROFILES[name] for name in self.profiles)

    @property
    def known(self) -> tuple[ModalityProfile, ...]:
        """All profiles, the configured profiles first. So old cases stay readable if `profiles` changes."""
        others = (profile for profile in PROFILES.values() if profile not in self.modalities)
        return (*self.modalities, *others)


class GateSection(Section):
    """Limits that a series must meet to be segmented."""

    min_slices: PositiveInt = 10
    min_coverage_mm: PositiveFloat = Field(60.0, description="shortest extent along the slice axis")
    max_spacing_mm: PositiveFloat = Field(10.0, description="largest distance between slices")
    spacing_tolerance: PositiveFloat = Field(
        0.05,
        description="largest distance of a slice from an even grid, as part of the slice spacing; 0.1 mm "
        "is always allowed",
    )
    max_tilt_deg: PositiveFloat = Field(
        1.0, description="largest angle between slice normal and stacking direction (gantry tilt)"
    )
    max_oblique_deg: PositiveFloat = Field(
        45.0, description="largest angle between slice normal and the patient's long axis"
    )


class DatabaseSection(Section):
    """The database. If `url` is empty, then it is a SQLite file in the data folder."""

    url: str = ""
    password_file: Path | None = Field(None, description="the password, instead of one in the URL")


class BrokerSection(Section):
    """The broker that transports tasks.

    If `url` is empty, then the broker is files in the data folder, without a server (embedded mode).
    """

    url: str = ""
    password_file: Path | None = Field(None, description="the password, instead of one in the URL")
    delivery_limit: PositiveInt = Field(
        5, description="how often RabbitMQ delivers a message before it is dead-lettered"
    )


class DeliverySection(Section):
    """The delivery of results, and the retries."""

    retry_first_s: PositiveFloat = 2.0
    retry_max_s: PositiveFloat = 600.0
    max_attempts: PositiveInt = Field(
        100,
        description="temporary refusals before a delivery is parked; connection failures do not count",
    )


class PageSeries(StrEnum):
    """The way in which the pages of a round are grouped into series."""

    ROUND = "round"
    CASE = "case"


class ResultsSection(Section):
    """The objects that the node sends in addition to the segmentations."""

    pages: bool = Field(True, description="pictures of the candidates, for viewers that cannot draw SEG")
    page_series: PageSeries = Field(
        PageSeries.ROUND,
        description="`round`: a series of pages for each round; `case`: one series for all rounds",
    )
    notices: bool = Field(
        True, description="send a picture with the outcome of each selection into the study"
    )
    follow_up: bool = Field(
        True,
        description="compare with the patient's earlier accepted study, and start with the lesion sizes "
        "accepted there",
    )
    prior_from: str = Field(
        "", description="name of the destination that the node searches for earlier results"
    )


class StartSection(Section):
    """The search for another system's segmentation, from which a new case starts.

    If the keys are empty, then the node does not search for such a segmentation.
    """

    found_in: str = Field("", description="name of the destination that the node searches")
    system: str = Field(
        "", description="words of the other system's Series Description or Manufacturer, upper or lower case"
    )

    @model_validator(mode="after")
    def _whole(self) -> StartSection:
        if bool(self.found_in) != bool(self.system.strip()):
            raise ValueError("set both start.found_in and start.system, or none")
        return self


class Settings(BaseSettings):
    """The whole configuration of a site."""

    model_config = SettingsConfigDict(
        env_prefix="UAIR_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Path("uair-data")
    node: NodeSection = NodeSection()
    intake: IntakeSection = IntakeSection()
    gate: GateSection = GateSection()
    start: StartSection = StartSection()
    rules: RulesSection = RulesSection()
    database: DatabaseSection = DatabaseSection()
    broker: BrokerSection = BrokerSection()
    destinations: tuple[AnyDestination, ...] = ()
    delivery: DeliverySection = DeliverySection()
    results: ResultsSection = ResultsSection()
    engine: EngineSection = EngineSection()
    work: WorkSection = WorkSection()
    console: ConsoleSection = ConsoleSection()
    store: StoreSection = StoreSection()
    retention: RetentionSection = RetentionSection()
    monitoring: MonitoringSection = MonitoringSection()
    logs: LogsSection = LogsSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the environment priority over the file. The init arguments are the values of the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _usable_destinations(self) -> Settings:
        names = [d.name for d in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("each destination needs a name of its own")
        if self.results.prior_from and self.results.prior_from not in names:
            raise ValueError(f"results.prior_from names no destination: {self.results.prior_from}")
        if self.start.found_in and self.start.found_in not in names:
            raise ValueError(f"start.found_in names no destination: {self.start.found_in}")
        needs = [NEEDS[destination.profile] for destination in self.destinations]
        if not self.results.pages and any(each.pictures and not each.segmentations for each in needs):
            raise ValueError("destinations without segmentations (profile no-seg) need `results.pages`")
        return self

    @model_validator(mode="after")
    def _organ_is_known(self) -> Settings:
        organs = {modality.organ for modality in self.intake.modalities}
        if len(organs) > 1:
            raise ValueError("all profiles in intake.profiles must have the same organ")
        if organs != {LIVER} and self.engine.localizer != "templates":
            raise ValueError("profiles of another organ than the liver need `engine.localizer: templates`")
        return self

    @model_validator(mode="after")
    def _commitment_comes_back(self) -> Settings:
        ours = self.node.ae_titles.by_title()
        for destination in self.destinations:
            if (
                isinstance(destination, Destination)
                and destination.commitment_timeout_s
                and destination.calling_ae not in ours
            ):
                raise ValueError(
                    f"{destination.name} reports storage commitment to {destination.calling_ae}: "
                    "the calling_ae of this destination must be one of node.ae_titles"
                )
        return self

    _source: Path | None = PrivateAttr(None)

    @property
    def source(self) -> Path | None:
        """The configuration file; None for the packaged ``embedded.yaml``."""
        return self._source

    def destination(self, name: str) -> AnyDestination | None:
        """Return the destination with this name; None if there is none."""
        return next((destination for destination in self.destinations if destination.name == name), None)

    @property
    def embedded(self) -> bool:
        """Whether no broker server is configured."""
        return not self.broker.url

    @property
    def broker_url(self) -> str:
        """The broker's URL, empty in embedded mode. It raises the same errors as `database_url`."""
        return with_password(self.broker.url, self.broker.password_file)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL. The default is a SQLite file in the data folder.

        Raises
        ------
        ConfigError
            ``password-file``: see `with_password`.
        """
        if self.database.url:
            return with_password(self.database.url, self.database.password_file)
        return f"sqlite:///{self.data_dir.resolve() / 'uair.sqlite'}"


def load_settings(path: Path | None = None) -> Settings:
    """Read a configuration file and the environment. The default file is the packaged ``embedded.yaml``.

    Raises
    ------
    ConfigError
        ``config-missing``, ``config-syntax`` or ``config-value``. The sentence contains the file, and the
        line or the key. The remedy contains the correct form.
    """
    refuse_renamed_variables()
    values = read_values(path)
    source = str(path) if path else "embedded.yaml"
    try:
        settings = Settings(**values)
        settings._source = path
    except ValidationError as error:
        raise _as_config_error(source, error) from None
    if not settings.data_dir.is_absolute():
        base = path.parent if path and "UAIR_DATA_DIR" not in os.environ else Path.cwd()
        settings = settings.model_copy(update={"data_dir": (base / settings.data_dir).resolve()})
    return settings


def read_values(path: Path | None) -> dict[str, Any]:
    """Return the unchecked values of a configuration file. The errors are those of `load_settings`."""
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
    """Combine all validation errors into a single error with keys, reasons and remedies."""
    problems = list(dict.fromkeys(_key_and_remedy(found) for found in error.errors()))
    reasons = " ".join(f"`{key}`: {reason}." for key, reason, _ in problems)
    remedies = " ".join(dict.fromkeys(remedy for _, _, remedy in problems))
    return ConfigError("config-value", f"{source}: {reasons}", remedies)


def _key_and_remedy(found: ErrorDetails) -> tuple[str, str, str]:
    """Return key, reason and remedy of one validation error."""
    path = [str(part) for part in found["loc"] if part not in DESTINATION_TAGS]
    key = ".".join(path) or "(whole file)"
    if found["type"] == "extra_forbidden":
        if key in RENAMED:
            return key, f"the key is called `{RENAMED[key]}` now", "Write the key with its new name."
        return key, "there is no such key", "Check a key's spelling and its section."
    reason = found["msg"].removeprefix("Value error, ").removesuffix(".")
    return key, reason, f"Correct `{key}` in the file, or unset its UAIR_… variable."
