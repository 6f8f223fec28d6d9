"""The libraries under test, each in its own environment or skipped for want of it."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import numpy as np
import torch
from conftest import ROOT, skip_or_fail
from torch import Tensor

from yolact import mask

# The libraries and what they import keep settings at home, fetch files, install what they miss unless told otherwise.
for name in ("XDG_CACHE_HOME", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "HF_HOME", "TORCH_HOME"):
    os.environ[name] = str(ROOT / "build" / "integrations-home")
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "true"

FLOAT32_ROUNDING = 1e-5  # of sums of some thirty products of about 1, added up in another order


def installed(name: str) -> ModuleType:
    """The module, or the test is skipped."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # it is here, and broken
        skip_or_fail("integrations", f"{error.name} is not installed: make test-integrations")
        raise


def assert_same_masks(found: Tensor, expected: Tensor, values: Tensor, threshold: float = 0.0) -> None:
    """Masks agree, but for pixels whose value is within rounding of the threshold; those are few."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape == values.shape
    differ = found != expected
    assert int(differ.sum()) <= 1e-5 * differ.numel() + 1
    assert bool(((values - threshold).abs()[differ] < FLOAT32_ROUNDING * max(1.0, float(values.abs().max()))).all())
    assert torch.isfinite(values).all()


def encoded(masks: Tensor) -> list[dict[str, object]]:
    """COCO's dictionaries of [N, H, W], by the encoder that is proven against pycocotools."""
    rles = mask.encode(np.asfortranarray(masks.bool().permute(1, 2, 0).numpy()))
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in rles]
