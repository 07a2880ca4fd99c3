"""Build predictors and localizers by their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from dicom_config.engine import Window
from dicom_config.errors import ConfigError
from dicom_config.model import LocalizerName
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.predictor import Predictor
from workers.models.sam_checkpoint import SamCheckpointPredictor
from workers.models.template_localizer import CoordinateEncoder, TemplateLocalizer
from workers.models.template_store import templates_in_use
from workers.models.weights import joint_digest
from workers.uair.localize import Localizer

_Builder = Callable[[Path | None, torch.device, Window], Predictor[Any]]

_BUILDERS: dict[str, _Builder] = {
    "embedded": lambda checkpoint, device, _window: EmbeddedPredictor(device, checkpoint),
    "vit_b": partial(SamCheckpointPredictor.from_checkpoint, "vit_b"),
    "vit_l": partial(SamCheckpointPredictor.from_checkpoint, "vit_l"),
    "vit_h": partial(SamCheckpointPredictor.from_checkpoint, "vit_h"),
}


def model_names() -> tuple[str, ...]:
    """Return the names that `build_predictor` accepts."""
    return tuple(_BUILDERS)


def build_predictor(
    name: str, checkpoint: Path | None, device: torch.device, window: Window = "auto"
) -> Predictor[Any]:
    """Build a model.

    Parameters
    ----------
    name
        ``embedded``, ``vit_b``, ``vit_l`` or ``vit_h`` (MedSAM's checkpoint is a ``vit_b``).
    checkpoint
        Path of the weights; None only for the embedded model.
    device
        The device on which the model runs.
    window
        The normalisation of a SAM checkpoint's input, see `window_in_use`.

    Raises
    ------
    ConfigError
        ``model-unknown``, ``checkpoint-missing``, ``checkpoint-window``, ``checkpoint-unsafe``,
        ``weights-missing`` or ``weights-mismatch``.
    """
    if name not in _BUILDERS:
        raise ConfigError(
            "model-unknown", f"There is no model {name!r}.", f"Choose one of {', '.join(model_names())}."
        )
    return _BUILDERS[name](checkpoint, device, window)


def build_localizer(name: LocalizerName, templates: Path | None, device: torch.device) -> Localizer:
    """Build a localizer.

    Parameters
    ----------
    name
        ``learned`` or ``templates``.
    templates
        Folder of the site's own templates. As long as it is empty, the packaged templates are used.
    device
        The device on which the localizer runs.

    Raises
    ------
    ConfigError
        ``template-unreadable`` or ``template-of-other-network``.
    """
    if name == "learned":
        return LearnedLocalizer(device)
    encoder = CoordinateEncoder(device)
    found = templates_in_use(templates, encoder.digest)
    digest = joint_digest([encoder.digest, *(stored.digest for stored in found)])
    return TemplateLocalizer(encoder, [stored.template for stored in found], digest)


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device to run on.

    Raises
    ------
    ConfigError
        ``no-cuda``: `wanted` is cuda, but this machine or this build of torch has no CUDA.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "no-cuda",
            "`engine.device` is cuda, but torch sees no CUDA device.",
            "Install a CUDA build of torch and a driver, or set `engine.device: auto`.",
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
