"""Readers of SEG that share no code with ours: dcmjs and Cornerstone in Node.js, pydicom-seg, itkwasm-dicom.

Each reader is a small program in `foreign/` that reads a list of objects in one process.
scripts/install-peers.sh installs the packages that they import into the user's cache folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.dcmqi import ReadSegment
from tests.support.server import absent, need, peers_folder

PROGRAMS: Mapping[str, str] = {
    "@cornerstonejs/adapters": "read_cornerstone.mjs",
    "dcmjs": "read_dcmjs.mjs",
    "pydicom-seg": "read_pydicom_seg.py",
    "itkwasm-dicom": "read_itkwasm.py",
}
_SOURCE = Path(__file__).with_name("foreign")


@dataclass(frozen=True)
class SegOnSeries:
    """A SEG file and its series.

    Attributes
    ----------
    segmentation
        The SEG's file.
    images
        The file of each slice, in the order of axis 0. All frames of a multi-frame image have the same file.
    frames
        The frame number of each of `images`; None for a single-frame image. Empty if all are single-frame.
    affine
        ``(4, 4)``: index ``(z, y, x, 1)`` on the series to LPS in mm.
    """

    segmentation: Path
    images: Sequence[Path]
    affine: np.ndarray[Any, np.dtype[np.float64]]
    frames: Sequence[int | None] = ()

    def entries(self) -> list[dict[str, Any]]:
        """Return the images in the form of the programs' job."""
        frames = self.frames or [None] * len(self.images)
        return [{"path": str(path), "frame": frame} for path, frame in zip(self.images, frames, strict=True)]


def node_program(name: str, folder: Path) -> list[str]:
    """Return the command of a JavaScript program in `foreign/`, copied into `folder` beside its packages."""
    (node,) = need("node")
    packages = peers_folder() / "node" / "node_modules"
    if not packages.is_dir():
        absent("not installed: the packages of scripts/peers/package.json")
    for source in _SOURCE.glob("*.mjs"):
        shutil.copy(source, folder)
    link = folder / "node_modules"
    if not link.exists():
        link.symlink_to(packages)
    return [str(node), str(folder / name)]


def read_segs(reader: str, objects: Sequence[SegOnSeries], folder: Path) -> list[list[ReadSegment]]:
    """Let `reader`, a key of `PROGRAMS`, read `objects`; return the segments of each object."""
    program = PROGRAMS[reader]
    command = node_program(program, folder) if program.endswith(".mjs") else python_program(program)
    job, answer = folder / "job.json", folder / "answer.json"
    labels = [folder / f"labels-{number}" for number in range(len(objects))]
    job.write_text(
        json.dumps(
            [
                {
                    "images": read.entries(),
                    "segmentation": str(read.segmentation),
                    "labels": str(path),
                }
                for read, path in zip(objects, labels, strict=True)
            ]
        )
    )
    done = subprocess.run(
        [*command, str(job), str(answer)], capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [
        _segments(found, path, read.affine)
        for found, path, read in zip(json.loads(answer.read_text()), labels, objects, strict=True)
    ]


def python_program(name: str) -> list[str]:
    """Return the command of a Python program in `foreign/`, with the interpreter that has its packages."""
    python = peers_folder() / "python" / "bin" / "python"
    if not python.exists():
        absent("not installed: the packages of scripts/peers/requirements.txt")
    return [str(python), str(_SOURCE / name)]


def _segments(
    found: Mapping[str, Any], labels: Path, affine: np.ndarray[Any, np.dtype[np.float64]]
) -> list[ReadSegment]:
    values = np.fromfile(labels, np.uint8).reshape(found["shape"])
    numbers = [segment["number"] for segment in found["segments"]]
    assert set(np.unique(values)) <= {0, *numbers}
    return [
        ReadSegment(
            label=segment["label"],
            tracking_uid=segment["tracking_uid"],
            mask=values == segment["number"],
            affine=np.array(found.get("affine", affine), float),
        )
        for segment in found["segments"]
    ]
