"""The stand-in weights and the outputs of the original and of mmdetection on them, from the shared test data."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from types import ModuleType
from typing import Any

import torch
from conftest import shared_path
from torch import Tensor


@cache
def generator() -> ModuleType:
    """weights.py of the shared data: `tensor_for` and `image`."""
    spec = importlib.util.spec_from_file_location("golden_weights", shared_path("golden/weights.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outputs(name: str) -> dict[str, Any]:
    """keys, raw and results of one configuration."""
    return json.loads(shared_path(f"golden/{name}.json").read_text())


def state(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """The stand-in state dict of these names and shapes."""
    return {name: torch.as_tensor(generator().tensor_for(name, shape)) for name, shape in keys.items()}
