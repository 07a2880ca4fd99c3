"""bfloat16 is used where a processor multiplies it, and nowhere else."""

import pytest
import torch

from workers.models import precision


@pytest.mark.parametrize("able", [True, False])
def test_convolutions_run_in_bfloat16_where_the_processor_does(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: able)
    layer = torch.nn.Conv3d(1, 1, 1)
    with precision.half_precision("cpu"):
        answer = layer(torch.zeros(1, 1, 2, 2, 2))
    assert answer.dtype == (torch.bfloat16 if able else torch.float32)


def test_a_gpu_is_asked_for_bfloat16_whatever_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    seen = []
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: seen.append((kind, dtype, enabled)))
    precision.half_precision("cuda")
    assert seen == [("cuda", torch.bfloat16, True)]
