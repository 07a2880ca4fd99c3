"""Configuration of the method and its tasks: the model, leases, retries, and when to give up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dicom_config.section import Section

ModelName = Literal["embedded", "vit_b", "vit_l", "vit_h"]
PACKAGED_MODELS: frozenset[ModelName] = frozenset({"embedded"})
"""Models whose weights come with the package. Every other model needs `engine.checkpoint`."""

SAM_MODELS: frozenset[ModelName] = frozenset({"vit_b", "vit_l", "vit_h"})
"""Models that read a published SAM checkpoint. `engine.window` sets how their input is normalised."""

LocalizerName = Literal["learned", "templates"]
Window = Literal["auto", "sam", "medsam"]
Preference = Literal["off", "department", "reader"]


class EngineSection(Section):
    """The method (ENGINE.md); defaults are its measured ones."""

    model: ModelName = "embedded"
    checkpoint: Path | None = Field(None, description="path of the weights; needed unless they are packaged")
    checkpoint_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = Field(
        "", description="what the checkpoint's SHA-256 must be; empty: not compared"
    )
    window: Window = Field(
        "auto",
        description="how a checkpoint's input is normalised: as SAM's or as MedSAM's; auto: by its SHA-256, "
        "which is known of SAM's three published files",
    )
    localizer: LocalizerName = "learned"
    templates: Path | None = Field(
        None, description="folder of your template scans; `templates` in the data folder unless set"
    )
    weights: Literal["real", "phantom"] = Field(
        "real",
        description="what the lesion finder learned from: real CTs, too (CC BY-SA 4.0), or phantoms alone",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    members: Annotated[int, Field(ge=8, le=32)] = 16
    rule: Literal["belief", "max_variance", "medoids"] = "belief"
    seed: NonNegativeInt = 0
    max_lesions: Annotated[int, Field(ge=0, le=200)] = 12
    preference: Preference = Field(
        "off",
        description="whether accepted cases shape later ones: of the AE title that sends the series "
        "(department), or of the one that picks (reader)",
    )
    threads: NonNegativeInt = Field(0, description="CPU threads of one worker; 0: torch's choice")
    embeddings_dir: Path | None = Field(
        None, description="what the model saw, kept for later rounds, on a local disk; none: in data_dir"
    )
    embeddings_bytes: NonNegativeInt = Field(
        4 << 30, description="the least recently used are deleted beyond this; 0: keep none"
    )

    @model_validator(mode="after")
    def _needs_checkpoint(self) -> EngineSection:
        if self.model not in PACKAGED_MODELS and self.checkpoint is None:
            raise ValueError(f"model {self.model} needs `checkpoint`, the path of its weights")
        return self


class WorkSection(Section):
    """Leases, retries and time limits of tasks."""

    lease_s: PositiveFloat = Field(30.0, description="a task's claim on a case; renewed while alive")
    sweep_s: PositiveFloat = Field(2.0, description="how often what is due is looked for")
    max_attempts: PositiveInt = Field(4, description="then the case is FAILED, with its cause")
    time_limit_s: Annotated[float, Field(gt=0, lt=1800, description="hard limit of one task")] = 1500.0
    expire_after_days: PositiveFloat = Field(90.0, description="then an unanswered case is EXPIRED")
