"""Decide where networks may compute in bfloat16."""

from __future__ import annotations

import torch


def half_precision(device: torch.device | str) -> torch.autocast:
    """Return the context in which convolutions run in bfloat16, if the device multiplies such matrices.

    A processor without AVX512-bf16 or AMX emulates bfloat16: a convolution took 6.9 s instead of .026 s. For
    such a processor, the context changes nothing.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or multiplies_bfloat16())


def multiplies_bfloat16() -> bool:
    """Return whether this machine's processor has instructions for bfloat16."""
    mkldnn = torch.backends.mkldnn
    return bool(mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
