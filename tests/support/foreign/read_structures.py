"""Read RT Structure Sets by dicompyler-core: names, types, colours, and the masks of its DVH calculation."""

import json
import sys
from pathlib import Path

import numpy as np
from dicompylercore.dicomparser import DicomParser
from dicompylercore.dvhcalc import get_contour_mask

job = json.loads(Path(sys.argv[1]).read_text())
x, y, planes = np.array(job["x"]), np.array(job["y"]), np.array(job["z"])
points = np.column_stack([grid.ravel() for grid in np.meshgrid(x, y)])
plane = {"lut": (x, y), "x_lut_index": 0}
parser = DicomParser(job["structures"])
found = []
for number, structure in parser.GetStructures().items():
    mask = np.zeros((len(planes), len(y), len(x)), bool)
    for z, contours in parser.GetStructureCoordinates(number).items():
        k = int(np.abs(planes - float(z)).argmin())
        for contour in contours:
            corners = [point[:2] for point in contour["data"]]
            mask[k] ^= get_contour_mask(plane, number, points, corners)
    path = Path(f"{job['masks']}-{number}")
    path.write_bytes(mask.astype(np.uint8).tobytes())
    found.append(
        {
            "name": str(structure["name"]),
            "type": str(structure["type"]),
            "colour": [int(part) for part in structure["color"]],
            "mask": str(path),
        }
    )
Path(sys.argv[2]).write_text(json.dumps(found))
