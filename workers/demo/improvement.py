"""Draw the gain from picks: each lesion's surface, coloured by its distance from the true surface.

The functions take arrays on the canonical grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config import codes
from uair_node.rendering.drawing import FAINT, INK, PAPER
from uair_node.rendering.mesh import Mesh, view_mesh
from uair_node.storage.artifacts import Labels
from workers.truth.metrics import FIRST_LESION, Mask

_ROWS = 3
_STEP_MM = 1.0
_MOST_MM = 4.0
"""Distances of at least this many mm from the true surface have the strongest colour."""
_MARGIN_MM = 12.0
_PANEL, _TITLE, _BAR, _DPI = 2.7, 0.75, 0.75, 110
_COLOURS = colormaps["RdBu_r"]
_LIGHT = np.array([0.5, -0.8, -0.35])
"""Direction to the light, which is above, in front and on the right."""


def draw_improvement(
    picked: Sequence[Labels], truth: Labels, spacing_mm: tuple[float, float, float], path: Path
) -> bool:
    """Write a PNG with a column for each round and a row for each of the three largest true lesions.

    Red marks a surface too far out, blue a surface too far in, and white a correct surface. The mean distance
    from the true surface is written below each surface.

    Parameters
    ----------
    picked
        The labels that the reader picked in each round, ``(Z, Y, X)``: 0 background, 1 liver, 1 + n lesion n.
    truth
        Label volume on the same grid. Its lesions may have other numbers.

    Returns
    -------
    bool
        Whether a picture was written. A picture needs a true lesion that overlaps a lesion of `picked`.
    """
    sizes = np.bincount(truth.ravel(), minlength=FIRST_LESION)
    sizes[:FIRST_LESION] = 0
    largest = [int(value) for value in np.argsort(-sizes, kind="stable")[:_ROWS] if sizes[value]]
    lesions = [value for value in largest if any((labels[truth == value] > 1).any() for labels in picked)]
    if not lesions:
        return False
    width, height = len(picked) * _PANEL, _TITLE + len(lesions) * _PANEL + _BAR
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    figure.text(
        0.02, 1 - 0.3 / height, "Distance of the picked surface from the true one", color=INK, size=13
    )
    for row, value in enumerate(lesions):
        box = _around(truth == value, spacing_mm)
        for column, labels in enumerate(picked):
            bottom = (_BAR + (len(lesions) - 1 - row) * _PANEL) / height
            place = (column / len(picked), bottom, 1 / len(picked), _PANEL / height)
            axes: Any = figure.add_axes(place, projection="3d")
            found = _drawn(labels[box], truth[box] == value)
            words = _draw_surface(axes, found, truth[box] == value, spacing_mm)
            heading = f"round {column + 1}, lesion {row + 1}: {words}"
            figure.text(place[0] + 0.02, bottom + 0.02 / height, heading, color=INK, size=9)
    bar = figure.add_axes((0.1, 0.42 / height, 0.8, 0.12 / height))
    colours = ScalarMappable(Normalize(-_MOST_MM, _MOST_MM), _COLOURS)
    figure.colorbar(colours, cax=bar, orientation="horizontal")
    bar.tick_params(colors=INK, labelsize=8)
    words = f"Distances in mm. Blue: inside the true surface. Red: outside it. {codes.DISCLAIMER}."
    figure.text(0.02, 0.06 / height, words, color=FAINT, size=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, facecolor=PAPER, format="png", metadata={"Software": None})
    return True


def surface_errors(
    found: Mask, truth: Mask, spacing_mm: tuple[float, float, float]
) -> tuple[Mesh, NDArray[np.float64]]:
    """Return the surface of a mask and the signed distance of each vertex from the true surface.

    Returns
    -------
    tuple of Mesh and NDArray
        The surface, and distances ``(n,)`` in mm, positive outside of the truth. The masks must not be empty.
    """
    mesh = view_mesh(found, spacing_mm, _STEP_MM)
    outside = ndimage.distance_transform_edt(~truth, spacing_mm)
    inside = ndimage.distance_transform_edt(truth, spacing_mm)
    half = min(spacing_mm) / 2.0
    distance = np.where(truth, half - inside, outside - half)
    places = (mesh.vertices / np.asarray(spacing_mm)).T
    errors = ndimage.map_coordinates(distance, places, order=1, mode="nearest")
    return mesh, np.asarray(errors, np.float64)


def _around(mask: Mask, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    z, y, x = (
        slice(max(0, part.start - reach), part.stop + reach)
        for part, reach in zip(box, (int(np.ceil(_MARGIN_MM / mm)) for mm in spacing_mm), strict=True)
    )
    return z, y, x


def _drawn(labels: Labels, truth: Mask) -> Mask:
    """Return the segmented lesion that shares the most voxels with the true lesion."""
    counts = np.bincount(labels[truth], minlength=FIRST_LESION)
    counts[:FIRST_LESION] = 0
    return np.asarray(labels == counts.argmax()) if counts.any() else np.zeros(labels.shape, bool)


def _draw_surface(axes: Any, found: Mask, truth: Mask, spacing_mm: tuple[float, float, float]) -> str:
    """Draw a surface seen from the front, a little from above. Return the surface's mean error in words."""
    axes.set_axis_off()
    axes.patch.set_alpha(0.0)
    if not found.any():
        return "not drawn"
    mesh, errors = surface_errors(found, truth, spacing_mm)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    # The normals point outwards, whatever the order of a face's corners is.
    normals *= np.sign(((corners.mean(axis=1) - mesh.vertices.mean(axis=0)) * normals).sum(axis=1))[:, None]
    light = 0.65 + 0.35 * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), -1.0, 1.0)
    colours = _COLOURS(Normalize(-_MOST_MM, _MOST_MM)(errors[mesh.faces].mean(axis=1)))
    colours[:, :3] *= light[:, None]
    # Axes of the picture: patient's left, away from the viewer, up.
    turned = corners[:, :, [2, 1, 0]]
    axes.add_collection3d(Poly3DCollection(turned, facecolors=colours, edgecolors="none", antialiased=False))
    middle, reach = turned.reshape(-1, 3).mean(axis=0), _reach(truth, spacing_mm)
    for set_limits, centre in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True):
        set_limits(centre - reach, centre + reach)
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.view_init(elev=20, azim=-90)
    return f"{np.abs(errors).mean():.1f} mm"


def _reach(truth: Mask, spacing_mm: tuple[float, float, float]) -> float:
    (box,) = ndimage.find_objects(truth.astype(np.uint8))
    extent = max((part.stop - part.start) * mm for part, mm in zip(box, spacing_mm, strict=True))
    return 0.6 * float(extent) + 2.0
