"""Two lesion finders are packaged, one key chooses, and the licence of the data goes with the weights."""

import tomllib
from pathlib import Path

import pytest
import torch

from dicom_config.engine import EngineSection
from workers.models.learned_lesions import LearnedLesions
from workers.models.weights import LESIONS_FILE, REAL_LESIONS_FILE, file_digest, packaged
from workers.site_engine import build_engine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    kinds = ("real", "phantom")
    return {kind: build_engine(EngineSection(device="cpu", weights=kind)).model_digest for kind in kinds}


def test_the_key_chooses_the_finder_and_a_result_tells_which(digests: dict[str, str]) -> None:
    assert file_digest(packaged(LESIONS_FILE)) != file_digest(packaged(REAL_LESIONS_FILE))
    assert digests["real"] != digests["phantom"]


def test_real_cases_are_the_default(digests: dict[str, str]) -> None:
    assert build_engine(EngineSection(device="cpu")).model_digest == digests["real"]


def test_phantom_weights_are_those_of_earlier_versions() -> None:
    """So that `engine.weights: phantom` continues the cases that those left open."""
    edition_4 = "1be99890e6ac4d1dadde95d87183f624b0f94060d87a2dee91facb5e77478f53"
    assert LearnedLesions.trained_on("phantom", torch.device("cpu")).digest == edition_4


def test_the_licence_of_the_data_lies_beside_the_weights_and_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    licence = packaged("LICENSE-lesions_real.md")
    assert str(licence.relative_to(ROOT)) in project["license-files"]
    assert project["license"] == "Apache-2.0 AND CC-BY-SA-4.0"
    text = licence.read_text()
    for wanted in (REAL_LESIONS_FILE, "creativecommons.org/licenses/by-sa/4.0", "Antonelli", "Bilic"):
        assert wanted in text
