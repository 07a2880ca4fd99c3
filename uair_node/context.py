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
    """The variant of segmentations for one kind of viewer, and the destinations that get it."""

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
    """The settings, database and files of a process. It is built once at the start and passed down."""

    settings: Settings
    database: Database
    store: Store

    @cached_property
    def patient_keys(self) -> PatientKeys:
        """The keys of Patient IDs. The errors are those of `open_patient_keys`."""
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
        """The variants in which segmentations are written, at least one. Pages refer to the first variant."""
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
        """Names of the destinations that get rejection notes for the candidates of closed rounds."""
        wanted = (each for each in self.settings.destinations if each.withdraw == Withdrawal.EACH_ROUND)
        return tuple(destination.name for destination in wanted)


def open_context(settings: Settings, *, migrate: bool = False) -> Context:
    """Open the data folder and the database.

    Parameters
    ----------
    migrate
        Whether to make and mark the data folder, and to update the schema and the patient keys, as a node
        does at its start. If false, then nothing is changed.

    Raises
    ------
    ConfigError
        ``migration-due``: the schema is old, and `migrate` is false.
    """
    database = Database(settings.database_url)
    try:
        if migrate:
            make_folder_durably(settings.data_dir, mode=0o700)
            database.migrate()
        else:
            database.require_current()
        context = Context(settings, database, open_store(settings))
        if migrate:
            claim_folder(database, context.store)
            _ = context.patient_keys
    except BaseException:
        database.close()
        raise
    return context
