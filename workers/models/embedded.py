"""The embedded model: a small SAM that runs on two CPU cores.

It uses `segment_anything`'s own classes of encoder, prompt encoder and decoder. Two things differ from the
published SAM, because lesions and the network are small. A convolutional stem replaces the patch embedding.
The stem's features at strides 4 and 8 reach the mask decoder by skip connections. The input has the shape
256 x 256 x 3 (`workers.models.windows.to_channels`). The output is four masks of 64 x 64 logits.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.models.segment_anything_adapter import (
    ImageEncoderViT,
    LayerNorm2d,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)

INPUT_SIZE = 256
MASK_SIZE = 64
GRID_SIZE = 16
EMBED_DIM = 128
STEM_WIDTHS = (24, 48, 96)
TOKEN_COUNT = 4
"""Mask tokens: 0 is the single-mask token, 1 to 3 are SAM's three alternatives."""
MASK_PROMPT_LIMIT = 10.0
"""Training limited the logits of mask prompts to this magnitude."""


class ImageFeatures(NamedTuple):
    """The encoder's outputs for ``B`` images, all on one device."""

    embedding: Tensor
    """``(B, 128, 16, 16)``: the image embedding."""
    quarter: Tensor
    """``(B, 16, 64, 64)``: the features at stride 4, projected for the decoder."""
    eighth: Tensor
    """``(B, 32, 32, 32)``: the features at stride 8, projected for the decoder."""

    def to(self, device: torch.device) -> ImageFeatures:
        """Return the same features on `device`."""
        return ImageFeatures(*(part.to(device) for part in self))


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.GELU()]


class ConvolutionalStem(nn.Module):
    """Four convolutions of stride 2 from pixels to tokens. It returns intermediate maps for the decoder."""

    def __init__(self, channels: int, token_dim: int) -> None:
        super().__init__()
        w2, w4, w8 = STEM_WIDTHS
        self.stride2 = nn.Sequential(*_convolution(channels, w2, 2))
        self.stride4 = nn.Sequential(*_convolution(w2, w4, 2), *_convolution(w4, w4, 1))
        self.stride8 = nn.Sequential(*_convolution(w4, w8, 2), *_convolution(w8, w8, 1))
        self.tokens = nn.Conv2d(w8, token_dim, 3, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens ``(B, 16, 16, D)`` and the maps at strides 4 and 8."""
        quarter = self.stride4(self.stride2(images))
        eighth = self.stride8(quarter)
        return self.tokens(eighth).permute(0, 2, 3, 1), quarter, eighth


class SkipMaskDecoder(MaskDecoder):
    """SAM's mask decoder, whose upscaling also gets the stem's features."""

    def __init__(self) -> None:
        super().__init__(
            num_multimask_outputs=TOKEN_COUNT - 1,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=384, num_heads=4),
            transformer_dim=EMBED_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        )
        del self.output_upscaling
        _, w4, w8 = STEM_WIDTHS
        self.to_eighth = nn.ConvTranspose2d(EMBED_DIM, 32, 2, 2)
        self.norm_eighth = LayerNorm2d(32)
        self.skip_eighth = nn.Conv2d(w8, 32, 1)
        self.to_quarter = nn.ConvTranspose2d(32, 16, 2, 2)
        self.norm_quarter = LayerNorm2d(16)
        self.skip_quarter = nn.Sequential(nn.Conv2d(w4, 32, 3, 1, 1), nn.GELU(), nn.Conv2d(32, 16, 1))

    def masks_of(
        self, features: ImageFeatures, image_of: Tensor, position: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``(P, 4, 64, 64)`` and predicted IoU ``(P, 4)`` of ``P`` prompts."""
        count = sparse.shape[0]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), sparse], dim=1)
        source = features.embedding[image_of] + dense
        tokens, attended = self.transformer(source, position.expand(count, -1, -1, -1), tokens)
        up = attended.transpose(1, 2).reshape(source.shape)
        up = functional.gelu(self.norm_eighth(self.to_eighth(up) + features.eighth[image_of]))
        up = functional.gelu(self.norm_quarter(self.to_quarter(up) + features.quarter[image_of]))
        heads = enumerate(self.output_hypernetworks_mlps, start=1)
        weights = torch.stack([mlp(tokens[:, index]) for index, mlp in heads], dim=1)
        logits = (weights @ up.flatten(2)).unflatten(2, up.shape[2:])
        return logits, self.iou_prediction_head(tokens[:, 0])


class EmbeddedSam(nn.Module):
    """The whole embedded model. `encode` runs once for each image, `decode` once for each prompt.

    Parameters
    ----------
    token_dim
        Width of the vision transformer.
    depth
        Number of the transformer's blocks.
    global_blocks
        Indices of the blocks that attend to all 16 x 16 tokens. All other blocks attend inside 8 x 8 windows.
    """

    def __init__(self, token_dim: int = 192, depth: int = 4, global_blocks: tuple[int, ...] = (1, 3)) -> None:
        super().__init__()
        self.stem = ConvolutionalStem(3, token_dim)
        self.image_encoder: Any = ImageEncoderViT(
            img_size=INPUT_SIZE,
            patch_size=INPUT_SIZE // GRID_SIZE,
            embed_dim=token_dim,
            depth=depth,
            num_heads=6,
            mlp_ratio=3,
            out_chans=EMBED_DIM,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=False,
            window_size=8,
            global_attn_indexes=global_blocks,
        )
        self.image_encoder.patch_embed = nn.Identity()  # its input is the stem's tokens
        self.prompt_encoder: Any = PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(GRID_SIZE, GRID_SIZE),
            input_image_size=(INPUT_SIZE, INPUT_SIZE),
            mask_in_chans=16,
        )
        self.mask_decoder = SkipMaskDecoder()

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode ``(B, 3, 256, 256)`` channels of `to_channels`."""
        tokens, quarter, eighth = self.stem(images)
        return ImageFeatures(
            self.image_encoder(tokens),
            self.mask_decoder.skip_quarter(quarter),
            self.mask_decoder.skip_eighth(eighth),
        )

    def decode(
        self,
        features: ImageFeatures,
        image_of: Tensor,
        boxes: Tensor | None,
        points: tuple[Tensor, Tensor] | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the masks for ``P`` prompts.

        Parameters
        ----------
        features
            The result of `encode`.
        image_of
            ``(P,)`` int64, the image of each prompt.
        boxes
            ``(P, 4)`` x0, y0, x1, y1 in pixels of the 256 x 256 input.
        points
            ``(P, n, 2)`` x, y in the same pixels, and labels ``(P, n)``: 1 inside, 0 outside, -1 padding.
        masks
            ``(P, 1, 64, 64)`` logits of an earlier mask.

        Returns
        -------
        tuple of Tensor
            Logits ``(P, 4, 64, 64)`` and predicted IoU ``(P, 4)``; index 0 is the single-mask token.
        """
        if masks is not None:
            masks = masks.clamp(-MASK_PROMPT_LIMIT, MASK_PROMPT_LIMIT)
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        position = self.prompt_encoder.get_dense_pe()
        return self.mask_decoder.masks_of(features, image_of, position, sparse, dense)
