"""Measurement reports by the JavaScript libraries that viewers use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.foreign_readers import node_program
from tests.support.missed import MissedCase, Pixel, Place, in_space


def ohif_marks(missed: MissedCase, marks: Sequence[tuple[str, int, Sequence[Place], str]]) -> Path:
    """Let OHIF's adapters write a report of these marks: tool, slice, points (z, y, x), label."""
    images = [str(source.path) for source in missed.volume.slices]
    drawn = [
        {"tool": tool, "image": images[k], "points": in_space(points), "label": label}
        for tool, k, points, label in marks
    ]
    return _written(missed, "write_marks.mjs", {"images": images, "marks": drawn})


def dcmjs_marks(missed: MissedCase, marks: Sequence[tuple[int, Sequence[Pixel], str]]) -> Path:
    """Let dcmjs write a report of these marks: slice, points (column, row), label."""
    drawn = [
        {"image": str(missed.volume.slices[k].path), "points": points, "label": label}
        for k, points, label in marks
    ]
    return _written(missed, "write_dcmjs_marks.mjs", {"marks": drawn})


def _written(missed: MissedCase, program: str, job: dict[str, Any]) -> Path:
    folder = missed.context.store.root.parent
    path, report = folder / "job.json", folder / "report.dcm"
    path.write_text(json.dumps(job | {"report": str(report)}))
    command = [*node_program(program, folder), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return report
