"""Other libraries' tensors: which of them the kernels take, when they are the same, their run lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolact.ops import masks_to_rles
from yolact.ops._checks import FLOATING


def takes(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: of their dtypes, all on one device that they were built for."""
    device = tensors[0].device
    if any(tensor.device != device or tensor.dtype not in FLOATING for tensor in tensors):
        return False
    return device.type == "cpu" or (
        device.type == "cuda" and torch._C._dispatch_has_kernel_for_dispatch_key("yolact::detect", "CUDA")
    )


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether masks of a small case are the same, but for two pixels that may be on the threshold."""
    same_form = found.dtype == expected.dtype and found.shape == expected.shape
    return same_form and int((found != expected).sum()) <= 2


def rles_of(masks: Tensor) -> list[dict[str, Any]]:  # [N, H, W] of any dtype
    """COCO's dictionaries of masks as pycocotools would see them, as bytes."""
    return masks_to_rles(masks if masks.dtype == torch.bool else masks.to(torch.uint8))
