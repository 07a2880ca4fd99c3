"""The embedded model's mask decoder for inference: the same results as `EmbeddedSam.decode`, with less work.

Training uses `EmbeddedSam.decode`, with the modules of segment_anything. A round has about a thousand
prompts. Many of them share a slice and a mask. So this module computes the same numbers (to float32 rounding)
in another order of operations:

- Values that depend only on slice and mask are computed once for all prompts with this slice and mask.
- SAM's cross attention projects all 256 image tokens to queries, keys and values. There are at most ten
  prompt tokens, so the projections are applied to the prompt tokens instead: ``q (W k)' = (q W) k'`` and
  ``A (k W) = (A k) W``. A key's bias shifts all scores of a query equally and has no effect on the softmax.
- A transposed convolution of stride 2 is a linear map from each cell to its four children. Cells stay in
  that nested order, channels last, until the masks are finished, so that no array is transposed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from workers.models.embedded import MASK_PROMPT_LIMIT, EmbeddedSam, ImageFeatures


class NestedFeatures(NamedTuple):
    """`ImageFeatures` of ``B`` images in channels-last order.

    The four children of a cell follow each other.
    """

    embedding: Tensor
    """``(B, 256, 128)``: the image embedding."""
    quarter: Tensor
    """``(B, 4096, 16)``: the features at stride 4."""
    eighth: Tensor
    """``(B, 1024, 32)``: the features at stride 8."""


def nested(features: ImageFeatures) -> NestedFeatures:
    """Convert features to the order of `EmbeddedDecoder`."""
    return NestedFeatures(
        _nested(features.embedding, 0), _nested(features.quarter, 2), _nested(features.eighth, 1)
    )


class Situations(NamedTuple):
    """The different pairs of slice and mask among prompts, as image tokens ``(U, 256, 128)``."""

    keys: Tensor
    placed: Tensor
    """`keys` with the positional encoding added."""


class _Projection(NamedTuple):
    """A linear map: weight ``(outputs, inputs)`` and bias ``(outputs,)``."""

    weight: Tensor
    bias: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight, self.bias)


class _Cross(NamedTuple):
    """A cross attention of ``h`` heads, whose projections are applied to the prompt tokens."""

    score: _Projection
    """``C -> h C``: each token as a linear form on image tokens, for each head."""
    value: _Projection
    """The map of values.

    If prompt tokens query the image, it maps attended image tokens, ``h C -> C``. If the image queries
    prompt tokens, it maps prompt tokens, ``C -> h C``.
    """
    offset: Tensor
    """``(h, C)``: the effect of the image queries' bias on the scores of a token."""


class EmbeddedDecoder:
    """Computes the masks for prompts as `EmbeddedSam.decode` does, for inference only.

    Parameters
    ----------
    model
        The model. Its weights are read at construction.
    """

    def __init__(self, model: EmbeddedSam) -> None:
        self._prompts: Any = model.prompt_encoder
        self._decoder: Any = model.mask_decoder
        transformer = self._decoder.transformer
        with torch.inference_mode():
            self._position = self._prompts.get_dense_pe().flatten(2).transpose(1, 2).contiguous()
            self._own = torch.cat([self._decoder.iou_token.weight, self._decoder.mask_tokens.weight])
            self._layers = [
                (layer, _asking(layer.cross_attn_token_to_image), _asked(layer.cross_attn_image_to_token))
                for layer in transformer.layers
            ]
            self._last = _asking(transformer.final_attn_token_to_image)
            self._to_eighth = _children(self._decoder.to_eighth)
            self._to_quarter = _children(self._decoder.to_quarter)

    def situations(self, features: NestedFeatures, image_of: Tensor, masks: Tensor | None) -> Situations:
        """Prepare the different pairs of slice and mask.

        Parameters
        ----------
        image_of
            ``(U,)`` long.
        masks
            ``(U, 1, 64, 64)`` logits of an earlier mask, or None.
        """
        if masks is None:
            dense = self._prompts.no_mask_embed.weight[:, None]
        else:
            downscale = self._prompts.mask_downscaling
            dense = downscale(masks.clamp(-MASK_PROMPT_LIMIT, MASK_PROMPT_LIMIT)).flatten(2).transpose(1, 2)
        keys = features.embedding[image_of] + dense
        return Situations(keys, keys + self._position)

    def decode(
        self,
        features: NestedFeatures,
        image_of: Tensor,
        situations: Situations,
        situation_of: Tensor,
        boxes: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the masks for ``P`` prompts. Inputs and results have the form of `EmbeddedSam.decode`.

        Parameters
        ----------
        image_of, situation_of
            ``(P,)`` int64, the image and the pair of slice and mask (`situations`) of each prompt. Prompts of
            one image should follow each other.
        """
        asked, _ = self._prompts(points=points, boxes=boxes, masks=None)
        tokens = torch.cat([self._own.expand(len(asked), -1, -1), asked], dim=1)
        answers, keys = self._two_ways(tokens, situations.keys[situation_of], situations.placed[situation_of])
        decoder = self._decoder
        images, counts = torch.unique_consecutive(image_of, return_counts=True)
        runs = list(zip(images.tolist(), counts.tolist(), strict=True))
        up = _finer(self._to_eighth, keys, features.eighth, runs, decoder.norm_eighth)
        up = _finer(self._to_quarter, up, features.quarter, runs, decoder.norm_quarter)
        heads = enumerate(decoder.output_hypernetworks_mlps, start=1)
        weights = torch.stack([mlp(answers[:, index]) for index, mlp in heads], dim=1)
        logits = _raster(weights @ up.transpose(1, 2), levels=2)
        return logits, decoder.iou_prediction_head(answers[:, 0])

    def _two_ways(self, tokens: Tensor, keys: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """Return prompt tokens ``(P, T, C)`` and image tokens ``(P, 256, C)`` after the transformer."""
        queries = tokens
        for layer, asking, asked in self._layers:
            if layer.skip_first_layer_pe:
                queries = layer.self_attn(q=queries, k=queries, v=queries)
            else:
                own = queries + tokens
                queries = queries + layer.self_attn(q=own, k=own, v=queries)
            queries = layer.norm1(queries)
            queries = layer.norm2(queries + _attend(asking, queries + tokens, placed, keys))
            queries = layer.norm3(queries + layer.mlp(queries))
            keys = layer.norm4(_attended(asked, queries + tokens, queries, placed, keys))
            placed = keys + self._position
        queries = queries + _attend(self._last, queries + tokens, placed, keys)
        return self._decoder.transformer.norm_final_attn(queries), keys


def _attend(cross: _Cross, queries: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
    """Return the attention's result for tokens ``(P, T, C)`` that query the image."""
    count, _, width = queries.shape
    scores = cross.score(queries).view(count, -1, width) @ placed.transpose(1, 2)
    found = torch.softmax(scores, dim=-1) @ keys
    return cross.value(found.view(count, queries.shape[1], -1))


def _attended(cross: _Cross, placed_queries: Tensor, queries: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
    """Return the image tokens after they attended to the tokens ``(P, T, C)``."""
    count, number, width = queries.shape
    offset = functional.linear(placed_queries, cross.offset).view(count, -1, 1)
    forms = cross.score(placed_queries).view(count, -1, width)
    scores = torch.baddbmm(offset, forms, placed.transpose(1, 2))
    # Rows are tokens, then heads; the softmax runs over tokens.
    shares = torch.softmax(scores.view(count, number, -1), dim=1).view(count, -1, keys.shape[1])
    return torch.baddbmm(keys, shares.transpose(1, 2), cross.value(queries).view(count, -1, width))


def _finer(
    to_children: _Projection, cells: Tensor, skips: Tensor, runs: list[tuple[int, int]], norm: Any
) -> Tensor:
    """Return four children ``(P, 4 n, c)`` of each cell, and add the stem's features of the image."""
    up = to_children(cells).view(len(cells), -1, skips.shape[-1])
    start = 0
    for image, count in runs:
        up[start : start + count] += skips[image]
        start += count
    return functional.gelu(functional.layer_norm(up, norm.weight.shape, norm.weight, norm.bias, norm.eps))


def _heads_of(attention: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of query, key and value ``(h, d, C)`` and of the output ``(C, h, d)``."""
    heads, width = attention.num_heads, attention.embedding_dim
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    q, k, v = (part.weight.view(heads, -1, width) for part in parts)
    return q, k, v, attention.out_proj.weight.view(width, heads, -1)


def _asking(attention: Any) -> _Cross:
    """Rearrange the attention with which tokens query the image."""
    q, k, v, out = _heads_of(attention)
    heads, depth, width = q.shape
    bias = attention.q_proj.bias.view(heads, depth)
    score = torch.einsum("hdi,hdj->hij", k, q) / math.sqrt(depth)
    score_bias = torch.einsum("hdi,hd->hi", k, bias) / math.sqrt(depth)
    value = torch.einsum("ohd,hdi->ohi", out, v)
    value_bias = attention.out_proj.weight @ attention.v_proj.bias + attention.out_proj.bias
    return _Cross(
        _Projection(score.reshape(-1, width), score_bias.reshape(-1)),
        _Projection(value.reshape(width, -1), value_bias),
        torch.zeros(0),
    )


def _asked(attention: Any) -> _Cross:
    """Rearrange the attention with which the image queries tokens."""
    q, k, v, out = _heads_of(attention)
    heads, depth, width = q.shape
    score = torch.einsum("hdi,hdj->hij", q, k) / math.sqrt(depth)
    offset = torch.einsum("hd,hdj->hj", attention.q_proj.bias.view(heads, depth), k) / math.sqrt(depth)
    value = torch.einsum("ohd,hdi->hoi", out, v)
    value_bias = torch.einsum("ohd,hd->ho", out, attention.v_proj.bias.view(heads, depth))
    # A head's shares add up to one, so each head can add its fraction of the output's bias.
    value_bias = value_bias + attention.out_proj.bias / heads
    return _Cross(
        _Projection(score.reshape(-1, width), torch.zeros(heads * width, device=score.device)),
        _Projection(value.reshape(-1, width), value_bias.reshape(-1)),
        offset,
    )


def _children(convolution: Any) -> _Projection:
    """Return a 2 x 2 transposed convolution of stride 2 as a map from a cell to its children."""
    weight = convolution.weight  # (inputs, outputs, 2, 2)
    return _Projection(weight.permute(2, 3, 1, 0).reshape(-1, len(weight)), convolution.bias.repeat(4))


def _nested(maps: Tensor, levels: int) -> Tensor:
    """Return maps ``(B, C, H, W)`` as ``(B, H W, C)``, cells nested `levels` times in 2 x 2 parents."""
    count, channels, height, width = maps.shape
    halves = [2] * levels
    rows, columns = [height >> levels, *halves], [width >> levels, *halves]
    depth = levels + 1
    split = maps.view(count, channels, *rows, *columns)
    order = [axis for level in range(depth) for axis in (2 + level, 2 + depth + level)]
    return split.permute(0, *order, 1).reshape(count, height * width, channels)


def _raster(cells: Tensor, levels: int) -> Tensor:
    """Return nested cells ``(P, M, n)`` as square maps ``(P, M, h, w)``."""
    count, tokens, number = cells.shape
    side = math.isqrt(number)
    depth = levels + 1
    split = cells.view(count, tokens, side >> levels, side >> levels, *[2] * (2 * levels))
    order = [*range(2, 2 + 2 * depth, 2), *range(3, 3 + 2 * depth, 2)]
    return split.permute(0, 1, *order).reshape(count, tokens, side, side)
