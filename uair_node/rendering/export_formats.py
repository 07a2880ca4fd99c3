"""Write a segmentation in file formats of other programs: NIfTI, STL and glTF.

No file contains patient data. The formats have different coordinates:

- NIfTI has an affine in RAS, in mm. The voxels are those of the source grid.
- STL has no field for units or coordinates. Ours are LPS in mm. The header contains words for 3D Slicer.
- glTF 2.0 requires metres, +Y up and +Z forward. The vertices are in LPS mm. The root node's matrix converts
  them.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom_config import codes
from uair_node.cases.reader_choice import LIVER
from uair_node.rendering.solids import Solid
from uair_node.storage.artifacts import Labels

_LIVER_OPACITY = 0.35
_LPS_MM_TO_GLTF = [0.001, 0, 0, 0, 0, 0, -0.001, 0, 0, 0.001, 0, 0, 0, 0, 0, 1]
"""The matrix from LPS mm to glTF, by columns: left is +X, posterior is -Z, superior is +Y (glTF 2.0, 3.4)."""
_ARRAY_BUFFER, _INDEX_BUFFER, _FLOAT, _UNSIGNED_INT = 34962, 34963, 5126, 5125
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that the same content gives the same bytes
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def as_nifti(labels: Labels, affine: NDArray[np.float64]) -> bytes:
    """Return a label volume as ``.nii.gz``.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver, 1 + n lesion n.
    affine
        4x4 matrix that maps the voxel index (k, j, i, 1) to LPS millimetres. Its axes are orthogonal.
    """
    axes = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(axes, axis=0)
    image = SimpleITK.GetImageFromArray(labels)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii.gz"
        SimpleITK.WriteImage(image, str(path), useCompression=True)
        return path.read_bytes()


def as_stl(solids: Sequence[Solid]) -> bytes:
    """Return surfaces as a zip of binary STL files, ``liver.stl``, ``lesion-1.stl``, … (LPS, mm)."""
    return zipped({f"{solid.name.replace(' ', '-')}.stl": _stl(solid) for solid in solids})


def as_glb(solids: Sequence[Solid]) -> bytes:
    """Return surfaces as binary glTF 2.0. Each surface has a node and a material with the surface's name."""
    chunks: list[bytes] = []
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": codes.MANUFACTURER, "copyright": codes.DISCLAIMER},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "LPS, mm", "matrix": _LPS_MM_TO_GLTF}],
        "meshes": [],
        "materials": [],
        "accessors": [],
        "bufferViews": [],
    }
    if solids:
        document["nodes"][0]["children"] = list(range(1, len(solids) + 1))
    for number, solid in enumerate(solids):
        document["nodes"].append({"name": solid.name, "mesh": number, "extras": _extras(solid)})
        document["materials"].append(_material(solid))
        position = _add_array(document, chunks, solid.vertices, _ARRAY_BUFFER)
        indices = _add_array(document, chunks, solid.faces.reshape(-1), _INDEX_BUFFER)
        primitive = {"attributes": {"POSITION": position}, "indices": indices, "material": number}
        document["meshes"].append({"name": solid.name, "primitives": [primitive]})
    binary = b"".join(chunks)
    if binary:
        document["buffers"] = [{"byteLength": len(binary)}]
    return _packed({key: value for key, value in document.items() if value != []}, binary)


def zipped(files: dict[str, bytes]) -> bytes:
    """Return files (name -> content) as a zip."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return data.getvalue()


def _stl(solid: Solid) -> bytes:
    corners = solid.vertices[solid.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facets = np.zeros(len(corners), _FACET)
    facets["normal"] = normals / np.maximum(lengths, np.finfo(np.float32).tiny)
    facets["corners"] = corners
    header = f"{codes.MANUFACTURER}: {solid.name}. SPACE=LPS;UNIT=mm".encode("ascii")
    return header.ljust(80) + np.uint32(len(facets)).tobytes() + facets.tobytes()


def _extras(solid: Solid) -> dict[str, Any]:
    return {"label": solid.value, "volume_ml": round(solid.volume_ml, 3)}


def _material(solid: Solid) -> dict[str, Any]:
    liver = solid.value == LIVER
    # glTF's colours are linear (3.9.2). Our colours are sRGB (IEC 61966-2-1).
    srgb = np.array(solid.colour.rgb) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return {
        "name": solid.colour.name,
        "doubleSided": True,
        "alphaMode": "BLEND" if liver else "OPAQUE",
        "pbrMetallicRoughness": {
            "baseColorFactor": [*linear.round(5).tolist(), _LIVER_OPACITY if liver else 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.6,
        },
    }


def _add_array(document: dict[str, Any], chunks: list[bytes], array: NDArray[Any], target: int) -> int:
    """Append an array to the buffer and describe it. Return the number of its accessor."""
    data = array.tobytes()  # all values have 4 bytes, so that views stay aligned
    view = {"buffer": 0, "byteOffset": sum(map(len, chunks)), "byteLength": len(data), "target": target}
    chunks.append(data)
    document["bufferViews"].append(view)
    vectors = target == _ARRAY_BUFFER
    accessor: dict[str, Any] = {
        "bufferView": len(document["bufferViews"]) - 1,
        "componentType": _FLOAT if vectors else _UNSIGNED_INT,
        "count": len(array),
        "type": "VEC3" if vectors else "SCALAR",
    }
    if vectors:
        accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    document["accessors"].append(accessor)
    return len(document["accessors"]) - 1


def _packed(document: dict[str, Any], binary: bytes) -> bytes:
    """Return the container (glTF 2.0, 4.4): header, JSON chunk padded with spaces, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = len(text).to_bytes(4, "little") + b"JSON" + text
    if binary:
        chunks += len(binary).to_bytes(4, "little") + b"BIN\0" + binary
    return b"glTF" + (2).to_bytes(4, "little") + (12 + len(chunks)).to_bytes(4, "little") + chunks
