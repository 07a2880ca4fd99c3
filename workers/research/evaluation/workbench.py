"""The tools of an evaluation: an engine for each rule of choice, and models that store their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from dicom_config.errors import ConfigError
from dicom_config.model import EngineSection
from workers.engine import Engine
from workers.models.learned_outlines import LearnedOutlines
from workers.models.registry import build_localizer, build_predictor, choose_device
from workers.models.slice_networks import NAMES, SliceNetwork, weight_file
from workers.models.weights import packaged
from workers.research.evaluation.remember import RememberingOutliner, RememberingPredictor, Stopwatch
from workers.site_engine import build_engine
from workers.uair.candidates import Rule
from workers.uair.localize import Localizer

RULES: tuple[Rule, ...] = get_args(Rule)
"""The rules of choice. The first rule is the default. Fixed-preference readers and pictures use it."""
COMPARED: tuple[Rule, ...] = ("belief", "medoids")
"""The evaluation also simulates two other readers with these rules: noisy, and one pick for all targets."""


@dataclass(frozen=True)
class Workbench:
    """The engines of an evaluation, and the models that they use.

    Attributes
    ----------
    predictor
        The promptable model.
    localizer
        The model that finds the liver.
    outliner
        The model that segments single lesions in 3-D.
    engines
        An engine for each rule of choice. They share the model.
    networks
        U-Net and TransUNet, if their weights and MONAI are installed.
    members
        Number of members, N of equation 1.
    """

    predictor: RememberingPredictor
    localizer: Localizer
    outliner: RememberingOutliner
    engines: Mapping[Rule, Engine]
    networks: Mapping[str, SliceNetwork]
    members: int

    @property
    def digest(self) -> str:
        """SHA-256 of all weights."""
        return self.engines[RULES[0]].model_digest

    def stopwatch(self) -> Stopwatch:
        """Return a clock that measures computing time from now on."""
        return Stopwatch(self.predictor, self.outliner)

    def forget(self) -> None:
        """Drop the stored outputs of the models. The evaluation calls this between two cases."""
        self.predictor.forget()
        self.outliner.forget()


def build_workbench(section: EngineSection, baselines: Path | None = None) -> Workbench:
    """Build the engines and models of a site's configuration.

    Parameters
    ----------
    section
        Model, localizer, device and options. The configured rule is ignored, because all rules are compared.
    baselines
        Folder with ``unet.safetensors`` and ``transunet.safetensors``; None uses the packaged weights.

    Raises
    ------
    ConfigError
        The device does not exist, or a checkpoint or template cannot be read or does not fit.
        ``weights-missing``: `baselines` has no usable file.
    """
    device = choose_device(section.device)
    predictor = RememberingPredictor(
        build_predictor(section.model, section.checkpoint, device, section.window)
    )
    localizer = build_localizer(section.localizer, section.templates, device)
    # The engines use no stored embeddings of an earlier run, because those would need no computing time.
    fresh = section.model_copy(update={"embeddings_bytes": 0})
    outliner = RememberingOutliner(LearnedOutlines(device))
    engines = {
        rule: build_engine(fresh.model_copy(update={"rule": rule}), predictor=predictor, outliner=outliner)
        for rule in RULES
    }
    return Workbench(predictor, localizer, outliner, engines, _networks(baselines, device), section.members)


def _networks(folder: Path | None, device: torch.device) -> dict[str, SliceNetwork]:
    if folder is None:
        paths = {name: packaged(weight_file(name)) for name in NAMES}
    else:
        paths = {name: folder / f"{name}.safetensors" for name in NAMES}
    there = {name: path for name, path in paths.items() if path.exists()}
    if folder is not None and not there:
        raise ConfigError(
            "weights-missing",
            f"There are no weights of a U-Net or TransUNet in {folder}.",
            "Train them: uair train unet --output FOLDER/unet.safetensors, likewise transunet.",
        )
    try:
        return {name: SliceNetwork.load(name, device, path) for name, path in there.items()}
    except ConfigError as error:
        # Without MONAI, the other rows of the table are still possible.
        if folder is not None or error.code != "evaluate-extra-missing":
            raise
        return {}
