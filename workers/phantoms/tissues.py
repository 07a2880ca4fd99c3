"""The tissues of a phantom. `appearance` defines the densities of the tissues."""

from __future__ import annotations

from enum import IntEnum


class Tissue(IntEnum):
    """Value of a voxel in a phantom's tissue map."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CORTEX = 3
    MARROW = 4
    DISC = 5
    SKIN = 6
    LUNG = 7
    HEART = 8
    LIVER = 9
    PORTAL_VEIN = 10
    HEPATIC_VEIN = 11
    PORTAL_TRUNK = 12
    AORTA = 13
    CAVA = 14
    GALLBLADDER = 15
    SPLEEN = 16
    KIDNEY_CORTEX = 17
    KIDNEY_MEDULLA = 18
    STOMACH_WALL = 19
    STOMACH_CONTENT = 20
    GAS = 21
    PANCREAS = 22
    BOWEL_WALL = 23
    BOWEL_CONTENT = 24
    COLON_CONTENT = 25
    SOFT_TISSUE = 26
    TABLE = 27


#: Tissues of the liver: parenchyma and the vessels inside it. Lesions are not in the tissue map.
LIVER_TISSUES = (Tissue.LIVER, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN)

#: Vessels of the liver. Where a lesion lies, they become parenchyma in the tissue map.
LIVER_VESSELS = (Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN)
