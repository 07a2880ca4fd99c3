"""The common part of both Python readers of SEG: job and form of the answer.

It runs outside our environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def answer_job(read: Callable[..., Any]) -> None:
    """Read each object of the job by `read(path)`.

    `read` returns segment numbers `(Z, Y, X)`, and origin, spacing and direction in ITK's order (x, y, z). It
    also returns number, label and Tracking UID of each segment.
    """
    answers = []
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        voxels, origin, spacing, direction, segments = read(entry["segmentation"])
        Path(entry["labels"]).write_bytes(np.ascontiguousarray(voxels, np.uint8).tobytes())
        axes = np.asarray(direction, float).reshape(3, 3) * np.asarray(spacing, float)
        affine = np.eye(4)
        affine[:3, :3] = axes[:, ::-1]
        affine[:3, 3] = origin
        names = ("number", "label", "tracking_uid")
        answers.append(
            {
                "shape": voxels.shape,
                "affine": affine.tolist(),
                "segments": [dict(zip(names, segment, strict=True)) for segment in segments],
            }
        )
    Path(sys.argv[2]).write_text(json.dumps(answers))
