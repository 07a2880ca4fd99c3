"""Training of the TransUNet, a network for comparison in the evaluation."""

from __future__ import annotations

from workers.research.training.slices import train_slice_network
from workers.research.training.training_run import ProgressCallback, TrainOptions, TrainReport


def train_transunet(options: TrainOptions, progress: ProgressCallback | None = None) -> TrainReport:
    """Train the TransUNet and write its weights, see `train_slice_network`."""
    return train_slice_network("transunet", options, progress)
