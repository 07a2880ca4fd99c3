"""What an evaluation works with: the engine by both rules, on one model that remembers its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch

from dicom_config.model import EngineSection
from workers.engine import Engine, EngineOptions
from workers.evaluation.remember import RememberingPredictor, Stopwatch
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.registry import build_predictor, choose_device
from workers.uair.candidates import Rule
from workers.uair.localize import Localizer

RULES: tuple[Rule, ...] = tuple(sorted(get_args(Rule), reverse=True))
"""`medoids` first: the default, which other readers and the pictures show."""


@dataclass(frozen=True)
class Workbench:
    """Engines and their parts.

    Attributes
    ----------
    predictor
        The promptable model.
    localizer
        Finds the liver.
    engines
        One for each rule of choice; they share the model.
    members
        N of equation 1.
    """

    predictor: RememberingPredictor
    localizer: Localizer
    engines: Mapping[Rule, Engine]
    members: int

    @property
    def digest(self) -> str:
        """SHA-256 over all weights."""
        return self.engines[RULES[0]].model_digest

    def stopwatch(self) -> Stopwatch:
        """Start to measure computing time."""
        return Stopwatch(self.predictor)


def build_workbench(section: EngineSection) -> Workbench:
    """Build what a site configured; `section.rule` is of no account.

    Raises
    ------
    ConfigError
        No such device here, or a checkpoint that cannot be read or does not fit.
    """
    if section.threads:
        torch.set_num_threads(section.threads)
    device = choose_device(section.device)
    predictor = RememberingPredictor(build_predictor(section.model, section.checkpoint, device))
    localizer = LearnedLocalizer(device)
    engines = {
        rule: Engine(
            predictor, localizer, EngineOptions(section.members, rule, section.seed, section.max_lesions)
        )
        for rule in RULES
    }
    return Workbench(predictor, localizer, engines, section.members)
