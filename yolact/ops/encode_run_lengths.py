"""Dense masks to COCO run lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import check_count, check_pixels, check_tensor
from yolact.ops.run_lengths import DEFAULT_CAPACITY, RunLengths, ample_capacity, exact_rles


def encode_run_lengths(
    masks: Tensor,  # [N, H, W] bool or uint8
    *,
    capacity: int | None = None,
) -> RunLengths:  # M = N rows
    """Encode masks to COCO's compressed run-length strings, byte for byte as pycocotools does.

    Each mask is read once where it lies, row-major, column-major or otherwise; none is copied or transposed. The
    shapes of the result follow from N and `capacity` alone: a string that is longer is told by `needed`.

    Args:
        masks: [N, H, W] bool or uint8, any strides; what is not zero is one (pycocotools compares bytes). Fewer
            than 2**32 pixels a mask.
        capacity: bytes a row; by default 4096, ample for what a network predicts. Whatever the mask, H*W+1 counts
            of at most 7 bytes suffice.

    Returns:
        RunLengths of N rows.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype or shape, named with its value.
    """
    if capacity is None:
        capacity = DEFAULT_CAPACITY
    check_tensor(masks, "masks", (None, None, None), (torch.bool, torch.uint8))
    check_pixels(masks.shape[1], masks.shape[2], "masks")
    capacity = check_count(capacity, "capacity")
    return RunLengths(*torch.ops.yolact.encode_run_lengths(masks, capacity=capacity))


def masks_to_rles(
    masks: Tensor,  # [N, H, W] bool or uint8
) -> list[dict[str, Any]]:
    """Encode masks to COCO's dictionaries, exact whatever the masks; synchronises where they are on a GPU.

    Encodes with a capacity that suffices for nearly all masks of the size, copies the strings once, and encodes those
    again that overflowed.

    Args:
        masks: [N, H, W] bool or uint8, any strides; what is not zero is one.

    Returns:
        N dictionaries {"size": [H, W], "counts": str}.

    Raises:
        TypeError, ValueError: masks of the wrong type, dtype or shape.

    Example:
        >>> masks_to_rles(torch.eye(3, dtype=torch.bool)[None])
        [{'size': [3, 3], 'counts': '013000'}]
    """
    check_tensor(masks, "masks", (None, None, None), (torch.bool, torch.uint8))
    return exact_rles(
        encode_run_lengths(masks, capacity=ample_capacity(masks.shape[2])),
        lambda rows, capacity: encode_run_lengths(masks[rows], capacity=capacity),
    )


@torch.library.register_fake("yolact::encode_run_lengths")
def _(masks: Tensor, *, capacity: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = masks.shape[0]
    return (
        masks.new_empty((count, capacity), dtype=torch.uint8),
        masks.new_empty((count,), dtype=torch.int64),
        masks.new_empty((count,), dtype=torch.int64),
        masks.new_empty((count, 2), dtype=torch.int64),
    )
