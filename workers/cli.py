"""The commands of the workers. `uair` finds their table through an entry point."""

from __future__ import annotations

from uair_node.commands.lazy import LazyCommand

_RUN, _TRY, _ENGINE = "Run", "Try out", "Engine"
_COMMANDS = {
    "worker": LazyCommand(
        "workers.process.worker_command:worker", "Run one worker process for one queue.", _RUN
    ),
    "demo": LazyCommand("workers.demo.cli:demo", "Demonstrate the whole loop with real processes.", _TRY),
    "phantom": LazyCommand("workers.demo.cli:phantom", "Write a phantom as a CT or MR series.", _TRY),
    "evaluate": LazyCommand(
        "workers.research.evaluation.cli:evaluate",
        "Compare the engine's segmentations with true masks.",
        _ENGINE,
    ),
    "train": LazyCommand("workers.research.training.cli:train", "Train a network of the engine.", _ENGINE),
    "templates": LazyCommand(
        "workers.research.template_commands:templates_app",
        "Manage the template scans that locate the liver.",
        _ENGINE,
    ),
}


def add_commands(commands: dict[str, LazyCommand]) -> None:
    """Add the workers' commands to the commands of `uair`."""
    commands.update(_COMMANDS)
