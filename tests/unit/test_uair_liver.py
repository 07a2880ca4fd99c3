"""The liver's place and extent, and the lesions in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.synthetic import (
    LESIONS,
    LIVER_HU,
    SHAPE,
    SPACING,
    DensityLocalizer,
    DensityPredictor,
    Lesion,
    abdomen,
    ball,
)
from workers.uair.confidence import CERTAIN, DOUBTFUL, SURE, Evidence, evidence_of, shown_in
from workers.uair.ensemble import Ensemble
from workers.uair.extent import Tissue, near, tissue_of, trace_liver
from workers.uair.grids import Crop, plan_crop
from workers.uair.lesions import GRID_MM, lesion_domain, propose
from workers.uair.localize import (
    CoarseMap,
    Location,
    body_region,
    largest_component,
    location_of,
    to_isotropic,
)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_location_holds_the_liver() -> None:
    hu, truth = abdomen()
    location = DensityLocalizer().locate(hu, SPACING)
    places = np.argwhere(truth > 0)
    assert (np.array(location.box.start) <= places.min(axis=0) + 1).all()
    assert (np.array(location.box.stop) >= places.max(axis=0)).all()
    centres = (np.arange(n) + 0.5 for n in SHAPE)
    assert dice(location.coarse.at(*centres) > 0.5, truth > 0) > 0.9


def test_too_little_is_no_liver() -> None:
    probability = np.zeros((20, 20, 20), np.float32)
    probability[5:9, 5:9, 5:9] = 0.9  # 64 voxels of 6 mm: 14 ml
    assert location_of(probability, 6.0, SPACING, SHAPE) is None
    assert location_of(np.zeros((20, 20, 20), np.float32), 6.0, SPACING, SHAPE) is None


def test_isotropic_averages_and_keeps_the_place() -> None:
    _, truth = abdomen(lesions=())
    coarse = to_isotropic(np.where(truth > 0, 100, 0).astype(np.int16), SPACING, 8.0)
    assert coarse.shape == (22, 32, 39), "38.4 voxels wide: none of the volume is left out"
    centre = np.argwhere(coarse > 50).mean(axis=0) * 8.0 + 4.0
    np.testing.assert_allclose(centre, [85.0, 118.0, 108.0], atol=3.0)
    assert coarse.sum() * 512 == pytest.approx(100.0 * truth.sum() * np.prod(SPACING), rel=0.03)


def test_the_body_is_found_beside_a_table() -> None:
    hu = np.full((6, 60, 60), -1000.0, np.float32)
    hu[:, 10:40, 12:50] = 30.0
    hu[:, 52:57, 5:55] = 100.0
    z, y, x = body_region(hu)
    assert (z, y, x) == (slice(0, 6), slice(8, 42), slice(10, 52))


def test_largest_component_of_nothing_is_nothing() -> None:
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()


def test_a_coarse_map_of_a_part_knows_its_origin() -> None:
    part = CoarseMap(np.ones((2, 2, 2), np.float32), 2.0, (2.0, 1.0, 1.0), (10.0, 20.0, 30.0))
    inside = part.at(np.array([11.0]), np.array([22.0]), np.array([32.0]))
    outside = part.at(np.array([11.0]), np.array([40.0]), np.array([32.0]))
    assert inside[0, 0, 0] == pytest.approx(1.0)
    assert outside[0, 0, 0] == 0.0


def liver_crop(hu: NDArray[Any]) -> tuple[Location | None, Crop]:
    location = DensityLocalizer().locate(hu, SPACING)
    box = location.search_box(SPACING, hu.shape)
    sizes = {"pixels": 128, "cells": 64, "margin": 1.25, "min_side_mm": 50.0, "step_mm": 3.0}
    return location, plan_crop(box, SPACING, hu.shape, **sizes)


@pytest.mark.parametrize("slices", [20, 21, 22, 23])
def test_a_coarse_map_reaches_the_ends_of_the_scan(slices: int) -> None:
    """Organs that a scan cuts are there up to its first and last slice, whatever the slices' number."""
    spacing = (2.5, 3.0, 3.0)
    coarse = to_isotropic(np.ones((slices, 32, 34), np.int16), spacing, 6.0)
    whole = CoarseMap(coarse, 6.0, spacing)
    inside = (np.arange(n) + 0.5 for n in (slices, 32, 34))
    np.testing.assert_allclose(whole.at(*inside), 1.0, rtol=1e-5)
    outside = whole.at(np.array([-3.0, slices + 3.0]), np.array([16.0]), np.array([17.0]))
    assert not outside.any()


def test_tracing_finds_the_ends_that_the_localizer_missed() -> None:
    """The localizer's map is cut 30 mm short below; the mask is handed on to the liver's true end."""
    hu, truth = abdomen(lesions=())
    location, crop = liver_crop(hu)
    coarse = location.coarse.at(*crop.cell_centres())
    first = int(np.flatnonzero((truth > 0).any(axis=(1, 2)))[0])
    coarse[np.array(crop.slices) < first + 8] = 0.0
    images, neighbours = crop.images(hu, 3.0)
    predictor = DensityPredictor()
    embeddings = predictor.encode(images, neighbours)
    cells = crop.cell_means(images)
    traced = trace_liver(lambda asked: predictor.decode(embeddings, asked), cells, coarse, crop.pixels)
    found = np.array(crop.slices)[(traced > 0).any(axis=(1, 2))]
    assert found[0] <= first + 1
    assert found[-1] <= np.flatnonzero((truth > 0).any(axis=(1, 2)))[-1] + 1
    region, logits = crop.to_volume(traced)
    back = np.zeros(hu.shape, bool)
    back[region] = logits > 0
    assert dice(back, truth > 0) > 0.93


def test_nothing_to_trace_is_none() -> None:
    empty = np.zeros((4, 8, 8), np.float32)
    assert trace_liver(lambda asked: pytest.fail("asked"), empty, empty, 32) is None


def test_tissue_is_measured_robustly() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(LIVER_HU, 12.0, (6, 20, 20)).astype(np.float32)
    probability = np.zeros((6, 20, 20), np.float32)
    probability[:, 3:17, 3:17] = 0.9
    hu[:, 8:10, 8:10] = 400.0  # a vessel
    tissue = tissue_of(hu, probability)
    assert tissue.median == pytest.approx(LIVER_HU, abs=1.5)
    assert tissue.spread == pytest.approx(12.0, abs=1.5)


def test_beyond_the_ends_only_liver_density_counts() -> None:
    crop = Crop((32.0, 32.0), 64.0, tuple(range(6)), (3.0, 1.0, 1.0), (6, 64, 64), 64, 32)
    mask = np.zeros(crop.stack_shape, bool)
    mask[2:4, 10:20, 10:20] = True
    like = np.zeros(crop.stack_shape, bool)
    like[:, 12:14, 12:14] = True
    allowed = near(mask, crop, like)
    assert allowed[3, 10, 10]
    assert allowed[3, 8, 10]
    assert allowed[4, 12, 12]
    assert not allowed[4, 16, 16]


def isotropic_case(lesions: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    hu, truth = abdomen(lesions)
    iso = to_isotropic(hu, SPACING, GRID_MM)
    liver = to_isotropic((truth > 0).astype(np.float32), SPACING, GRID_MM) > 0.5
    return iso, liver


def test_lesions_are_proposed_where_they_are() -> None:
    iso, liver = isotropic_case((*LESIONS, Lesion((100.0, 90.0, 90.0), 8.0, 160)))
    domain = lesion_domain(liver, (GRID_MM,) * 3)
    found = propose(iso, domain, liver, (0.0, 0.0, 0.0), SPACING, 12)
    for lesion in (*LESIONS, Lesion((100.0, 90.0, 90.0), 8.0, 160)):
        at = np.array(lesion.centre_mm) / np.array(SPACING)
        hits = [
            proposal
            for proposal in found
            if (np.array(proposal.box.start) < at).all() and (at < np.array(proposal.box.stop)).all()
        ]
        assert hits
        assert min(max(hit.box.size_mm(SPACING)) for hit in hits) < 3.2 * lesion.radius_mm


def test_a_liver_of_one_density_has_no_proposals_of_any_size() -> None:
    iso, liver = isotropic_case(())
    domain = lesion_domain(liver, (GRID_MM,) * 3)
    found = propose(iso, domain, liver, (0.0, 0.0, 0.0), SPACING, 12)
    assert all(proposal.volume_ml < 0.3 for proposal in found)


def test_proposals_are_limited_and_best_first() -> None:
    iso, liver = isotropic_case(LESIONS)
    domain = lesion_domain(liver, (GRID_MM,) * 3)
    found = propose(iso, domain, liver, (0.0, 0.0, 0.0), SPACING, 1)
    assert len(found) == 1
    assert found[0].volume_ml > 3.0
    assert not propose(iso, np.zeros_like(domain), liver, (0.0, 0.0, 0.0), SPACING, 4)


def test_the_domain_takes_in_a_lesion_that_the_liver_mask_left_out() -> None:
    spacing = (4.0, 4.0, 4.0)
    whole = ball((40, 40, 40), spacing, (80.0, 80.0, 80.0), (60.0, 60.0, 60.0))
    inside = ball((40, 40, 40), spacing, (80.0, 80.0, 80.0), (20.0, 20.0, 20.0))
    bay = ball((40, 40, 40), spacing, (80.0, 80.0, 136.0), (22.0, 11.0, 11.0)) & whole
    domain = lesion_domain(whole & ~inside & ~bay, spacing)
    assert (domain & inside).sum() == inside.sum()
    assert (domain & bay).sum() > 0.65 * bay.sum()
    assert dice(domain, whole) > 0.85


def test_the_localizer_adds_a_thick_piece_but_not_a_rim() -> None:
    spacing = (4.0, 4.0, 4.0)
    liver = ball((40, 40, 60), spacing, (80.0, 80.0, 80.0), (50.0, 50.0, 50.0))
    rim = ball((40, 40, 60), spacing, (80.0, 80.0, 80.0), (60.0, 60.0, 60.0))
    lesion = ball((40, 40, 60), spacing, (80.0, 80.0, 150.0), (25.0, 25.0, 25.0))
    alone = lesion_domain(liver, spacing)
    with_rim = lesion_domain(liver, spacing, rim)
    with_lesion = lesion_domain(liver, spacing, lesion)
    assert (with_rim & ~alone).sum() < 0.02 * alone.sum()
    assert (with_lesion & lesion).sum() > 0.75 * lesion.sum()


def evidence(**changes: Any) -> Evidence:
    values = {"agreement": 0.8, "surrounded": 0.9, "volume_ml": 10.0, "contrast": -4.0}
    return Evidence(**{**values, **changes})


@pytest.mark.parametrize(
    "change", [{"agreement": 0.5}, {"surrounded": 0.2}, {"volume_ml": 0.05}, {"contrast": -20.0}]
)
def test_each_piece_of_evidence_counts(change: dict[str, float]) -> None:
    assert evidence().confidence > SURE
    assert evidence(**change).confidence < evidence().confidence


def test_faint_small_disputed_spots_are_not_shown_and_small_clear_ones_are_doubtful() -> None:
    spot = evidence(agreement=0.5, surrounded=0.5, volume_ml=0.1, contrast=-0.5)
    assert spot.confidence < DOUBTFUL
    assert not spot.shown
    assert evidence().shown
    assert DOUBTFUL < evidence(volume_ml=0.6, surrounded=1.0, agreement=0.9).confidence < SURE


def test_what_a_learned_finder_hardly_sees_is_not_shown_whatever_its_density() -> None:
    assert evidence(seen=0.8, peak=0.95).confidence > CERTAIN
    assert evidence(seen=0.8, peak=0.95).confidence > evidence(seen=0.4, peak=0.6).confidence > DOUBTFUL
    faint = evidence(seen=0.15, peak=0.3, agreement=0.6, volume_ml=1.0)
    assert faint.shown
    assert faint.confidence < DOUBTFUL
    clear = {"agreement": 0.6, "volume_ml": 1.0}
    assert evidence(**clear).shown
    assert not evidence(seen=0.01, peak=0.02, **clear).shown


def test_the_less_certain_a_lesion_the_more_candidates_are_without_it() -> None:
    assert shown_in([0.99, 0.9, 0.6], first=True) == [
        (True, True, True, True),
        (True, True, True, False),
        (True, False, True, False),
    ]
    assert shown_in([0.99, 0.9, 0.6], first=False) == [
        (True, True, True, True),
        (True, True, True, False),
        (True, True, False, False),
    ]


def test_evidence_is_read_off_the_ensemble() -> None:
    crop = Crop((32.0, 32.0), 64.0, tuple(range(12)), (2.0, 1.0, 1.0), (12, 64, 64), 64, 32)
    logits = np.full((4, *crop.stack_shape), -5.0, np.float32)
    logits[:, 3:9, 12:20, 12:20] = 5.0
    hu = np.full(crop.stack_shape, 100.0, np.float32)
    hu[3:9, 12:20, 12:20] = 60.0
    pool = Ensemble(logits, np.ones(4, np.float32))
    liver = np.ones(crop.stack_shape, bool)
    found = evidence_of(pool, hu, liver, Tissue(100.0, 10.0), crop)
    assert found.agreement == pytest.approx(1.0)
    assert found.surrounded == pytest.approx(1.0)
    assert found.contrast == pytest.approx(-4.0)
    assert found.volume_ml == pytest.approx(6 * 64 * 8.0 / 1000.0)
    nothing = Ensemble(np.full_like(logits, -5.0), np.ones(4, np.float32))
    assert evidence_of(nothing, hu, liver, Tissue(100.0, 10.0), crop) is None
