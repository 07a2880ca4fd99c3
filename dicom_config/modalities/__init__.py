"""Modality profiles by name. Each module of this folder that has a `PROFILE` is loaded automatically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from dicom_config.modalities.profile import ModalityProfile


def _profiles() -> Iterator[ModalityProfile]:
    for module in iter_modules(__path__):
        found = getattr(import_module(f"{__name__}.{module.name}"), "PROFILE", None)
        if found is not None:
            yield found


PROFILES: Mapping[str, ModalityProfile] = MappingProxyType({profile.name: profile for profile in _profiles()})
CT = PROFILES["ct"]
"""The default profile of a site. The networks were trained on its scale of values."""

__all__ = ["CT", "PROFILES", "ModalityProfile"]
