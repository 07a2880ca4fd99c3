"""Checks of `uair check` that need the workers' code: weights and device.

This module imports torch before the checks run in parallel. If two threads import torch at the same time,
then the import fails.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from dicom_config.engine import SAM_MODELS
from dicom_config.errors import UairError
from dicom_config.model import EngineSection, Settings
from uair_node.operations.checks.finding import Finding, fault, good, of_error
from workers.models.registry import choose_device
from workers.models.sam_checkpoint import window_in_use
from workers.models.weights import SHIPPED, file_digest, packaged

_DISTRIBUTION = "uair-node"
_WEIGHTS = ".safetensors"


def check_model(settings: Settings) -> Iterable[Finding]:
    """Check that the weights are there and unchanged."""
    section = settings.engine
    try:
        wrong = _checkpoint(section) if section.checkpoint else _packaged()
        taken = "" if wrong else _normalisation(section)
    except UairError as error:
        return [of_error("model", error)]
    how = (
        "have the expected SHA-256"
        if _is_compared(section)
        else "can be read, but no SHA-256 is known for a comparison"
    )
    return [wrong or good("model", f"{section.model}, weights {how}{taken}")]


def check_device(settings: Settings) -> Iterable[Finding]:
    """Check that the configured device exists."""
    try:
        device = choose_device(settings.engine.device)
    except UairError as error:
        return [of_error("device", error)]
    return [good("device", f"{settings.engine.device}: the model runs on {device}")]


def altered_files(package: Distribution) -> Iterator[Path]:
    """Yield weight files that are missing, or whose SHA-256 differs from the recorded one.

    An editable installation records no SHA-256. Then only missing files are found.
    """
    for file in package.files or ():
        if file.suffix != _WEIGHTS:
            continue
        path = Path(str(package.locate_file(file)))
        if not path.is_file() or (file.hash is not None and _encoded(path) != file.hash.value):
            yield path


def _encoded(path: Path) -> str:
    """Return a file's SHA-256 in the form of RECORD files."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _checkpoint(section: EngineSection) -> Finding | None:
    path = section.checkpoint
    assert path is not None
    if not path.is_file():
        remedy = "Put the weights there, or set engine.model: embedded."
        return fault("model", "weights-missing", f"no checkpoint at {path}", remedy)
    if section.checkpoint_sha256 and file_digest(path) != section.checkpoint_sha256:
        return _altered(path, "Copy the checkpoint again, or correct engine.checkpoint_sha256.")
    return None


def _normalisation(section: EngineSection) -> str:
    """Return the normalisation of a checkpoint's input, and the reason for it."""
    if section.model not in SAM_MODELS or section.checkpoint is None:
        return ""
    by = "its SHA-256" if section.window == "auto" else "engine.window"
    window = window_in_use(section.window, file_digest(section.checkpoint))
    return f", input normalised as {window} ({by})"


def _packaged() -> Finding | None:
    for name in SHIPPED:
        file_digest(packaged(name))  # raises an error if the file cannot be read
    try:
        altered = next(altered_files(distribution(_DISTRIBUTION)), None)
    except PackageNotFoundError:
        return None
    return _altered(altered, "Install the package again.") if altered else None


def _is_compared(section: EngineSection) -> bool:
    """Return whether a SHA-256 was available for comparison with the weights."""
    if section.checkpoint:
        return bool(section.checkpoint_sha256)
    try:
        files = distribution(_DISTRIBUTION).files or ()
    except PackageNotFoundError:
        return False
    return any(file.suffix == _WEIGHTS and file.hash is not None for file in files)


def _altered(path: Path, remedy: str) -> Finding:
    sentence = f"{path} has another SHA-256 than expected"
    return fault("model", "weights-altered", sentence, remedy)
