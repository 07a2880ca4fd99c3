"""Check the configured modality profiles, and whether weights were trained for them."""

from __future__ import annotations

from collections.abc import Iterable

from dicom_config.model import Settings
from uair_node.operations.checks.finding import Finding, good, warning


def check_profiles(settings: Settings) -> Iterable[Finding]:
    """Yield a finding for each configured modality profile: a warning if no weights were trained for it."""
    for profile in settings.intake.modalities:
        what = f"profile {profile.name}"
        if profile.scaling is None:
            yield good(what, f"{profile.title} is segmented")
        else:
            yield warning(
                what,
                "profile-untrained",
                f"{profile.title} is segmented by weights that were trained on CT. Image values are scaled "
                "to values like those of CT.",
                "Measure the quality on your own cases (`uair evaluate`), see docs/modalities.md.",
            )
