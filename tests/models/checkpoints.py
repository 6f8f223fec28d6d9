"""Files of weights to read, and a model to write."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolact.config import get_config
from yolact.models.yolact import Yolact

SMALL = replace(get_config("yolact_lite0"), size=64).with_classes(("date", "fig"), (3, 5))


def small_state(name: str = "yolact_resnet50", num_classes: int | None = None) -> dict[str, Tensor]:
    """A state dict of the right names and shapes that takes no memory: every tensor repeats one number."""
    with torch.device("meta"):
        state = Yolact(get_config(name).with_num_classes(num_classes)).state_dict()
    return OrderedDict((name, torch.zeros(()).expand(tensor.shape)) for name, tensor in state.items())


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def small_model() -> Yolact:
    torch.manual_seed(0)
    return Yolact(SMALL).eval()
