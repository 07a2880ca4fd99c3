"""The method: from a CT to four candidates, and from a reader's pick to four better ones (ENGINE §1).

One page to read it on. What each step does is in `workers.uair`; which model answers prompts is in
`workers.models`. Volumes come and go on the canonical grid (superior, posterior, left); nothing here knows
DICOM, tasks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_config.errors import InputError
from dicom_config.model import EngineSection
from workers.models.cache import EmbeddingCache
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.predictor import Predictor
from workers.models.registry import build_predictor, choose_device
from workers.models.weights import joint_digest
from workers.models.windows import NEIGHBOUR_MM
from workers.uair.candidates import Rule
from workers.uair.compose import LIVER, Labels, Layer, compose
from workers.uair.ensemble import Decoder
from workers.uair.extent import near, trace_liver
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing, plan_crop
from workers.uair.lesions import GRID_MM, Proposal, lesion_domain, propose
from workers.uair.localize import CoarseMap, Localizer, Location, to_isotropic
from workers.uair.prompts import Outline, boxes_of, outline_of
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import (
    LESION_PLAN,
    LIVER_PLAN,
    Choice,
    Plan,
    first_pool,
    open_target,
    refine_target,
)

Progress = Callable[[float, str], None]
CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class EngineOptions:
    """What a site may choose of the method.

    Parameters
    ----------
    members
        N of equation 1.
    rule
        How the four are chosen (equation 3).
    seed
        Same seed, same volume, same candidates.
    max_lesions
        Most lesions of a case.
    """

    members: int = 16
    rule: Rule = "medoids"
    seed: int = 0
    max_lesions: int = 12


@dataclass(frozen=True)
class Candidate:
    """One of the four segmentations of a round.

    Parameters
    ----------
    k
        1 … 4.
    labels
        ``(Z, Y, X)`` uint8 on the canonical grid: 0 background, 1 liver, 1 + n lesion n.
    trait
        What sets it apart from its siblings, in a few words.
    """

    k: int
    labels: Labels
    trait: str


@dataclass(frozen=True)
class Feedback:
    """What the reader said about a round.

    Parameters
    ----------
    picked
        Candidate 1 … 4 for all targets.
    per_target
        Label value -> candidate, where the reader took a target from another candidate.
    rejected_all
        None fits; `picked` and `per_target` are then ignored.
    """

    picked: int = 1
    per_target: Mapping[int, int] = field(default_factory=dict)
    rejected_all: bool = False

    def __post_init__(self) -> None:
        if any(not 1 <= k <= 4 for k in (self.picked, *self.per_target.values())):
            raise InputError(
                "pick-out-of-range", "A pick names a candidate outside 1 to 4.", "Pick one of the four."
            )

    def candidate_of(self, value: int) -> int | None:
        """Return the index 0 … 3 picked for a label value, None after a rejection."""
        return None if self.rejected_all else self.per_target.get(value, self.picked) - 1


@dataclass(frozen=True)
class Round:
    """Four candidates and what the next round needs.

    Parameters
    ----------
    number
        1 is automatic.
    candidates
        Four different label volumes.
    state
        For `Engine.next_round`.
    targets
        Label values that may occur, ascending: 1, and one for each lesion.
    """

    number: int
    candidates: tuple[Candidate, ...]
    state: RoundState
    targets: tuple[int, ...]


class Engine:
    """Computes rounds. Deterministic on a CPU for a seed; holds nothing of a case but cached embeddings.

    Parameters
    ----------
    predictor
        The promptable model.
    localizer
        Finds the liver.
    options
        See `EngineOptions`.
    """

    def __init__(self, predictor: Predictor[Any], localizer: Localizer, options: EngineOptions) -> None:
        self._predictor = predictor
        self._localizer = localizer
        self._options = options
        self._choice = Choice(options.members, options.rule)
        self._cache = EmbeddingCache(predictor, CACHE_BYTES)
        self.model_name = predictor.name
        self.model_digest = joint_digest([predictor.digest, localizer.digest])

    def first_round(
        self, hu: NDArray[np.generic], spacing_mm: Spacing, *, progress: Progress | None = None
    ) -> Round:
        """Return four candidates of a volume ``(Z, Y, X)`` in canonical HU.

        Raises
        ------
        InputError
            ``liver-not-found``: the volume shows no liver, or too little of one.
        """
        report = progress or _silent
        report(0.0, "localizing the liver")
        location = self._localizer.locate(hu, spacing_mm)
        if location is None:
            raise _no_liver()
        report(0.1, "segmenting the liver")
        liver = self._first_liver(hu, spacing_mm, location)
        domain = _domain(liver)
        report(0.4, "looking for lesions")
        proposals = self._proposals(hu, spacing_mm, liver.crop, domain)
        targets = [liver]
        for index, proposal in enumerate(proposals):
            report(0.5 + 0.4 * index / len(proposals), f"segmenting lesion {index + 1} of {len(proposals)}")
            value = LIVER + len(targets)
            lesion = self._first_lesion(value, hu, spacing_mm, proposal, (liver.crop, domain))
            if lesion is not None:
                targets.append(lesion)
        report(0.9, "composing candidates")
        return self._round(RoundState(1, self.model_digest, tuple(targets), domain), hu.shape)

    def next_round(
        self,
        hu: NDArray[np.generic],
        spacing_mm: Spacing,
        previous: RoundState,
        feedback: Feedback,
        *,
        progress: Progress | None = None,
    ) -> Round:
        """Return the four candidates that follow from a reader's answer to `previous`.

        Raises
        ------
        InputError
            ``state-of-other-model`` or ``state-of-other-volume``: `previous` does not belong here.
        """
        report = progress or _silent
        self._check(previous, hu)
        number = previous.number + 1
        refined: list[TargetState] = []
        for index, target in enumerate(previous.targets):
            report(0.9 * index / len(previous.targets), f"refining target {index + 1}")
            picked = feedback.candidate_of(target.value)
            if picked is not None and not target.present[picked]:
                refined.append(replace(target, present=(False,) * 4))
                continue
            plan, organ = LIVER_PLAN, None
            if target.value != LIVER:
                plan, organ = LESION_PLAN, _organ(previous.targets[0].crop, previous.domain, target.crop)
            decode = self._decoder(target.crop, hu)
            rng = self._rng(number, target.value)
            refined.append(refine_target(target, decode, picked, number, plan, self._choice, rng, organ))
        domain = previous.domain | _domain(refined[0])
        report(0.9, "composing candidates")
        return self._round(RoundState(number, self.model_digest, tuple(refined), domain), hu.shape)

    def _first_liver(self, hu: NDArray[np.generic], spacing: Spacing, location: Location) -> TargetState:
        """Return the liver's first four: traced through the slices, then asked for in many ways."""
        crop = self._crop(location.search_box(spacing, hu.shape), spacing, hu.shape, LIVER_PLAN)
        images, neighbours = crop.images(hu, NEIGHBOUR_MM)
        decode = self._decoder_of(images, neighbours)
        coarse = location.coarse.at(*crop.cell_centres())
        traced = trace_liver(decode, crop.cell_means(images), coarse, crop.pixels)
        if traced is None:
            raise _no_liver()
        outline = outline_of(traced, crop.pixels)
        pool = first_pool(decode, crop, outline, LIVER_PLAN, self._choice, self._rng(1, LIVER))
        pool = pool.joined_by(traced).confined(near(traced > 0, crop))
        return open_target(LIVER, crop, pool, self._choice)

    def _first_lesion(
        self,
        value: int,
        hu: NDArray[np.generic],
        spacing: Spacing,
        proposal: Proposal,
        within: tuple[Crop, Mask],
    ) -> TargetState | None:
        """Return a lesion's first four, or None if the model sees nothing there."""
        crop = self._crop(proposal.box, spacing, hu.shape, LESION_PLAN)
        outline = _outline(proposal.box, proposal.outline, crop)
        rng = self._rng(1, value)
        pool = first_pool(self._decoder(crop, hu), crop, outline, LESION_PLAN, self._choice, rng)
        if not pool.masks.any():
            return None
        return open_target(value, crop, pool, self._choice, organ=_organ(*within, crop))

    def _crop(self, box: Box, spacing: Spacing, shape: tuple[int, ...], plan: Plan) -> Crop:
        return plan_crop(
            box,
            spacing,
            (shape[0], shape[1], shape[2]),
            pixels=self._predictor.input_size,
            cells=self._predictor.mask_size,
            margin=plan.margin,
            min_side_mm=plan.min_side_mm,
            step_mm=plan.step_mm,
            whole_slice=self._predictor.whole_slice,
        )

    def _decoder(self, crop: Crop, hu: NDArray[np.generic]) -> Decoder:
        return self._decoder_of(*crop.images(hu, NEIGHBOUR_MM))

    def _decoder_of(self, images: Float32, neighbours: Float32) -> Decoder:
        embeddings = self._cache.encode(images, neighbours)
        return lambda asked: self._predictor.decode(embeddings, asked)

    def _proposals(
        self, hu: NDArray[np.generic], spacing: Spacing, crop: Crop, domain: Mask
    ) -> list[Proposal]:
        if self._options.max_lesions == 0:
            return []
        region = crop.region()
        iso = to_isotropic(hu[region], spacing, GRID_MM)
        starts = [float(part.start) for part in region]
        places = zip(starts, iso.shape, spacing, strict=True)
        z, y, x = (start + (np.arange(n) + 0.5) * GRID_MM / s for start, n, s in places)
        inside = crop.sampled(np.where(domain, 1.0, -1.0), z, y, x) > 0
        origin = (starts[0], starts[1], starts[2])
        return propose(iso, inside, origin, spacing, self._options.max_lesions)

    def _round(self, state: RoundState, shape: tuple[int, ...]) -> Round:
        liver, *others = state.targets
        volumes = []
        for k in range(4):
            layers = [_layer(target, k) for target in others if target.present[k]]
            volumes.append(compose(_layer(liver, k), state.domain, layers, (shape[0], shape[1], shape[2])))
        traits = ["largest", "large", "small", "smallest"]
        found = tuple(Candidate(k + 1, labels, traits[k]) for k, labels in enumerate(volumes))
        return Round(state.number, found, state, tuple(target.value for target in state.targets))

    def _rng(self, number: int, value: int) -> np.random.Generator:
        return np.random.default_rng([self._options.seed, number, value])

    def _check(self, previous: RoundState, hu: NDArray[np.generic]) -> None:
        if previous.model_digest != self.model_digest:
            raise InputError(
                "state-of-other-model",
                "The earlier round was made by another model.",
                "Run the case again from round 1, or restore the model that made it.",
            )
        if previous.targets[0].crop.shape != hu.shape:
            raise InputError(
                "state-of-other-volume", "The earlier round belongs to another volume.", "Run the case again."
            )


def _silent(_fraction: float, _what: str) -> None:
    pass


def _no_liver() -> InputError:
    return InputError(
        "liver-not-found",
        "No liver was found in the series.",
        "Send a series that covers the upper abdomen, without contrast medium or in any phase.",
    )


def _outline(box: Box, coarse: CoarseMap, crop: Crop) -> Outline:
    tight = boxes_of(coarse.at(*crop.cell_centres()), 0.5, crop.pixels)
    y0, x0 = crop.to_pixels(box.start[1], box.start[2])
    y1, x1 = crop.to_pixels(box.stop[1], box.stop[2])
    return Outline((x0, y0, x1, y1), 0, len(crop.slices), tight)


def _domain(liver: TargetState) -> Mask:
    """Return where lesions may be, on the liver's crop, from the union of its candidates."""
    crop = liver.crop
    union = np.asarray((liver.offered > 0).any(axis=0))
    return lesion_domain(union, (crop.step_mm, crop.cell_mm, crop.cell_mm))


def _organ(liver_crop: Crop, domain: Mask, crop: Crop) -> Mask:
    return liver_crop.sampled(np.where(domain, 1.0, -1.0), *crop.cell_centres()) > 0


def _layer(target: TargetState, k: int) -> Layer:
    return Layer(target.value, target.crop, target.offered[k].astype(np.float32))


def build_engine(section: EngineSection) -> Engine:
    """Build the engine that a site configured: device, model, localizer, options.

    Raises
    ------
    ConfigError
        No such device here, or a checkpoint that cannot be read or does not fit.
    """
    if section.threads:
        torch.set_num_threads(section.threads)
    device = choose_device(section.device)
    predictor = build_predictor(section.model, section.checkpoint, device)
    options = EngineOptions(section.members, section.rule, section.seed, section.max_lesions)
    return Engine(predictor, LearnedLocalizer(device), options)
