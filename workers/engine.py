"""The method: a CT gives four candidates, and a reader's pick gives four better candidates (docs/engine.md).

This module shows the whole method on one page. `workers.uair` has its steps, `workers.models` the models that
answer prompts. Volumes are on the canonical grid (superior, posterior, left). This module uses neither DICOM
nor Celery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_config.errors import InputError
from dicom_config.modalities import profile
from workers.models.cache import EmbeddingCache, EmbeddingFolder
from workers.models.predictor import Predictor
from workers.models.weights import joint_digest
from workers.models.windows import NEIGHBOUR_MM
from workers.uair.answered_targets import answered, refine_target
from workers.uair.candidates import Rule
from workers.uair.compose import LIVER, Labels
from workers.uair.edits import DrawnLesion, opened, unknown_lesions
from workers.uair.ensemble import Decoder
from workers.uair.finder import BEYOND_MM, LesionFinder, same_lesion
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing, Voxels, bounding_box
from workers.uair.lesion_maps import LesionModel
from workers.uair.localize import Localizer
from workers.uair.marks import MarkAsker, MarkedTarget
from workers.uair.organ_finder import OrganFinder, domain_of
from workers.uair.outlines import Outliner
from workers.uair.preference import NEUTRAL, ReaderPreference
from workers.uair.questions import two_questions
from workers.uair.rounds import SIZES, SIZES_AFTER_PICK, Candidate, Round, composed, presented
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import LESION_PLAN, LIVER_PLAN, CandidateOptions, Plan

Progress = Callable[[float, str], None]
CACHE_BYTES = 1 << 30
__all__ = [
    "SIZES_AFTER_PICK",
    "Candidate",
    "Engine",
    "EngineOptions",
    "Feedback",
    "Round",
]


@dataclass(frozen=True)
class EngineOptions:
    """Options of the method that a site may set.

    Parameters
    ----------
    members
        Number of members, N of equation 1.
    rule
        The rule that chooses the four candidates (equation 3).
    seed
        The same seed and volume give the same candidates.
    max_lesions
        The largest number of lesions of a case.
    """

    members: int = 16
    rule: Rule = "belief"
    seed: int = 0
    max_lesions: int = 12


@dataclass(frozen=True)
class Feedback:
    """The reader's answer to a round.

    Parameters
    ----------
    picked
        Candidate 1 … 4, for all targets that `per_target` does not contain.
    per_target
        Label value -> candidate, where the reader took a target from another candidate.
    per_part
        Label value -> name of a part (`workers.uair.parts`) -> candidate, where the reader took a part of a
        target from another candidate.
    rejected_all
        The reader rejected all candidates. Picks are then ignored.
    unsaid
        Label values of targets for which the answer chooses no candidate. These targets stay unchanged.
    """

    picked: int = 1
    per_target: Mapping[int, int] = field(default_factory=dict)
    per_part: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    rejected_all: bool = False
    unsaid: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        of_parts = [k for parts in self.per_part.values() for k in parts.values()]
        if any(not 1 <= k <= 4 for k in (self.picked, *self.per_target.values(), *of_parts)):
            raise InputError(
                "pick-out-of-range",
                "A pick names a candidate outside 1 to 4.",
                "Pick one of the four candidates.",
            )

    @property
    def for_all(self) -> bool:
        """Whether one candidate was picked for all targets."""
        return not (self.rejected_all or self.per_target or self.per_part or self.unsaid)

    def candidate_of(self, value: int) -> int | None:
        """Return the picked index 0 … 3 of a target; None after a rejection."""
        return None if self.rejected_all else self.per_target.get(value, self.picked) - 1

    def parts_of(self, value: int) -> dict[str, int]:
        """Return the picked index 0 … 3 of each part of a target that was picked separately, by name."""
        return {name: k - 1 for name, k in self.per_part.get(value, {}).items()}


class Engine:
    """Computes rounds. On a CPU, the result depends only on inputs and seed. Embeddings are cached.

    Parameters
    ----------
    predictor
        The promptable model.
    localizer
        Finds the liver.
    options
        See `EngineOptions`.
    folder
        Folder in which the embeddings of a round's targets are kept for later rounds; None: in memory only.
    lesions
        Finds lesions; None: lesions are proposed by density alone.
    outliner
        Segments lesions in 3-D; None: only the promptable model segments them.
    """

    def __init__(
        self,
        predictor: Predictor[Any],
        localizer: Localizer,
        options: EngineOptions,
        folder: EmbeddingFolder | None = None,
        lesions: LesionModel | None = None,
        outliner: Outliner | None = None,
    ) -> None:
        self._predictor = predictor
        self._localizer = localizer
        self._lesions = lesions
        self._outliner = outliner
        self._options = options
        self._candidate_options = CandidateOptions(options.members, options.rule, options.seed)
        self._cache = EmbeddingCache(predictor, CACHE_BYTES, folder)
        self.model_name = predictor.name
        parts = (predictor, localizer, lesions, outliner)
        self.model_digest = joint_digest([part.digest for part in parts if part is not None])

    def first_round(
        self,
        hu: NDArray[np.generic],
        spacing_mm: Spacing,
        *,
        content: str = "",
        prior: ReaderPreference = NEUTRAL,
        progress: Progress | None = None,
        wanted: profile.Organ = profile.LIVER,
    ) -> Round:
        """Return four candidates of a volume ``(Z, Y, X)`` in canonical HU.

        Parameters
        ----------
        content
            Digest of the volume. Later rounds find the embeddings by it. If empty, it is computed from `hu`.
        prior
            The remembered preference of the reader. Some candidates follow it, others do not.
        wanted
            The organ to segment. The learned lesion finder is used for the liver only.

        Raises
        ------
        InputError
            ``liver-not-found``: the volume does not show the organ, or too little of it.
        """
        report = progress or _silent
        report(0.0, f"localizing the {wanted.name}")
        content = content or _digest(hu)
        encode_crop = partial(self._encode_crop, content)
        location = self._localizer.locate(hu, spacing_mm)
        if location is None:
            raise _not_found(wanted)
        report(0.1, f"segmenting the {wanted.name}")
        model = self._lesions if wanted == profile.LIVER else None
        organs = OrganFinder(self._crop, encode_crop, self._candidate_options, self._rng(1, LIVER), model)
        organ = organs.found(hu, spacing_mm, location, prior.liver_mm)
        if organ is None:
            raise _not_found(wanted)
        report(0.4, "looking for lesions")
        finder = LesionFinder(
            self._crop, encode_crop, self._candidate_options, self._options.seed, self._outliner
        )
        proposals = finder.proposals(hu, spacing_mm, organ, self._options.max_lesions)
        found: list[TargetState] = []
        for index, proposal in enumerate(proposals):
            report(0.5 + 0.4 * index / len(proposals), f"weighing lesion {index + 1} of {len(proposals)}")
            lesion = finder.opened(hu, spacing_mm, organ, proposal, prior.lesion_mm)
            if lesion is not None and not any(same_lesion(lesion, other) for other in found):
                found.append(lesion)
        found.sort(key=lambda lesion: -lesion.confidence)
        numbered = [replace(lesion, value=LIVER + n) for n, lesion in enumerate(found, start=1)]
        report(0.9, "composing candidates")
        for target in (organ.liver, *numbered):
            self._cache.keep(content, target.crop)
        targets = (organ.liver, *presented(numbered, first=True))
        state = RoundState(1, self.model_digest, targets, organ.domain, prior)
        return replace(composed(state, hu.shape, SIZES), maps=organ.maps)

    def next_round(
        self,
        hu: Voxels,
        spacing_mm: Spacing,
        previous: RoundState,
        feedback: Feedback,
        *,
        content: str = "",
        prior: ReaderPreference | None = None,
        progress: Progress | None = None,
        number: int | None = None,
    ) -> Round:
        """Return the candidates of the next round, after a reader's answer to `previous`.

        There are four candidates, or one if no target is in doubt.

        `hu` is only read if the embeddings of a target are no longer kept, or if `content` is empty.

        Parameters
        ----------
        prior
            The remembered preference of this reader; None for the preference of the earlier round.
        number
            Number of the new round, if the reader went back to a round before the last. None: the next
            number.

        Raises
        ------
        InputError
            ``state-of-other-model`` or ``state-of-other-volume``: `previous` belongs to another model or
            volume.
        """
        report = progress or _silent
        self._check(previous, hu)
        content = content or _digest(hu)
        if prior is not None:
            previous = previous.with_preference(prior)
        number = number or previous.number + 1
        liver, *lesions = previous.targets
        anew = feedback.rejected_all and not liver.held
        refined: list[TargetState] = []
        for index, target in enumerate(lesions, start=1):
            report(0.9 * index / len(previous.targets), f"refining lesion {index}")
            picked = feedback.candidate_of(target.value)
            organ = partial(liver.crop.mask_on, previous.domain, target.crop)
            if target.value in feedback.unsaid:
                refined.append(target)
            elif picked is not None and not target.present[picked]:
                refined.append(replace(target, present=(False,) * 4))
            else:
                by_part = feedback.parts_of(target.value)
                refined.append(self._refined(hu, content, target, picked, number, organ, by_part=by_part))
        report(0.8, "refining the liver")
        shown = presented(refined, first=anew, unchanged=feedback.unsaid)
        # While a lesion is in doubt, the liver keeps its shape, so that a pick answers for the lesions.
        # After a rejection, the liver varies, too.
        quiet = not feedback.rejected_all and any(lesion.in_doubt for lesion in shown)
        if LIVER not in feedback.unsaid:
            picked, by_part = feedback.candidate_of(LIVER), feedback.parts_of(LIVER)
            liver = self._refined(hu, content, liver, picked, number, by_part=by_part, quiet=quiet)
        # The reader's selection must come back voxel for voxel, so the domain keeps all its cells.
        domain = previous.domain | domain_of(liver) if anew else previous.domain
        report(0.9, "composing candidates")
        targets, changes = (liver, *shown), None
        # After an edit, all targets vary, so that a drawn target has four different candidates.
        if feedback.for_all and not any(target.drawn for target in previous.targets):
            targets, changes = two_questions(targets)
        state = RoundState(number, self.model_digest, targets, domain, previous.preference)
        unselected = anew or (LIVER in feedback.unsaid and not liver.held)
        return composed(state, hu.shape, changes or (SIZES if unselected else SIZES_AFTER_PICK))

    def _refined(
        self,
        hu: Voxels,
        content: str,
        target: TargetState,
        picked: int | None,
        number: int,
        organ: Callable[[], Mask] | None = None,
        *,
        by_part: Mapping[str, int],
        quiet: bool = False,
    ) -> TargetState:
        """Return a target after the answer: from its belief, or by prompting the model again."""
        rng = self._rng(number, target.value)
        if target.belief is not None:
            return answered(target, target.belief, picked, number, rng, by_part=by_part, quiet=quiet)
        plan = LIVER_PLAN if organ is None else LESION_PLAN
        images = partial(target.crop.images, hu, NEIGHBOUR_MM)
        decode = self._bound(self._cache.encode(content, target.crop, images))
        allowed = None if organ is None else organ()
        return refine_target(
            target, decode, picked, number, plan, self._candidate_options, rng, allowed, self._outliner
        )

    def with_added_lesions(
        self, hu: Voxels, spacing_mm: Spacing, state: RoundState, labels: Labels, *, content: str = ""
    ) -> RoundState:
        """Return `state` with a new target for each lesion of `labels` that has no target yet.

        Parameters
        ----------
        labels
            ``(Z, Y, X)`` uint8 on the canonical grid: the labels that the reader drew.
        content
            As in `first_round`.
        """
        content = content or _digest(hu)
        for value in unknown_lesions(state, labels):
            mask = labels == value
            box = bounding_box(mask)
            assert box is not None, "the value is one of the labels"
            around = box.extended((BEYOND_MM, 0.0, 0.0), spacing_mm, hu.shape)
            crop = self._crop(around, spacing_mm, hu.shape, LESION_PLAN)
            decode, cells = self._encode_crop(content, hu, crop)
            drawn = DrawnLesion(value, mask, crop, decode, cells)
            rng = self._rng(state.number, value)
            state = opened(state, drawn, self._candidate_options, rng)
        return state

    def with_marked_lesions(
        self,
        hu: Voxels,
        spacing_mm: Spacing,
        state: RoundState,
        marked: Sequence[MarkedTarget],
        *,
        content: str = "",
    ) -> RoundState:
        """Return `state` with the lesions that a reader marked, each with four candidates that fit the marks.

        The parameters are those of `with_added_lesions`.
        """
        encode_crop = partial(self._encode_crop, content or _digest(hu), hu)
        asker = MarkAsker(self._crop, encode_crop, self._candidate_options, self._rng, self._outliner)
        return asker.with_marked(state, marked, spacing_mm, hu.shape)

    def _crop(self, box: Box, spacing: Spacing, shape: tuple[int, ...], plan: Plan) -> Crop:
        model = self._predictor
        return plan.crop(
            box,
            spacing,
            shape,
            pixels=model.input_size,
            cells=model.mask_size,
            whole_slice=model.whole_slice,
        )

    def _encode_crop(self, content: str, hu: Voxels, crop: Crop) -> tuple[Decoder, Float32]:
        """Encode a crop. Return a function that answers prompts on it, and the mean HU of each mask cell."""
        images, neighbours = crop.images(hu, NEIGHBOUR_MM)
        embeddings = self._cache.encode(content, crop, lambda: (images, neighbours))
        return self._bound(embeddings), crop.cell_means(images)

    def _bound(self, embeddings: Any) -> Decoder:
        return lambda asked: self._predictor.decode(embeddings, asked)

    def _rng(self, number: int, value: int) -> np.random.Generator:
        return np.random.default_rng([self._options.seed, number, value])

    def _check(self, previous: RoundState, hu: Voxels) -> None:
        if previous.model_digest != self.model_digest:
            raise InputError(
                "state-of-other-model",
                "The earlier round was made by another model.",
                "Run the case again from round 1, or restore the model that made it (engine.model, "
                "engine.weights).",
            )
        if previous.targets[0].crop.shape != hu.shape:
            raise InputError(
                "state-of-other-volume", "The earlier round belongs to another volume.", "Run the case again."
            )


def _silent(_fraction: float, _what: str) -> None:
    pass


def _digest(hu: Voxels) -> str:
    """Return a digest of a volume's voxels."""
    voxels = np.ascontiguousarray(hu[:])
    return hashlib.blake2b(voxels.view(np.uint8).data, digest_size=20).hexdigest()


def _not_found(wanted: profile.Organ) -> InputError:
    return InputError(
        "liver-not-found",
        f"No {wanted.name} was found in the series.",
        "Send a series that covers the upper abdomen, without contrast medium or in any phase.",
    )
