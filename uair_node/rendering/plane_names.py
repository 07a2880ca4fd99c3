"""The name of a plane of the canonical grid on pictures: its number in viewers, and its position."""

from __future__ import annotations

from uair_node.dicom.volume import SourceSlice, Volume


def plane_names(volume: Volume) -> tuple[str, ...]:
    """Return the name of each plane along axis 0 of a volume's canonical grid, lowest plane first.

    If a plane is a slice of the series, then its name has the Instance Number (PS3.3 C.7.6.1). For a
    multi-frame image, it has the frame number. Viewers show these numbers. The name also has the z coordinate
    of the plane's centre, in LPS mm. Planes of a coronal or sagittal stack have only the coordinate.
    """
    canonical = volume.canonical()
    planes, rows, columns = canonical.shape
    middles = [canonical.affine @ (k, (rows - 1) / 2, (columns - 1) / 2, 1) for k in range(planes)]
    places = [f"z {middle[2] + 0.0:.1f} mm" for middle in middles]
    if canonical.transpose[0]:
        return tuple(places)
    sources = volume.slices[::-1] if 0 in canonical.flips else volume.slices
    return tuple(f"{_number(source)}{place}" for source, place in zip(sources, places, strict=True))


def _number(source: SourceSlice) -> str:
    if source.frame is not None:
        return f"frame {source.frame}, "
    return "" if source.number is None else f"image {source.number}, "
