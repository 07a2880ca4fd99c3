"""Compute the gain in Dice over three rounds on 40 phantoms. The reader picks one candidate for all targets.

    python -m scripts.demo_phantoms OUTPUT.json

The phantoms are those of the demonstration. A second run skips the seeds that OUTPUT.json already contains.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dicom_config.model import EngineSection
from workers.engine import Engine, Feedback
from workers.phantoms import make_phantom
from workers.research.evaluation.reader import one_for_all
from workers.site_engine import build_engine
from workers.truth.metrics import agreement

SEEDS = range(1, 41)
ROUNDS = 3


def main(output: Path) -> None:
    """Write, for each seed, a list of rounds: [picked k, liver Dice, lesion Dice]. Print the ranks."""
    known = json.loads(output.read_text("utf-8")) if output.exists() else {}
    engine = build_engine(EngineSection(threads=1))
    for seed in SEEDS:
        if str(seed) not in known:
            known[str(seed)] = _played(engine, seed)
            output.write_text(json.dumps(known) + "\n", "utf-8")
            print(seed, known[str(seed)], flush=True)  # noqa: T201
    gains = {int(seed): rounds[-1][2] - rounds[0][2] for seed, rounds in known.items() if rounds}
    for rank, seed in enumerate(sorted(gains, key=lambda seed: -gains[seed]), start=1):
        print(f"rank {rank:>2}: phantom {seed:>2}, {gains[seed]:+.3f}  {known[str(seed)]}")  # noqa: T201


def _played(engine: Engine, seed: int) -> list[tuple[int, float, float]]:
    """Return k, liver Dice and lesion Dice of each round's pick; empty for a phantom without lesions."""
    phantom = make_phantom(seed, size="demo")
    if not (phantom.labels > 1).any():
        return []
    made = engine.first_round(phantom.hu, phantom.spacing_mm)
    rounds = []
    for number in range(1, ROUNDS + 1):
        labels = [candidate.labels for candidate in made.candidates]
        k = one_for_all(labels, phantom.labels, (1,))[1]
        found = agreement(labels[k - 1], phantom.labels)
        assert found.lesions is not None, "the truth has lesions"
        rounds.append((k, round(found.liver.dice, 4), round(found.lesions.dice, 4)))
        if number < ROUNDS:
            made = engine.next_round(phantom.hu, phantom.spacing_mm, made.state, Feedback(picked=k))
    return rounds


if __name__ == "__main__":
    main(Path(sys.argv[1]))
