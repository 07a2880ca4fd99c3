"""Label volumes on grids of every direction, and the SEG that our writer makes of each volume."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from uair_node.dicom.volume import Volume, read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series

# At one bit each, 30 x 26 pixels are not a whole number of bytes. So frames share bytes (PS3.5 8.1.1).
SHAPE = (12, 30, 26)
SPACING = np.diag([2.5, 0.7, 0.9])
ORIGIN = [-110.5, -95.25, 301.0]


def tilted_about_x(degrees: float) -> np.ndarray:
    """Return the rotation ``(3, 3)`` about the x axis."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


# LPS directions of slices, rows and columns (array axes 0, 1, 2) as matrix columns.
UPRIGHT = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
GRIDS = {
    "upright": UPRIGHT,
    "slices downwards": UPRIGHT * [-1, 1, 1],
    "rows flipped": UPRIGHT * [1, -1, 1],
    "columns flipped": UPRIGHT * [1, 1, -1],
    "prone": UPRIGHT * [1, -1, -1],
    "all flipped": UPRIGHT * [-1, -1, -1],
    "oblique": tilted_about_x(10) @ UPRIGHT,
    "oblique, slices downwards, columns flipped": tilted_about_x(-10) @ (UPRIGHT * [-1, 1, -1]),
    "oblique about two axes": tilted_about_x(12) @ tilted_about_x(8)[:, [1, 2, 0]][[1, 2, 0]] @ UPRIGHT,
}


def affine_on(grid: str) -> np.ndarray:
    """Return the affine ``(4, 4)`` of a grid of `GRIDS`: index ``(z, y, x, 1)`` to LPS in mm."""
    affine = np.eye(4)
    affine[:3, :3] = GRIDS[grid] @ SPACING
    affine[:3, 3] = ORIGIN
    return affine


def series_of_labels(folder: Path, affine: np.ndarray) -> tuple[list[Path], Volume, np.ndarray]:
    """Write a series whose HU are 100 times the labels, so that only the writer's affine is the truth.

    Return the files in the order of axis 0, the volume from our reader, and the labels on `affine`.
    """
    labels = shapes_without_symmetry()
    paths = write_ct_series(folder / "ct", labels.astype(np.int16) * 100, affine)
    return paths, read_series(paths[::2] + paths[1::2]), labels


def shapes_without_symmetry() -> np.ndarray:
    """Return labels of liver and lesions 1 and 3, without symmetry in any direction."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 4:20, 3:18] = 1
    labels[3:6, 15:22, 5:9] = 1
    labels[4:7, 6:11, 4:8] = 2
    labels[8, 5:7, 12:17] = 4
    labels[8, 7, 13] = 4
    return labels


def request_for(labels: np.ndarray, *, round: int = 1, **changes: object) -> SegRequest:
    """Return the attributes of a SEG of `labels` other than its voxels."""
    lesions = [int(value) - 1 for value in np.unique(labels) if value > 1]
    values = {
        "sop_instance_uid": result_uid("instance"),
        "series_instance_uid": result_uid("series"),
        "k": 3,
        "character": "most inclusive",
        "provenance": Provenance(
            round=round,
            model_name="embedded",
            model_digest="0123456789abcdef" * 4,
            software_version="0.1.0",
            case_digest="f" * 64,
            content_datetime=datetime(2026, 1, 5, 10, 0, 1, 250),
        ),
        "tracking": {n: Tracking(f"UAIR lesion {n}", result_uid("lesion", n)) for n in lesions},
    }
    return SegRequest(**values | changes)


def written(volume: Volume, labels: np.ndarray, folder: Path, **changes: object) -> Path:
    """Write the SEG of `labels` into `folder` and return its file."""
    path = folder / "candidate.dcm"
    save_durably(write_seg(volume, labels, request_for(labels, **changes)), path)
    return path


def centres_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the centres of a mask's voxels, ``(N, 3)``, LPS in mm."""
    index = np.argwhere(mask)
    return index @ affine[:3, :3].T + affine[:3, 3]
