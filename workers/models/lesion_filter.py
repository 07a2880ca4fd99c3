"""The learned false-positive filter of lesion proposals, as shipped with the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dicom_config.errors import ConfigError
from workers.models.weights import file_digest, packaged
from workers.uair.classifier import Classifier
from workers.uair.surroundings import BLOB_NAMES, POOL_NAMES, Features

LESION_FILTER_FILE = "lesion_filter.json"
FORMAT = 1


class LearnedLesionFilter:
    """Two classifiers: one ranks blobs before the model is asked, one weighs its answers.

    Parameters
    ----------
    path
        What `save_lesion_filter` wrote; the file of the package if None.

    Raises
    ------
    ConfigError
        ``weights-missing`` or ``weights-mismatch``: the file is absent, or made for other features.
    """

    def __init__(self, path: Path | None = None) -> None:
        source = path or packaged(LESION_FILTER_FILE)
        self.digest = file_digest(source)
        try:
            record = json.loads(source.read_text(encoding="utf-8"))
            self._blobs, self._answers = (Classifier.from_json(record[key]) for key in ("blobs", "answers"))
            known = (self._blobs.names, self._answers.names, record["format"])
        except (KeyError, TypeError, ValueError):
            known = ((), (), 0)
        if known != (BLOB_NAMES, BLOB_NAMES + POOL_NAMES, FORMAT):
            raise ConfigError(
                "weights-mismatch",
                f"The lesion filter {source.name} is not one of this version.",
                "Install the package again, or train the filter anew with `workers.training.lesions`.",
            )

    def rank(self, blob: Features) -> float:
        """Return the probability that a blob is a lesion, from `BLOB_NAMES`."""
        return float(self._blobs.probability(blob[None])[0])

    def confidence(self, blob: Features, answers: Features) -> float:
        """Return the probability that a proposal is a lesion, from `BLOB_NAMES` and `POOL_NAMES`."""
        return float(self._answers.probability(np.concatenate([blob, answers])[None])[0])


def save_lesion_filter(path: Path, blobs: Classifier, answers: Classifier, note: dict[str, int]) -> None:
    """Write both classifiers as JSON; `note` says how they were made."""
    record = {"format": FORMAT, "made": note, "blobs": blobs.to_json(), "answers": answers.to_json()}
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
