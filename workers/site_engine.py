"""Build the engine of a site's configuration: device, models, folder of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dicom_config.model import EngineSection
from workers.engine import Engine, EngineOptions
from workers.models.cache import EmbeddingFolder
from workers.models.learned_lesions import LearnedLesions
from workers.models.learned_outlines import LearnedOutlines
from workers.models.predictor import Predictor
from workers.models.registry import build_localizer, build_predictor, choose_device
from workers.models.template_store import site_folder
from workers.uair.outlines import Outliner

EMBEDDINGS = "embeddings"


def build_engine(
    section: EngineSection,
    data_dir: Path | None = None,
    predictor: Predictor[Any] | None = None,
    outliner: Outliner | None = None,
) -> Engine:
    """Build the engine that a site configured: device, model, localizer, lesion finder, outliner, options.

    Parameters
    ----------
    data_dir
        The data folder. Embeddings are kept in it, unless `section` names another folder. Without any folder,
        embeddings are kept in memory only.
    predictor, outliner
        The promptable model and the lesion outliner, if they are built already.

    Raises
    ------
    ConfigError
        The device does not exist, or a checkpoint cannot be read or does not fit.
    """
    if section.threads:
        torch.set_num_threads(section.threads)
    device = choose_device(section.device)
    predictor = predictor or build_predictor(section.model, section.checkpoint, device, section.window)
    localizer = build_localizer(section.localizer, site_folder(section, data_dir), device)
    options = EngineOptions(section.members, section.rule, section.seed, section.max_lesions)
    place = section.embeddings_dir or (data_dir / EMBEDDINGS if data_dir else None)
    folder = EmbeddingFolder(place, section.embeddings_bytes) if place and section.embeddings_bytes else None
    finder = LearnedLesions.trained_on(section.weights, device)
    return Engine(predictor, localizer, options, folder, finder, outliner or LearnedOutlines(device))
