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
from workers.uair.confidence import DOUBTFUL, evidence_of, shown_in
from workers.uair.ensemble import Decoder
from workers.uair.extent import Tissue, near, tissue_of, trace_liver
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing, plan_crop
from workers.uair.lesions import GRID_MM, Proposal, lesion_domain, propose
from workers.uair.localize import Localizer, Location, to_isotropic
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
SIZES = ("most inclusive", "inclusive", "tight", "tightest")
SIZES_AFTER_PICK = ("as selected", "most inclusive", "in between", "tightest")


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
        liver, tissue = self._first_liver(hu, spacing_mm, location)
        domain = _domain(liver, location)
        report(0.4, "looking for lesions")
        proposals = self._proposals(hu, spacing_mm, liver, domain)
        found: list[TargetState] = []
        for index, proposal in enumerate(proposals):
            report(0.5 + 0.4 * index / len(proposals), f"weighing lesion {index + 1} of {len(proposals)}")
            lesion = self._first_lesion(hu, spacing_mm, proposal, liver, domain, tissue)
            if lesion is not None and not any(_same(lesion, other) for other in found):
                found.append(lesion)
        found.sort(key=lambda lesion: -lesion.confidence)
        numbered = [replace(lesion, value=LIVER + n) for n, lesion in enumerate(found, start=1)]
        report(0.9, "composing candidates")
        state = RoundState(1, self.model_digest, (liver, *_presented(numbered, first=True)), domain)
        return _round(state, hu.shape, SIZES)

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
        liver_crop = previous.targets[0].crop
        refined: list[TargetState] = []
        for index, target in enumerate(previous.targets):
            report(0.9 * index / len(previous.targets), f"refining target {index + 1}")
            picked = feedback.candidate_of(target.value)
            if picked is not None and not target.present[picked]:
                refined.append(replace(target, present=(False,) * 4))
                continue
            plan, organ = LIVER_PLAN, None
            if target.value != LIVER:
                plan, organ = LESION_PLAN, liver_crop.mask_on(previous.domain, target.crop)
            decode = self._decoder(*target.crop.images(hu, NEIGHBOUR_MM))
            rng = self._rng(number, target.value)
            refined.append(refine_target(target, decode, picked, number, plan, self._choice, rng, organ))
        liver, *others = refined
        # What the reader selected must come back voxel for voxel, so its domain stays.
        domain = previous.domain | _domain(liver, None) if feedback.rejected_all else previous.domain
        report(0.9, "composing candidates")
        shown = _presented(others, first=feedback.rejected_all)
        state = RoundState(number, self.model_digest, (liver, *shown), domain)
        return _round(state, hu.shape, SIZES if feedback.rejected_all else SIZES_AFTER_PICK)

    def _first_liver(
        self, hu: NDArray[np.generic], spacing: Spacing, location: Location
    ) -> tuple[TargetState, Tissue]:
        """Return the liver's first four (traced through the slices, then asked for in many ways)."""
        crop = self._crop(location.search_box(spacing, hu.shape), spacing, hu.shape, LIVER_PLAN)
        images, neighbours = crop.images(hu, NEIGHBOUR_MM)
        cells = crop.cell_means(images)
        decode = self._decoder(images, neighbours)
        traced = trace_liver(decode, cells, location.coarse.at(*crop.cell_centres()), crop.pixels)
        if traced is None:
            raise _no_liver()
        outline = outline_of(traced, crop.pixels)
        pool = first_pool(decode, crop, outline, LIVER_PLAN, self._choice, self._rng(1, LIVER))
        tissue = tissue_of(cells, (traced > 0).astype(np.float32))
        pool = pool.joined_by(traced).confined(near(traced > 0, crop, tissue.like(cells)))
        return open_target(LIVER, crop, pool, self._choice), tissue

    def _proposals(
        self, hu: NDArray[np.generic], spacing: Spacing, liver: TargetState, domain: Mask
    ) -> list[Proposal]:
        if self._options.max_lesions == 0:
            return []
        region = liver.crop.region()
        iso = to_isotropic(hu[region], spacing, GRID_MM)
        origin = (float(region[0].start), float(region[1].start), float(region[2].start))
        places = zip(origin, iso.shape, spacing, strict=True)
        z, y, x = (start + (np.arange(n) + 0.5) * GRID_MM / s for start, n, s in places)
        inside, organ = (
            liver.crop.sampled(np.where(mask, 1.0, -1.0), z, y, x, outside=-1.0) > 0
            for mask in (domain, _majority(liver))
        )
        return propose(iso, inside, organ, origin, spacing, self._options.max_lesions)

    def _first_lesion(
        self,
        hu: NDArray[np.generic],
        spacing: Spacing,
        proposal: Proposal,
        liver: TargetState,
        domain: Mask,
        tissue: Tissue,
    ) -> TargetState | None:
        """Return a lesion's first four, or None if the model gives no reason to believe in it."""
        crop = self._crop(proposal.box, spacing, hu.shape, LESION_PLAN)
        images, neighbours = crop.images(hu, NEIGHBOUR_MM)
        decode = self._decoder(images, neighbours)
        # The proposal's place in the list is not known to be stable, its place in the body is.
        # A box may begin outside the volume.
        rng = self._rng(1, abs(int(proposal.box.start[0] * 1e4 + proposal.box.start[2])))
        pool = first_pool(decode, crop, _outline(proposal, crop), LESION_PLAN, self._choice, rng)
        organ = liver.crop.mask_on(_majority(liver), crop)
        evidence = evidence_of(pool, crop.cell_means(images), organ, tissue, crop)
        if evidence is None or evidence.confidence < DOUBTFUL:
            return None
        allowed = liver.crop.mask_on(domain, crop)
        return open_target(LIVER + 1, crop, pool, self._choice, organ=allowed, confidence=evidence.confidence)

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

    def _decoder(self, images: Float32, neighbours: Float32) -> Decoder:
        embeddings = self._cache.encode(images, neighbours)
        return lambda asked: self._predictor.decode(embeddings, asked)

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


def _outline(proposal: Proposal, crop: Crop) -> Outline:
    tight = boxes_of(proposal.outline.at(*crop.cell_centres()), 0.5, crop.pixels)
    y0, x0 = crop.to_pixels(*proposal.box.start[1:])
    y1, x1 = crop.to_pixels(*proposal.box.stop[1:])
    return Outline((x0, y0, x1, y1), 0, len(crop.slices), tight)


def _domain(liver: TargetState, location: Location | None) -> Mask:
    """Return where lesions may be, on the liver's crop: about most of its candidates, and the localizer's."""
    crop = liver.crop
    doubtful = None if location is None else location.coarse.at(*crop.cell_centres()) > 0.5
    return lesion_domain(_majority(liver), (crop.step_mm, crop.cell_mm, crop.cell_mm), doubtful)


def _majority(target: TargetState) -> Mask:
    return np.asarray((target.offered > 0).mean(axis=0) >= 0.5)


def _same(a: TargetState, b: TargetState) -> bool:
    """Tell whether two proposals turned out to be one lesion: half of the smaller lies in the other."""
    mine = a.offered[1] > 0
    theirs = b.crop.mask_on(b.offered[1] > 0, a.crop)
    smaller = min(mine.sum() * a.crop.cell_volume_ml, (b.offered[1] > 0).sum() * b.crop.cell_volume_ml)
    return bool((mine & theirs).sum() * a.crop.cell_volume_ml > 0.5 * smaller)


def _presented(lesions: list[TargetState], *, first: bool) -> list[TargetState]:
    """Return the lesions with the candidates that they appear in; dropped ones stay dropped."""
    shown = shown_in([lesion.confidence for lesion in lesions], first=first)
    return [
        replace(lesion, present=present) if any(lesion.present) else lesion
        for lesion, present in zip(lesions, shown, strict=True)
    ]


def _round(state: RoundState, shape: tuple[int, ...], sizes: tuple[str, ...]) -> Round:
    """Compose the four label volumes of a state."""
    liver, *lesions = state.targets
    found = []
    for k, size in enumerate(sizes):
        layers = [_layer(lesion, k) for lesion in lesions if lesion.present[k]]
        labels = compose(_layer(liver, k), state.domain, layers, (shape[0], shape[1], shape[2]))
        partial = any(any(lesion.present) and not lesion.present[k] for lesion in lesions)
        found.append(Candidate(k + 1, labels, f"{size}, sure lesions only" if partial else size))
    return Round(state.number, tuple(found), state, tuple(target.value for target in state.targets))


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
