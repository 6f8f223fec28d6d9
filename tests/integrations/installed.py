"""The libraries under test, each in its own environment or skipped for want of it."""

from __future__ import annotations

import importlib
import os
import tempfile
from types import ModuleType

import torch
from conftest import skip_or_fail
from torch import Tensor

# Ultralytics keeps settings at home and installs what it misses unless told otherwise.
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = "true"

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
