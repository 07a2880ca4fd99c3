"""The localizer `templates`: a few annotated scans and no trained segmentation (the paper, section 4.2).

It follows MedLSAM (Lei et al. 2025). An extreme point is where a liver touches a face of its box. The latent
coordinates and features of these points are averaged over the templates. In a new scan, the points are
searched in two steps. The first step jumps several times by the predicted offset to the wanted coordinates.
The second step compares features around the end of the jumps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config.errors import InputError
from workers.models.coordinate_net import CELL, PATCH, SURROUNDINGS, CoordinateNet, cells_of, patch_at
from workers.models.packaged_network import PackagedNetwork
from workers.models.weights import COORDINATES_FILE
from workers.uair.grids import Box, Float32, Mask, Spacing
from workers.uair.localize import (
    BODY_HU,
    MIN_LIVER_ML,
    Location,
    body_region,
    largest_component,
    location_in,
    to_isotropic,
)
from workers.uair.templates import (
    FACES,
    GRID_MM,
    Template,
    atlas_of,
    extreme_points,
    in_box,
    weighed_by_density,
)

EXTENSION_MM = (6.0, 30.0, 30.0)
"""(z, y, x): [2, 10, 10] voxels of 3 mm (the paper, section 4.5)."""
LEAST_SIDE_MM = 30.0
START_STEP_MM = 60.0
JUMPS = 3
REACH = 4
"""Radius in cells of 6 mm, around the end of the jumps, in which features are compared."""
TRUST_MM = 12.0
"""Standard deviation, in mm, of the error of the position at the end of the jumps."""
SHARPNESS = 0.05
"""The difference in similarity that makes a point e (2.7) times as likely."""
LEAST_LIKENESS = 0.4
"""If the mean similarity of the extreme points is below this value, then no liver was found.

The mean similarity is .58 to .70 for livers, and .24 for water.
"""
FACE_BLUR_MM = 9.0
"""Standard deviation, in mm, of the error of a found face."""
SMOOTHING = 0.8

_STEPS = np.arange(-REACH, REACH + 1, dtype=np.float32) * CELL
_AROUND = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), axis=-1).reshape(-1, 3)


class CoordinateEncoder(PackagedNetwork):
    """The coordinate network on scans at 3 mm. The parameters are those of `PackagedNetwork`."""

    network, file = CoordinateNet, COORDINATES_FILE

    def described(self, hu: Float32, centres: NDArray[np.int64], reach: int = 0) -> tuple[Float32, Float32]:
        """Return coordinates and features of points.

        Parameters
        ----------
        hu
            A scan at 3 mm.
        centres
            ``(n, 3)`` voxel edges.
        reach
            Number of cells in each direction from a centre for which features are returned, too.

        Returns
        -------
        tuple of NDArray
            Latent coordinates of the centres ``(n, 3)``, mm, and unit features ``(n, F, m, m, m)`` of the
            points around each centre, one for each cell, m = 2 reach + 1.
        """
        cells = torch.from_numpy(np.stack([cells_of(patch_at(hu, centre)) for centre in centres]))
        near = slice(
            PATCH // CELL // 2 - SURROUNDINGS // 2 - reach, PATCH // CELL // 2 + SURROUNDINGS // 2 + reach
        )
        with torch.inference_mode():
            patches = cells.to(self._device)
            found = self._net(patches, patches[:, :, near, near, near])
        coordinates, features = (array.cpu().numpy() for array in found)
        return coordinates, features


class TemplateLocalizer:
    """Finds the liver by the similarity of its extreme points to the extreme points of templates.

    Parameters
    ----------
    encoder
        The coordinate network.
    templates
        At least one template, made with the same network.
    digest
        SHA-256 over network and templates.
    """

    def __init__(self, encoder: CoordinateEncoder, templates: Sequence[Template], digest: str) -> None:
        self._encoder = encoder
        self._coordinates = np.mean([template.coordinates for template in templates], axis=0)
        mean = np.mean([template.features for template in templates], axis=0)
        self._features = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        self._atlas = atlas_of([template.mask for template in templates])
        self._digest = digest

    @property
    def digest(self) -> str:
        """SHA-256 over network and templates."""
        return self._digest

    def locate(self, hu: NDArray[np.generic], spacing: Spacing) -> Location | None:
        """Return the location of the liver in ``(Z, Y, X)`` canonical HU; None if none is found."""
        iso = to_isotropic(hu, spacing, GRID_MM)
        if iso.max() < BODY_HU:
            return None
        box = self.box(iso)
        if box is None:
            return None
        prior = in_box(self._atlas, box, iso.shape, FACE_BLUR_MM / GRID_MM)
        smooth = ndimage.gaussian_filter(iso, SMOOTHING)
        probability = ndimage.gaussian_filter(weighed_by_density(prior, smooth), SMOOTHING)
        return location_in(probability, box, GRID_MM, spacing, hu.shape, EXTENSION_MM)

    def box(self, hu: Float32) -> Box | None:
        """Return the liver's box in a scan ``(Z, Y, X)`` of HU at 3 mm. The box may reach beyond the scan.

        The result is None if no place is similar enough to the templates, or if the box is too small.
        """
        faces, likeness = self._refined(hu, self._jumped(hu))
        if likeness < LEAST_LIKENESS:
            return None
        start, stop = faces[:3], faces[3:]
        if (stop - start < LEAST_SIDE_MM / GRID_MM).any():
            return None
        return Box(_triple(start), _triple(stop))

    def _jumped(self, hu: Float32) -> Float32:
        """Return for each face the end of the jumps from a few starts, ``(6, 3)``, in voxel edges."""
        middle = self._coordinates.mean(axis=0)
        places = _starts(hu)
        for _ in range(JUMPS):
            places = self._jump(hu, places, middle)
        faces = np.repeat(np.median(places, axis=0)[None], len(FACES), axis=0)
        for _ in range(JUMPS):
            faces = self._jump(hu, faces, self._coordinates)
        return faces

    def _jump(self, hu: Float32, places: Float32, wanted: Float32) -> Float32:
        """Move each point ``(n, 3)`` by the predicted offset. Points outside start at the scan's border."""
        inside = _nearest(places, hu.shape)
        found, _ = self._encoder.described(hu, inside)
        return np.asarray(inside + (wanted - found) / GRID_MM, np.float32)

    def _refined(self, hu: Float32, coarse: Float32) -> tuple[Float32, float]:
        """Return the faces ``(6,)`` with the most similar features around the coarse points, in voxel edges.

        A face beyond the scan stays at the end of its jumps. The second value is the mean similarity of the
        points in the scan; 0 if there are none.
        """
        inside = _nearest(coarse, hu.shape)
        _, features = self._encoder.described(hu, inside, REACH)
        alike = np.einsum("nfp,nf->np", features.reshape(*features.shape[:2], -1), self._features)
        away = (_AROUND + inside[:, None] - coarse[:, None]) * GRID_MM
        score = alike / SHARPNESS - 0.5 * (away**2).sum(axis=-1) / TRUST_MM**2
        weights = np.exp(score - score.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        fine = inside + np.einsum("np,pa->na", weights, _AROUND)
        shown = np.all((coarse >= 0) & (coarse <= np.array(hu.shape)), axis=1)
        axes = np.arange(len(FACES)) % 3
        faces = np.asarray(np.where(shown[:, None], fine, coarse)[np.arange(len(FACES)), axes], np.float32)
        return faces, float(alike.max(axis=1)[shown].mean()) if shown.any() else 0.0


def _nearest(places: Float32, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the nearest voxel edges of the scan.

    Halves are rounded up, independent of the body's position.
    """
    return np.floor(np.clip(places, 0, shape) + 0.5).astype(np.int64)


def _starts(hu: Float32) -> Float32:
    """Return starting points ``(n, 3)`` along the middle of the body, in voxel edges."""
    _, y, x = body_region(hu)
    count = max(2, round(hu.shape[0] * GRID_MM / START_STEP_MM))
    z = (np.arange(count) + 0.5) * hu.shape[0] / count
    return np.stack(
        [z, np.full(count, (y.start + y.stop) / 2), np.full(count, (x.start + x.stop) / 2)], axis=1
    )


def make_template(
    encoder: CoordinateEncoder, hu: NDArray[np.generic], spacing: Spacing, liver: Mask
) -> Template:
    """Make a template of a scan and the mask of its whole liver, both ``(Z, Y, X)`` on the canonical grid.

    Raises
    ------
    InputError
        ``template-without-liver``, ``template-liver-cut``: the liver is too small, or partly outside.
    """
    if liver.sum() * np.prod(spacing) / 1000.0 < MIN_LIVER_ML:
        raise InputError(
            "template-without-liver",
            f"The segmentation holds less than {MIN_LIVER_ML:.0f} ml of liver.",
            "Give a segmentation whose liver is labelled `liver`.",
        )
    if liver[0].any() or liver[-1].any():
        raise InputError(
            "template-liver-cut",
            "The liver reaches the first or the last slice of the scan.",
            "Use a scan that shows the whole liver.",
        )
    iso = to_isotropic(hu, spacing, GRID_MM)
    mask = largest_component(to_isotropic(liver, spacing, GRID_MM) > 0.5)
    points = extreme_points(mask)
    coordinates, features = encoder.described(iso, points)
    low, high = points[:3], points[3:]
    inside = mask[tuple(slice(low[a, a], high[a, a]) for a in range(3))]
    return Template(coordinates, features[:, :, 0, 0, 0], inside)


def _triple(values: Float32) -> tuple[float, float, float]:
    z, y, x = values.tolist()
    return z, y, x
