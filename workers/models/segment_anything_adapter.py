"""Import `segment_anything`. All other modules import its classes from here.

`import segment_anything` needs torchvision, for two helpers (automatic mask generation and PIL resizing) that
we never call. torchvision may be missing, or unable to load its operators (a CPU build of torch with a
registry build of torchvision). Then stand-ins replace torchvision during the import. Calling a stand-in
raises an error.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

_TORCHVISION_NAMES: dict[str, tuple[str, ...]] = {
    "torchvision": (),
    "torchvision.ops": (),
    "torchvision.ops.boxes": ("batched_nms", "box_area"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("resize", "to_pil_image"),
}


def _unavailable(*_args: object, **_kwargs: object) -> NoReturn:
    raise NotImplementedError("this part of segment_anything needs a working torchvision")


def _stand_in(name: str, members: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for member in members:
        setattr(module, member, _unavailable)
    return module


@contextmanager
def _importable_torchvision() -> Iterator[None]:
    """Make `import torchvision…` succeed in the block. Afterwards, `sys.modules` is as before."""
    try:
        importlib.import_module("torchvision.ops.boxes")
        importlib.import_module("torchvision.transforms.functional")
    except (ImportError, RuntimeError, OSError):
        # A half-loaded torchvision leaves entries behind; they must not mix with the stand-ins.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        yield
        return
    sys.modules.update({name: _stand_in(name, members) for name, members in _TORCHVISION_NAMES.items()})
    try:
        yield
    finally:
        for name in _TORCHVISION_NAMES:
            sys.modules.pop(name, None)


with _importable_torchvision():
    _package = importlib.import_module("segment_anything")
    _modeling = importlib.import_module("segment_anything.modeling")
    _common = importlib.import_module("segment_anything.modeling.common")
    _encoder = importlib.import_module("segment_anything.modeling.image_encoder")

ImageEncoderViT: Any = _modeling.ImageEncoderViT
LayerNorm2d: Any = _common.LayerNorm2d
MaskDecoder: Any = _modeling.MaskDecoder
PromptEncoder: Any = _modeling.PromptEncoder
Sam: Any = _modeling.Sam
SamPredictor: Any = _package.SamPredictor
TwoWayTransformer: Any = _modeling.TwoWayTransformer
get_rel_pos: Any = _encoder.get_rel_pos
sam_model_registry: Any = _package.sam_model_registry
window_partition: Any = _encoder.window_partition
window_unpartition: Any = _encoder.window_unpartition
