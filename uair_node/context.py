"""The context of a running process: settings, database, data folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from dicom_config.destinations import Withdrawal
from dicom_config.model import Settings
from dicom_config.profiles import NEEDS, Needs, Profile
from uair_node.cases.database import Database
from uair_node.patient_keys import PatientKeys, open_patient_keys
from uair_node.storage.folder_identity import claim_folder
from uair_node.storage.object_store import open_store
from uair_node.storage.store import Store, make_folder_durably


@dataclass(frozen=True)
class SegVariant:
    """Segmentations as one kind of viewer needs them, and where these go."""

    profile: Profile
    destinations: tuple[str, ...]

    @property
    def needs(self) -> Needs:
        """The needs of the viewer."""
        return NEEDS[self.profile]

    @property
    def suffix(self) -> str:
        """The suffix of this variant's UIDs and files; empty for the strict variant."""
        return "" if self.profile == Profile.STRICT else self.profile.value


@dataclass(frozen=True)
class Context:
    """Built once at start and passed down."""

    settings: Settings
    database: Database
    store: Store

    @cached_property
    def patient_keys(self) -> PatientKeys:
        """The keys of Patient IDs; raises as `open_patient_keys`."""
        configured = self.settings.intake.patient_secret_file
        return open_patient_keys(self.database, self.store.root, configured)

    @property
    def destinations(self) -> tuple[str, ...]:
        """Names of the configured destinations."""
        return tuple(destination.name for destination in self.settings.destinations)

    @property
    def picture_destinations(self) -> tuple[str, ...]:
        """Names of the destinations that get pages and notices."""
        return self._names(lambda needs: needs.pictures)

    @property
    def planning_destinations(self) -> tuple[str, ...]:
        """Names of the destinations that get the accepted segmentation as RT Structure Set."""
        return self._names(lambda needs: needs.structures)

    def _names(self, wanted: Callable[[Needs], bool]) -> tuple[str, ...]:
        every = self.settings.destinations
        return tuple(destination.name for destination in every if wanted(NEEDS[destination.profile]))

    @property
    def segmentation_variants(self) -> tuple[SegVariant, ...]:
        """The variants in which segmentations are written, at least one; pages refer to the first."""
        variants = [
            SegVariant(
                profile,
                tuple(
                    destination.name
                    for destination in self.settings.destinations
                    if destination.profile == profile
                ),
            )
            for profile, needs in NEEDS.items()
            if needs.segmentations
        ]
        wanted = tuple(variant for variant in variants if variant.destinations)
        return wanted or (SegVariant(Profile.STRICT, ()),)

    @property
    def withdrawing(self) -> tuple[str, ...]:
        """Names of the destinations that get rejection notes for results that were not accepted."""
        never = Withdrawal.NEVER
        return tuple(each.name for each in self.settings.destinations if each.withdraw != never)

    @property
    def withdrawing_each_round(self) -> tuple[str, ...]:
        """Names of the destinations that are told to hide the candidates of closed rounds."""
        wanted = (each for each in self.settings.destinations if each.withdraw == Withdrawal.EACH_ROUND)
        return tuple(destination.name for destination in wanted)


def open_context(settings: Settings, *, migrate: bool = False) -> Context:
    """Open the data folder and the database.

    Parameters
    ----------
    migrate
        Make and mark the data folder, bring the schema and the patient keys up to date, as a node does at its
        start.
        Otherwise nothing is made, and an old schema raises ConfigError ``migration-due``.
    """
    database = Database(settings.database_url)
    if migrate:
        make_folder_durably(settings.data_dir, mode=0o700)
        database.migrate()
    else:
        database.require_current()
    context = Context(settings, database, open_store(settings))
    if migrate:
        claim_folder(database, context.store)
        _ = context.patient_keys
    return context
