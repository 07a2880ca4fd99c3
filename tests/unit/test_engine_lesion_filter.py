"""The false-positive filter: the packaged one, and how it is made."""

import json

import numpy as np
import pytest
import torch

from dicom_config.errors import ConfigError
from tests.support.synthetic import DensityLocalizer, DensityPredictor
from workers.engine import Engine, EngineOptions
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.lesion_filter import LESION_FILTER_FILE, LearnedLesionFilter
from workers.models.weights import packaged
from workers.training.lesions import (
    FIRST_LARGE_SEED,
    LesionRows,
    lesion_phantom,
    packaged_seeds,
    rows_of,
    write_filter,
)
from workers.training.phantoms import make_phantom
from workers.uair.surroundings import BLOB_NAMES, POOL_NAMES

NOTE = {"phantoms": 2, "seed": 0}


def simple_rows(count=200):
    rng = np.random.default_rng(0)
    blobs = rng.normal(size=(count, len(BLOB_NAMES))).astype(np.float32)
    answers = rng.normal(size=(count, len(BLOB_NAMES) + len(POOL_NAMES))).astype(np.float32)
    return LesionRows(blobs, blobs[:, 0] > 0, answers, answers[:, -1] > 0)


def test_what_is_written_is_what_decides(tmp_path):
    rows = simple_rows()
    path = tmp_path / "filter.json"
    write_filter(path, rows, NOTE)
    learned = LearnedLesionFilter(path)
    ranks = np.array([learned.rank(blob) for blob in rows.blobs])
    assert ((ranks > 0.5) == rows.on_lesion).mean() > 0.95
    split = len(BLOB_NAMES)
    beliefs = np.array([learned.confidence(row[:split], row[split:]) for row in rows.answers])
    assert ((beliefs > 0.5) == rows.found).mean() > 0.95
    again = tmp_path / "again.json"
    write_filter(again, rows, NOTE)
    assert LearnedLesionFilter(again).digest == learned.digest


def test_the_model_digest_covers_the_filter(tmp_path):
    path = tmp_path / "filter.json"
    write_filter(path, simple_rows(), NOTE)
    engines = [
        Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(), chosen)
        for chosen in (None, LearnedLesionFilter(), LearnedLesionFilter(path))
    ]
    digests = [engine.model_digest for engine in engines]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("change", [{"format": 0}, {"blobs": {}}, {"answers": None}])
def test_a_filter_of_another_version_is_refused(tmp_path, change):
    record = json.loads(packaged(LESION_FILTER_FILE).read_text())
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(ConfigError) as caught:
        LearnedLesionFilter(path)
    assert caught.value.code == "weights-mismatch"


def test_a_missing_filter_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        LearnedLesionFilter(tmp_path / "none.json")
    assert caught.value.code == "weights-missing"


def test_training_phantoms_repeat_and_large_lesions_have_their_own():
    assert len(set(packaged_seeds())) == len(packaged_seeds())
    first, again = (lesion_phantom(FIRST_LARGE_SEED + 1) for _ in range(2))
    np.testing.assert_array_equal(first.hu, again.hu)
    assert max(lesion.diameter_mm for lesion in first.meta.lesions) > 20.0


def test_rows_come_from_what_the_engine_proposes():
    cpu = torch.device("cpu")
    engine = Engine(EmbeddedPredictor(cpu), LearnedLocalizer(cpu), EngineOptions(members=6))
    rows = rows_of(make_phantom(4, size="small"), engine, members=6)
    assert rows.blobs.shape == (len(rows.on_lesion), len(BLOB_NAMES))
    assert rows.answers.shape == (len(rows.found), len(BLOB_NAMES) + len(POOL_NAMES))
    assert 5 <= len(rows.found) <= len(rows.on_lesion)
    assert 0 < rows.found.sum() < len(rows.found)
    assert np.isfinite(rows.blobs).all()
    assert np.isfinite(rows.answers).all()
    both = LesionRows.joined([rows, rows])
    assert len(both.found) == 2 * len(rows.found)
