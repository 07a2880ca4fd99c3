"""SAM's image encoder with fused attention: the results of ``ImageEncoderViT.forward``, with less memory.

`segment_anything` keeps the attention's scores in memory. At 1024 x 1024, these are 12 heads x 4096 x 4096
numbers for each slice and global block, and as many for their relative positions.
`scaled_dot_product_attention` does not store these numbers. Here, the decomposed relative positions become
further channels of its queries and keys. They increase the score of a query q with the key at row r and
column c by ``h_q[r] + w_q[c]``. This sum is the product of ``(h_q, w_q)`` with the two unit vectors of r and
c.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workers.models.segment_anything_adapter import get_rel_pos, window_partition, window_unpartition


def encode(encoder: Any, images: Tensor) -> Tensor:
    """Return the result of ``encoder(images)`` for a `segment_anything` ``ImageEncoderViT``.

    Parameters
    ----------
    images
        ``(B, 3, S, S)`` for encoders with patch embedding, else tokens ``(B, h, w, C)``.

    Returns
    -------
    Tensor
        Image embeddings ``(B, out, h, w)``.
    """
    tokens = encoder.patch_embed(images)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    for block in encoder.blocks:
        tokens = _through(block, tokens)
    embeddings: Tensor = encoder.neck(tokens.permute(0, 3, 1, 2))
    return embeddings


def _through(block: Any, tokens: Tensor) -> Tensor:
    normed = block.norm1(tokens)
    if block.window_size > 0:
        height, width = tokens.shape[1:3]
        windows, padded = window_partition(normed, block.window_size)
        seen = window_unpartition(_attend(block.attn, windows), block.window_size, padded, (height, width))
    else:
        seen = _attend(block.attn, normed)
    tokens = tokens + seen
    return tokens + block.mlp(block.norm2(tokens))


def _attend(attention: Any, tokens: Tensor) -> Tensor:
    """Return the attention's output ``(B, h, w, C)``."""
    count, height, width, channels = tokens.shape
    depth = channels // attention.num_heads
    split = attention.qkv(tokens).reshape(count, height * width, 3, attention.num_heads, depth)
    queries, keys, values = split.permute(2, 0, 3, 1, 4)
    if attention.use_rel_pos:
        queries, keys = _with_positions(attention, queries, keys, height, width)
        # The fused kernels need the same width for queries, keys and values.
        values = functional.pad(values, (0, height + width))
    found = functional.scaled_dot_product_attention(queries, keys, values, scale=1.0 / math.sqrt(depth))
    found = found[..., :depth].transpose(1, 2).reshape(count, height, width, channels)
    output: Tensor = attention.proj(found)
    return output


def _with_positions(
    attention: Any, queries: Tensor, keys: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return queries and keys ``(B, heads, h w, d + h + w)``, extended by the relative positions."""
    count, heads, number, depth = queries.shape
    grid = queries.view(count, heads, height, width, depth)
    rows = get_rel_pos(height, height, attention.rel_pos_h).to(queries.dtype)
    columns = get_rel_pos(width, width, attention.rel_pos_w).to(queries.dtype)
    # The kernel scales all products, but SAM scales only the products of queries and keys.
    by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, rows) * math.sqrt(depth)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", grid, columns) * math.sqrt(depth)
    asking = torch.cat([grid, by_row, by_column], dim=-1).view(count, heads, number, -1)
    at = torch.arange(number, device=keys.device)
    unit_rows = functional.one_hot(at // width, height)
    unit_columns = functional.one_hot(at % width, width)
    places = torch.cat([unit_rows, unit_columns], dim=1).to(keys.dtype)
    return asking, torch.cat([keys, places.expand(count, heads, -1, -1)], dim=-1)
