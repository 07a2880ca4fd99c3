"""Published SAM checkpoints (`vit_b`, `vit_l`, `vit_h`; MedSAM is a `vit_b`) as a `Predictor`.

The preprocessing is the same as in the paper and MedSAM. The input is the whole slice at 1024 x 1024, with HU
clipped to [-500, 1000] and stretched to 0 … 255. The three channels are equal. The original checkpoints then
need SAM's own normalisation. MedSAM was trained on values in 0 … 1 without this normalisation. Both kinds of
checkpoint have the same architecture. So the configuration or the file's SHA-256 decides the kind, never the
file's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_config.engine import Window
from dicom_config.errors import ConfigError
from workers.models import fused_encoder
from workers.models.batches import Batches
from workers.models.segment_anything_adapter import sam_model_registry
from workers.models.weights import file_digest, load_state
from workers.models.windows import to_medsam_bytes
from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

PUBLISHED_SAM = frozenset(
    {
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    }
)
"""SHA-256 of `vit_b`, `vit_l` and `vit_h` as the authors of SAM publish them."""
ENCODE_BATCH = 1
DECODE_BATCH = 32


def window_in_use(window: Window, digest: str) -> Literal["sam", "medsam"]:
    """Return the normalisation of a checkpoint's input.

    Parameters
    ----------
    window
        The configured value.
    digest
        SHA-256 of the file.

    Raises
    ------
    ConfigError
        ``checkpoint-window``: the value is ``auto``, and the file is no published SAM checkpoint.
    """
    if window != "auto":
        return window
    if digest in PUBLISHED_SAM:
        return "sam"
    raise ConfigError(
        "checkpoint-window",
        f"The checkpoint with SHA-256 {digest[:12]}… is unknown, and so is its normalisation.",
        "Set `engine.window` to medsam for MedSAM and for checkpoints that were trained like MedSAM. Set "
        "it to sam for all others.",
    )


class SamCheckpointPredictor:
    """Computes the masks for prompts with a published SAM.

    Parameters
    ----------
    model
        A `segment_anything` ``Sam``.
    name
        The model's name in the registry.
    digest
        SHA-256 of the model's weights.
    device
        The device on which the model runs.
    unit_range
        Whether input values are in 0 … 1 (MedSAM) instead of SAM's normalisation.
    """

    whole_slice = True

    def __init__(
        self, model: Any, name: str, digest: str, device: torch.device, *, unit_range: bool = False
    ) -> None:
        self.name = name
        self.digest = digest
        self.device = device.type
        self.input_size: int = model.image_encoder.img_size
        self.mask_size: int = 4 * model.prompt_encoder.image_embedding_size[0]
        self._device = device
        self._unit_range = unit_range
        self._model = model.eval().to(device)
        self._batches = Batches(device, gpu_factor=8)

    @classmethod
    def from_checkpoint(
        cls, name: str, path: Path | None, device: torch.device, window: Window
    ) -> SamCheckpointPredictor:
        """Read a ``.pth`` file. Only tensors are unpickled.

        Raises
        ------
        ConfigError
            ``checkpoint-missing``, ``weights-missing``, ``checkpoint-window``, ``checkpoint-unsafe`` or
            ``weights-mismatch``.
        """
        if path is None:
            raise ConfigError(
                "checkpoint-missing",
                f"The model {name} needs a checkpoint.",
                "Set `engine.checkpoint` to the path of its .pth file.",
            )
        digest = file_digest(path)
        medsam = window_in_use(window, digest) == "medsam"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler and the zip reader raise many kinds of errors
            raise ConfigError(
                "checkpoint-unsafe",
                f"The checkpoint {path.name} is not a plain file of tensors ({type(error).__name__}).",
                "Name the unchanged .pth file from the authors of the model.",
            ) from None
        model = sam_model_registry[name]()
        load_state(model, state, path)
        return cls(model, "medsam" if medsam else name, digest, device, unit_range=medsam)

    def encode(self, hu: Float32, neighbours: Float32) -> Tensor:
        """Encode whole slices ``(n, 1024, 1024)``; neighbours are not used.

        The model runs in bfloat16 on CUDA, in float32 elsewhere.
        """
        del neighbours

        def encode_part(part: slice) -> Tensor:
            grey = torch.from_numpy(to_medsam_bytes(hu[part])).to(self._device)
            colour = grey[:, None].expand(-1, 3, -1, -1)
            ready = colour / 255.0 if self._unit_range else self._model.preprocess(colour)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
                return fused_encoder.encode(self._model.image_encoder, ready).float()

        return torch.cat(self._batches.map(encode_part, len(hu), ENCODE_BATCH))

    def decode(self, embeddings: Tensor, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Return the masks for prompts; see `Predictor.decode`."""
        order = np.argsort(prompts.slices, kind="stable")
        logits = np.empty((len(prompts), 4, self.mask_size, self.mask_size), np.float32)
        quality = np.empty((len(prompts), 4), np.float32)
        # SAM's decoder takes one image and many prompts, so prompts are grouped by slice.
        starts = np.flatnonzero(np.diff(prompts.slices[order], prepend=-1))
        for group in np.split(order, starts[1:]):
            for start in range(0, len(group), DECODE_BATCH):
                rows = group[start : start + DECODE_BATCH]
                logits[rows], quality[rows] = self._answer(embeddings, prompts, rows)
        return logits, quality

    def _answer(
        self, embeddings: Tensor, prompts: Prompts, rows: NDArray[np.intp]
    ) -> tuple[Float32, NDArray[np.float32]]:
        points = None
        if prompts.points is not None and prompts.labels is not None:
            points = (self._tensor(prompts.points[rows]), self._tensor(prompts.labels[rows]))
        masks = None if prompts.masks is None else self._tensor(prompts.masks[rows])[:, None]
        with torch.inference_mode():
            sparse, dense = self._model.prompt_encoder(
                points=points, boxes=self._tensor(prompts.boxes[rows]), masks=masks
            )
            logits, quality = self._model.mask_decoder.predict_masks(
                image_embeddings=embeddings[int(prompts.slices[rows[0]])][None],
                image_pe=self._model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return logits.float().cpu().numpy(), quality.float().cpu().numpy()

    def parts_of(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """Return the tensor of image embeddings, as a tuple."""
        return (embeddings,)

    def from_parts(self, parts: tuple[Tensor, ...]) -> Tensor:
        """Return the image embeddings."""
        (embeddings,) = parts
        return embeddings.to(self._device)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
