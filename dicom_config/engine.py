"""Configuration of the segmentation method (model) and of work items (leases, retries, time limits)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dicom_config.section import Section

ModelName = Literal["embedded", "vit_b", "vit_l", "vit_h"]
PACKAGED_MODELS: frozenset[ModelName] = frozenset({"embedded"})
"""Models whose weights come with the package. Every other model needs `engine.checkpoint`."""

SAM_MODELS: frozenset[ModelName] = frozenset({"vit_b", "vit_l", "vit_h"})
"""Models that read a published SAM checkpoint. `engine.window` sets how the model's input is normalised."""

LocalizerName = Literal["learned", "templates"]
Window = Literal["auto", "sam", "medsam"]
Preference = Literal["off", "department", "reader"]


class EngineSection(Section):
    """The segmentation method (docs/engine.md). The defaults gave the best results in the measurements."""

    model: ModelName = "embedded"
    checkpoint: Path | None = Field(
        None, description="file of the model's weights; needed unless the package has them"
    )
    checkpoint_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = Field(
        "", description="the SHA-256 that the checkpoint must have; empty: not checked"
    )
    window: Window = Field(
        "auto",
        description="how the input is normalised: as for SAM or as for MedSAM; auto: decided by the "
        "SHA-256, which is known for SAM's three published files",
    )
    localizer: LocalizerName = "learned"
    templates: Path | None = Field(
        None, description="folder of your template scans; empty: `templates` in the data folder"
    )
    weights: Literal["real", "phantom"] = Field(
        "real",
        description="training data of the lesion finder: real CTs and phantoms (CC BY-SA 4.0), or phantoms "
        "alone",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    members: Annotated[int, Field(ge=8, le=32)] = 16
    rule: Literal["belief", "max_variance", "medoids"] = "belief"
    seed: NonNegativeInt = 0
    max_lesions: Annotated[int, Field(ge=0, le=200)] = 12
    preference: Preference = Field(
        "off",
        description="whether accepted cases change later candidates: department: cases from the same "
        "sending AE title; reader: cases that the same picking AE title accepted",
    )
    threads: NonNegativeInt = Field(0, description="CPU threads of one worker; 0: torch's choice")
    embeddings_dir: Path | None = Field(
        None,
        description="folder on a local disk for the model's image embeddings, which later rounds "
        "need; empty: in data_dir",
    )
    embeddings_bytes: NonNegativeInt = Field(
        4 << 30, description="most bytes of embeddings; the least recently used are deleted; 0: keep none"
    )

    @model_validator(mode="after")
    def _needs_checkpoint(self) -> EngineSection:
        if self.model not in PACKAGED_MODELS and self.checkpoint is None:
            raise ValueError(f"model {self.model} needs `checkpoint`, the path of its weights")
        return self


class WorkSection(Section):
    """Leases, retries and time limits of work items."""

    lease_s: PositiveFloat = Field(
        30.0, description="how long a task's claim on a case lasts; a running task renews it"
    )
    sweep_s: PositiveFloat = Field(2.0, description="how often the node looks for work that is due")
    max_attempts: PositiveInt = Field(4, description="attempts after which a case is FAILED")
    time_limit_s: Annotated[float, Field(gt=0, lt=1800, description="hard limit of one task")] = 1500.0
    expire_after_days: PositiveFloat = Field(
        90.0, description="time after which a case without an answer is EXPIRED"
    )
