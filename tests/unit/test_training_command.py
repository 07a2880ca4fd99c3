"""`uair train`: what a newcomer sees, what lies beside the weights, and going on after an interruption."""

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from dicom_config.errors import ConfigError
from workers.research.training.cli import train

SHORT = ("--geometries", "1", "--held-out", "0", "--loaders", "0")


def run(folder: Path, *more: str, network: str = "localizer") -> Result:
    output = folder / "run" / "weights.safetensors"
    app = typer.Typer()
    app.command()(train)
    arguments = [network, "--output", str(output), "--cache", str(folder / "cache")]
    return CliRunner().invoke(app, [*arguments, *SHORT, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    result = run(folder, "--iterations", "20", "--validate-every", "10")
    assert result.exit_code == 0, result.output
    assert "20 iterations" in result.output
    for name in ("weights.safetensors", "weights.safetensors.checkpoint", "weights.safetensors.log"):
        assert name in result.output
        assert (folder / "run" / name).exists()
    return folder


def events(folder: Path) -> list[dict[str, object]]:
    log = folder / "run" / "weights.safetensors.log"
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_log_holds_losses_and_every_measurement(trained: Path) -> None:
    kept = events(trained)
    assert [event["iteration"] for event in kept if event["held_out"]] == [10, 20, 20]
    losses = [event["loss"] for event in kept if not event["held_out"]]
    assert losses
    assert all(loss > 0 for loss in losses)


def test_a_finished_run_that_is_resumed_appends_to_its_log(trained: Path) -> None:
    before = len(events(trained))
    result = run(trained, "--iterations", "20", "--resume")
    assert result.exit_code == 0, result.output
    assert len(events(trained)) == before + 1, "only the figures of the end"


def test_another_rate_is_another_run(trained: Path) -> None:
    result = run(trained, "--iterations", "20", "--resume", "--rate", "0.0001")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.code == "training-checkpoint"


def test_a_run_without_a_length_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.code == "training-length"


def test_a_chunk_says_how_to_go_on_and_exits_with_its_own_status(tmp_path: Path) -> None:
    result = run(tmp_path, "--iterations", "5", "--chunk-minutes", "0")
    assert result.exit_code == 75
    assert "--resume" in result.output
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("network", ["sam", "localizer", "coordinates", "unet", "transunet"])
def test_real_cts_are_refused_where_a_network_would_ignore_them(tmp_path: Path, network: str) -> None:
    result = run(tmp_path, "--iterations", "1", "--real", str(tmp_path), network=network)
    assert result.exit_code == 2
    assert "learns from phantoms alone" in result.output
