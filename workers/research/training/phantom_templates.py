"""The templates that the package ships: five phantoms, described by the coordinate network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import torch

from dicom_config.errors import InputError
from workers.models.template_localizer import CoordinateEncoder, make_template
from workers.models.template_store import StoredTemplate, TemplateFolder
from workers.phantoms import TRAINING, make_phantom

TEMPLATES = 5
"""The number of templates, as in the paper (section 4.5)."""
_FIRST_SEED = 9_100_000


def write_phantom_templates(weights: Path | None, folder: Path) -> None:
    """Write templates of the first five phantoms that show the whole liver. Contrast phases are random."""
    encoder = CoordinateEncoder(torch.device("cpu"), weights)
    for stored in islice(_described(encoder), TEMPLATES):
        TemplateFolder(folder).add(stored)


def _described(encoder: CoordinateEncoder) -> Iterator[StoredTemplate]:
    for seed in count(_FIRST_SEED):
        phantom = make_phantom(seed, phase=None, setting=TRAINING)
        try:
            template = make_template(encoder, phantom.hu, phantom.spacing_mm, phantom.labels > 0)
        except InputError:
            continue
        yield StoredTemplate(template, encoder.digest, phantom.spacing_mm)
