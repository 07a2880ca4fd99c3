"""Independent readers of a SEG: dcmqi reads it, and dciodvfy compares it with the standard."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.server import need

_DTYPES = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1"}


@dataclass(frozen=True)
class ReadSegment:
    """One segment that a program read: a mask `(Z, Y, X)` and its affine, voxel (k, j, i, 1) to LPS mm."""

    label: str
    tracking_uid: str
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    affine: np.ndarray[Any, np.dtype[np.float64]]
    rgb: tuple[int, int, int] | None = None

    def covers_exactly(self, points_mm: np.ndarray[Any, Any]) -> bool:
        """Return whether the centres of the mask's voxels are exactly `points_mm` `(N, 3)`, LPS."""
        homogeneous = np.c_[points_mm, np.ones(len(points_mm))]
        exact = (np.linalg.inv(self.affine) @ homogeneous.T)[:3].T
        index = np.rint(exact).astype(int)
        inside = (index >= 0).all() and (index < self.mask.shape).all()
        if not inside or np.abs(exact - index).max() > 1e-2:
            return False
        expected = np.zeros_like(self.mask)
        expected[tuple(index.T)] = True
        return bool((expected == self.mask).all())


def read_segments(seg: Path, folder: Path) -> list[ReadSegment]:
    """Convert `seg` by dcmqi's segimage2itkimage into the empty `folder` and return its segments in order."""
    (program,) = need("segimage2itkimage", folders=[Path(sys.executable).parent])
    command = [program, "--inputDICOM", seg, "--outputDirectory", folder, "-t", "nrrd"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    meta = json.loads((folder / "meta.json").read_text())
    segments = []
    for number, (attributes,) in enumerate(meta["segmentAttributes"], 1):
        values, affine = read_nrrd(folder / f"{number}.nrrd")
        assert set(np.unique(values)) <= {0, attributes["labelID"]}
        segments.append(
            ReadSegment(
                label=attributes["SegmentLabel"],
                tracking_uid=attributes.get("TrackingUniqueIdentifier", ""),
                mask=values > 0,
                affine=affine,
                rgb=tuple(attributes["recommendedDisplayRGBValue"]),
            )
        )
    return segments


def read_nrrd(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, np.dtype[np.float64]]]:
    """Read an attached NRRD of three dimensions in LPS as array `(Z, Y, X)` and affine."""
    head, body = path.read_bytes().split(b"\n\n", 1)
    fields = dict(
        line.split(": ", 1) for line in head.decode("ascii").splitlines()[1:] if not line.startswith("#")
    )
    assert fields["space"] == "left-posterior-superior"
    raw = gzip.decompress(body) if fields["encoding"] == "gzip" else body
    sizes = [int(size) for size in fields["sizes"].split()]
    array = np.frombuffer(raw, _DTYPES[fields["type"]]).reshape(sizes[::-1])
    affine = np.eye(4)
    # The file lists the fastest axis first, the array has it last.
    for axis, direction in zip(
        (2, 1, 0), re.findall(r"\(([^)]*)\)", fields["space directions"]), strict=True
    ):
        affine[:3, axis] = [float(x) for x in direction.split(",")]
    affine[:3, 3] = [float(x) for x in fields["space origin"].strip("()").split(",")]
    return array, affine
