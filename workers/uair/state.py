"""The state that a round keeps for the next round, and its file.

A state has logits at the model's mask resolution in half precision, and no voxels. It needs a few megabytes
for a case. The state in memory and the state from a file have the same numbers. So a round that is computed
twice (after Celery delivered a task again) gives the same four candidates.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.uair.belief import Belief
from workers.uair.grids import Crop, Mask
from workers.uair.preference import NEUTRAL, ReaderPreference, SizePosterior

Float16 = NDArray[np.float16]
FORMAT = 5
BEFORE_BELIEFS = 4
"""The format without beliefs over shapes. A case with a state of this format uses the rule ``medoids``."""
_LIVER = 1


@dataclass(frozen=True)
class TargetState:
    """One target (the liver, or a lesion) after a round.

    Parameters
    ----------
    value
        Its label value: 1 the liver, 1 + n lesion n; the same in every round.
    crop
        The crop that the model saw.
    offered
        ``(4, n, h, w)`` logits of candidates 1 to 4.
    present
        Whether candidates 1 to 4 contain the target. Some of them lack a doubtful lesion.
    mean
        ``(n, h, w)`` logits of the first ensemble's mean probability (equation 1).
    deviation
        ``(n, h, w)`` uncertainty of the round (equation 2).
    limit
        T of equation 2: cells with a larger deviation are uncertain.
    earlier
        ``(H, n, h, w)`` logits offered in earlier rounds.
    size
        Belief about the size that the reader draws.
    confidence
        Confidence that the target exists, 0 … 1; 1 for the liver.
    hu
        ``(n, h, w)`` mean HU of the crop's cells, for the 3-D model in `workers.uair.outlines`; ``(0, h, w)``
        if that model does not need them.
    belief
        The belief over shapes; None if the rule that chooses candidates is not ``belief``.
    held
        Whether candidate 1 is the reader's last selection. True in all rounds after the first pick.
    drawn
        Whether the reader drew candidate 1 and has not answered since.
    resting
        Whether all four candidates equal candidate 1 only because the round shows doubts about other targets.
    """

    value: int
    crop: Crop
    offered: Float16
    present: tuple[bool, bool, bool, bool]
    mean: Float16
    deviation: Float16
    limit: float
    earlier: Float16
    size: SizePosterior
    confidence: float
    hu: Float16
    belief: Belief | None = None
    held: bool = False
    drawn: bool = False
    resting: bool = False

    @property
    def settled(self) -> bool:
        """Whether all four candidates equal the reader's selection."""
        return self.held and bool((self.offered[1:] == self.offered[0]).all())

    @property
    def in_doubt(self) -> bool:
        """Whether the candidates differ in the target's shape, or in whether it exists."""
        return any(self.present) and not (self.settled and all(self.present))


@dataclass(frozen=True)
class RoundState:
    """The data that the next round needs in addition to the volume and the reader's answer.

    Parameters
    ----------
    number
        The round, from 1.
    model_digest
        Digest of the weights that made the state. The state cannot be used with other weights.
    targets
        The liver first, then lesions by label value.
    domain
        ``(n, h, w)`` on the liver's crop: the possible places of lesions.
    preference
        The remembered preference of the reader when the round was made.
    """

    number: int
    model_digest: str
    targets: tuple[TargetState, ...]
    domain: Mask
    preference: ReaderPreference = NEUTRAL

    def with_preference(self, preference: ReaderPreference) -> RoundState:
        """Return the state with another remembered preference. The candidates stay."""
        before = self.preference

        def with_preference(target: TargetState) -> TargetState:
            mm = (preference.liver_mm, before.liver_mm)
            if target.value != _LIVER:
                mm = (preference.lesion_mm, before.lesion_mm)
            if mm[0] == mm[1]:
                return target
            belief = target.belief and target.belief.with_preference(mm[0] - mm[1])
            return replace(target, size=target.size.with_preference(*mm), belief=belief)

        return replace(self, targets=tuple(map(with_preference, self.targets)), preference=preference)

    def save(self, path: Path) -> None:
        """Write the state as an ``.npz`` without pickled objects."""
        arrays: dict[str, NDArray[Any]] = {"domain": np.packbits(self.domain)}
        records = []
        for target in self.targets:
            records.append(_record(target))
            prefix = f"target{target.value}_"
            arrays[prefix + "offered"] = target.offered
            arrays[prefix + "mean"] = target.mean
            arrays[prefix + "deviation"] = target.deviation
            arrays[prefix + "earlier"] = target.earlier
            arrays[prefix + "size"] = target.size.mass
            arrays[prefix + "hu"] = target.hu
            if target.belief is not None:
                arrays[prefix + "belief_mean"] = target.belief.mean
                arrays[prefix + "belief_factors"] = target.belief.factors
                arrays[prefix + "belief_allowed"] = np.packbits(target.belief.allowed)
                arrays[prefix + "belief_particles"] = target.belief.particles
        header = {
            "format": FORMAT,
            "number": self.number,
            "model_digest": self.model_digest,
            "domain_shape": self.domain.shape,
            "taste": asdict(self.preference),  # the key in files of this format
            "targets": records,
        }
        arrays["header"] = np.array(json.dumps(header))
        # `numpy.savez_compressed` takes five times as long, and a reader waits.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> RoundState:
        """Read the file of `save`.

        Raises
        ------
        ValueError
            If the file is of another format.
        """
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            if header["format"] not in (FORMAT, BEFORE_BELIEFS):
                raise ValueError(f"round state of format {header['format']}, expected {FORMAT}")
            shape = tuple(header["domain_shape"])
            bits = np.unpackbits(arrays["domain"], count=int(np.prod(shape)))
            targets = tuple(_target(record, arrays) for record in header["targets"])
            domain, preference = bits.reshape(shape).astype(bool), ReaderPreference(**header["taste"])
            return cls(header["number"], header["model_digest"], targets, domain, preference)


def _record(target: TargetState) -> dict[str, Any]:
    crop = target.crop
    return {
        "value": target.value,
        "present": target.present,
        "confidence": target.confidence,
        "limit": target.limit,
        "base_mm": target.size.base_mm,
        "centre": crop.centre,
        "side_mm": crop.side_mm,
        "slices": crop.slices,
        "spacing": crop.spacing,
        "shape": crop.shape,
        "pixels": crop.pixels,
        "cells": crop.cells,
        "held": target.held,
        "drawn": target.drawn,
        "resting": target.resting,
        "belief": target.belief and _belief_record(target.belief),
    }


def _belief_record(belief: Belief) -> dict[str, Any]:
    return {
        "start": belief.start,
        "cell_mm": belief.cell_mm,
        "stride": belief.stride,
        "radius_mm": belief.radius_mm,
    }


def _belief(record: dict[str, Any], arrays: Any, prefix: str) -> Belief:
    mean = arrays[prefix + "belief_mean"]
    bits = np.unpackbits(arrays[prefix + "belief_allowed"], count=mean.size)
    return Belief(
        start=tuple(record["start"]),
        cell_mm=tuple(record["cell_mm"]),
        mean=mean,
        factors=arrays[prefix + "belief_factors"],
        stride=tuple(record["stride"]),
        allowed=bits.reshape(mean.shape).astype(bool),
        radius_mm=record["radius_mm"],
        particles=arrays[prefix + "belief_particles"],
    )


def _target(record: dict[str, Any], arrays: Any) -> TargetState:
    prefix = f"target{record['value']}_"
    crop = Crop(
        tuple(record["centre"]),
        record["side_mm"],
        tuple(record["slices"]),
        tuple(record["spacing"]),
        tuple(record["shape"]),
        record["pixels"],
        record["cells"],
    )
    return TargetState(
        record["value"],
        crop,
        arrays[prefix + "offered"],
        tuple(record["present"]),
        arrays[prefix + "mean"],
        arrays[prefix + "deviation"],
        record["limit"],
        arrays[prefix + "earlier"],
        SizePosterior(record["base_mm"], arrays[prefix + "size"]),
        record["confidence"],
        arrays[prefix + "hu"],
        _belief(record["belief"], arrays, prefix) if record.get("belief") else None,
        record.get("held", False),
        record.get("drawn", False),
        record.get("resting", record["value"] == _LIVER),
    )
