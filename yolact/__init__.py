"""YOLACT: real-time instance segmentation, with its postprocessing in hand-written kernels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolact.instances import Instances as Instances
    from yolact.loading import create as create
    from yolact.loading import load as load
    from yolact.predictor import Model as Model

__version__ = "0.1.0"

# Loaded when first used: `import yolact` and `from yolact import mask` stay light (no torch).
_ATTRIBUTES = {
    "create": "yolact.loading",
    "load": "yolact.loading",
    "Model": "yolact.predictor",
    "Instances": "yolact.instances",
}
_SUBMODULES = ("config", "export", "integrations", "look", "mask", "ops", "report", "train")

__all__ = ["__version__", *_ATTRIBUTES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"yolact.{name}")
    raise AttributeError(f"module 'yolact' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
