"""Weight files: reading and writing safetensors, and the digest that identifies a model in every result.

This module does not interpret the numbers.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dicom_config.errors import ConfigError

EMBEDDED_FILE = "embedded_sam.safetensors"
LOCALIZER_FILE = "localizer.safetensors"
COORDINATES_FILE = "coordinates.safetensors"
LESIONS_FILE = "lesions.safetensors"
REAL_LESIONS_FILE = "lesions_real.safetensors"
OUTLINES_FILE = "outlines.safetensors"
SHIPPED = (
    EMBEDDED_FILE,
    LOCALIZER_FILE,
    COORDINATES_FILE,
    LESIONS_FILE,
    REAL_LESIONS_FILE,
    OUTLINES_FILE,
)
"""Every file that an engine of this package may read."""


def packaged(name: str) -> Path:
    """Return the path of a weight file that is shipped inside the package."""
    return Path(str(resources.files("workers.models").joinpath("weights", name)))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises
    ------
    ConfigError
        ``weights-missing``: there is no readable file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            "weights-missing",
            f"The weight file {path} cannot be read ({error.strerror}).",
            "Correct `engine.checkpoint`, or install the package again if the file belongs to the package.",
        ) from None


def joint_digest(digests: list[str]) -> str:
    """Return one SHA-256 of several digests, in their order."""
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a model's state as safetensors."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, str(path), metadata=metadata)


def load_weights(model: nn.Module, path: Path) -> str:
    """Read safetensors into a model, and return the SHA-256 of the file. All keys must match.

    Raises
    ------
    ConfigError
        ``weights-missing``; ``weights-damaged``; ``weights-mismatch``: the file is of another architecture.
    """
    digest = file_digest(path)
    try:
        state: dict[str, Tensor] = load_file(str(path))
    except SafetensorError as error:
        raise ConfigError(
            "weights-damaged",
            f"The weight file {path} is truncated or damaged ({type(error).__name__}).",
            "Copy the checkpoint again, or install the package again if the file belongs to the package.",
        ) from None
    load_state(model, state, path)
    return digest


def load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put `state`, read from `path`, into a model and switch it to evaluation.

    Raises
    ------
    ConfigError
        ``weights-mismatch``: keys or shapes are of another architecture.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise ConfigError(
            "weights-mismatch",
            f"The weights in {path.name} do not fit the model {type(model).__name__}.",
            "Name the checkpoint that belongs to `engine.model`.",
        ) from None
    model.eval()
