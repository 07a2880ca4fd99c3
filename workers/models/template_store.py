"""Keep templates as safetensors files: in the site's own folder or, if that is empty, in the package.

A file holds latent coordinates and features of six points, and the liver's mask at 3 mm. It also holds the
scan's voxel size and the network's digest. It holds no density, no date, no UID and no name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dicom_config.errors import ConfigError
from dicom_config.model import EngineSection
from workers.models.weights import packaged
from workers.uair.grids import Spacing
from workers.uair.templates import GRID_MM, Template

PACKAGED_FOLDER = "templates"
_PATTERN = "template-*.safetensors"
_NAME_DIGITS = 12


@dataclass(frozen=True)
class StoredTemplate:
    """A template with its description.

    Attributes
    ----------
    template
        The data for the search.
    network
        SHA-256 of the coordinate network that made the template.
    spacing_mm
        Voxel size (z, y, x) of the scan.
    """

    template: Template
    network: str
    spacing_mm: Spacing

    @property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits. The same scan and mask give the same digest."""
        template = self.template
        parts = (
            template.coordinates,
            template.features,
            np.array(template.mask.shape),
            np.packbits(template.mask),
        )
        content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        return hashlib.sha256(self.network.encode("ascii") + content).hexdigest()

    @property
    def name(self) -> str:
        """The name of the template: the first digits of the digest."""
        return self.digest[:_NAME_DIGITS]

    @property
    def liver_ml(self) -> float:
        """Volume of the liver in ml."""
        return float(self.template.mask.sum()) * GRID_MM**3 / 1000.0


class TemplateFolder:
    """The templates of one folder. The folder may be missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stored(self) -> tuple[StoredTemplate, ...]:
        """Return all templates, sorted by name.

        Raises
        ------
        ConfigError
            ``template-unreadable``.
        """
        return tuple(_read(path) for path in sorted(self.path.glob(_PATTERN)))

    def add(self, stored: StoredTemplate) -> None:
        """Keep a template. A template with the same content is replaced."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self._path(stored.name)
        partial = path.with_suffix(".partial")
        template = stored.template
        tensors: dict[str, NDArray[Any]] = {
            "coordinates": template.coordinates,
            "features": template.features,
            "mask": np.packbits(template.mask),
        }
        facts = {
            "network": stored.network,
            "spacing_mm": stored.spacing_mm,
            "mask_shape": template.mask.shape,
        }
        save_file(tensors, partial, {name: json.dumps(fact) for name, fact in facts.items()})
        partial.replace(path)

    def remove(self, name: str) -> None:
        """Delete a template.

        Raises
        ------
        ConfigError
            ``template-unknown``: the folder has no template of that name.
        """
        if self._path(name) not in self.path.glob(_PATTERN):
            raise ConfigError(
                "template-unknown",
                f"There is no template {name} in {self.path}.",
                "See `uair templates list`. Packaged templates cannot be removed.",
            )
        self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self.path / _PATTERN.replace("*", name)


def packaged_templates() -> TemplateFolder:
    """Return the folder of phantom templates that are part of the package."""
    return TemplateFolder(packaged(PACKAGED_FOLDER))


def site_folder(section: EngineSection, data_dir: Path | None) -> Path | None:
    """Return the folder of a site's own templates; None without a data folder."""
    return section.templates or (data_dir / PACKAGED_FOLDER if data_dir else None)


def templates_in_use(folder: Path | None, network: str) -> Sequence[StoredTemplate]:
    """Return the templates of a site's folder; the packaged templates if the folder is empty.

    Raises
    ------
    ConfigError
        ``template-unreadable``, or ``template-of-other-network``: a template was made with another network.
    """
    own = TemplateFolder(folder).stored() if folder else ()
    found = own or packaged_templates().stored()
    for stored in found:
        if stored.network != network:
            raise ConfigError(
                "template-of-other-network",
                f"The template {stored.name} was made with another coordinate network.",
                "Remove the template (`uair templates remove`), and add its scan again.",
            )
    return found


def _read(path: Path) -> StoredTemplate:
    try:
        with safe_open(path, "np") as file:
            facts = {name: json.loads(fact) for name, fact in file.metadata().items()}
            coordinates, features, packed = (
                file.get_tensor(name) for name in ("coordinates", "features", "mask")
            )
        shape = tuple(facts["mask_shape"])
        mask = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)
        z, y, x = facts["spacing_mm"]
        return StoredTemplate(Template(coordinates, features, mask), facts["network"], (z, y, x))
    except (OSError, SafetensorError, AttributeError, KeyError, ValueError) as error:
        raise ConfigError(
            "template-unreadable",
            f"The template {path.name} cannot be read ({type(error).__name__}).",
            "Delete the file, and add its scan again.",
        ) from None
