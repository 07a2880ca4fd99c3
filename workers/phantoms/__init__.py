"""Generate abdominal phantoms: anatomy (`geometry`), densities (`appearance`), and both together.

Tests, demonstration and evaluation use `make_phantom`. Training uses the two steps separately: a cached
geometry gets new densities for every sample.
"""

from workers.phantoms.appearance import Phase
from workers.phantoms.looks import LesionKind
from workers.phantoms.mr import MrPhantom, make_mr_phantom
from workers.phantoms.phantom import (
    LesionRecord,
    Phantom,
    PhantomRecord,
    make_phantom,
)
from workers.phantoms.settings import PLAIN, TEST, TRAINING, Setting

__all__ = [
    "PLAIN",
    "TEST",
    "TRAINING",
    "LesionKind",
    "LesionRecord",
    "MrPhantom",
    "Phantom",
    "PhantomRecord",
    "Phase",
    "Setting",
    "make_mr_phantom",
    "make_phantom",
]
