"""Fat, gallbladders and ribs that cut into a sample's liver: where they lie and what of them is liver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from workers.phantoms.fields import Grid
from workers.phantoms.geometry import build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.phantoms.tissues import LIVER_TISSUES, Tissue
from workers.research.training.sampling.clefts import cut_clefts

STEPS = (5.0, 1.5, 1.5)


@pytest.fixture(scope="module")
def anatomy() -> NDArray[Any]:
    tissue = build_geometry(4, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(0)).tissue
    return tissue.repeat(2, axis=1).repeat(2, axis=2)


@pytest.fixture(scope="module")
def painted(anatomy: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return 24 times tissues and what of the painted ones counts as liver."""
    results = []
    for seed in range(24):
        tissue = anatomy.copy()
        results.append((tissue, cut_clefts(tissue, STEPS, np.random.default_rng(seed))))
    return results


def test_only_liver_fat_and_the_wall_are_painted_over(
    anatomy: NDArray[Any], painted: list[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    may = (*LIVER_TISSUES, Tissue.PORTAL_TRUNK, Tissue.FAT)
    for tissue, counted in painted:
        assert np.isin(anatomy[tissue != anatomy], may).all()
        assert not (counted & (tissue == anatomy)).any()
        assert not (counted & np.isin(tissue, LIVER_TISSUES)).any()


def test_most_livers_have_fat_around_their_portal_vein_but_not_all(
    anatomy: NDArray[Any], painted: list[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    portal = anatomy == Tissue.PORTAL_VEIN
    near = ndimage.binary_dilation(portal, iterations=2) & np.isin(anatomy, LIVER_TISSUES)
    shares = [float((tissue[near] == Tissue.FAT).mean()) for tissue, _ in painted]
    assert 0.3 < np.mean([share > 0.05 for share in shares]) < 0.8
    assert any(share < 0.01 for share in shares)


def test_thin_fat_is_liver_and_thick_fat_is_not(
    anatomy: NDArray[Any], painted: list[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    thin = thick = 0
    for tissue, counted in painted:
        fat = (tissue == Tissue.FAT) & np.isin(anatomy, LIVER_TISSUES)
        # 13 mm: more than what two neighbouring vessels with 5 mm of fat around each have between them
        core = ndimage.binary_opening(fat, np.ones((1, 9, 9)))
        thin += int((fat & counted).sum())
        thick += int((core & ~counted).sum())
        assert not (core & counted).any()
    assert thin > 5000
    assert thick > 300


def test_bone_is_pressed_into_some_livers(
    anatomy: NDArray[Any], painted: list[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    def bone(tissue: NDArray[Any]) -> int:
        return int((np.isin(tissue, (Tissue.CORTEX, Tissue.MARROW)) & np.isin(anatomy, LIVER_TISSUES)).sum())

    assert 2 <= sum(bone(tissue) > 20 for tissue, _ in painted) <= 12


def test_an_anatomy_without_a_liver_is_left_alone() -> None:
    tissue = np.full((12, 24, 24), Tissue.FAT, np.uint8)
    for seed in range(8):
        assert not cut_clefts(tissue, STEPS, np.random.default_rng(seed)).any()
    assert (tissue == Tissue.FAT).all()


def test_clefts_depend_on_the_generator_alone(
    anatomy: NDArray[Any], painted: list[tuple[NDArray[Any], NDArray[Any]]]
) -> None:
    tissue = anatomy.copy()
    counted = cut_clefts(tissue, STEPS, np.random.default_rng(7))
    assert np.array_equal(tissue, painted[7][0])
    assert np.array_equal(counted, painted[7][1])
