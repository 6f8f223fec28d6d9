"""Prototypes and coefficients straight to COCO run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._assemble import check_assemble
from yolact.ops._checks import check_count, check_size, check_tensor, items_of
from yolact.ops.run_lengths import DEFAULT_CAPACITY, RunLengths, ample_capacity, copy_to_host, exact_rles


def assemble_run_lengths(
    prototypes: Tensor,  # [B, h, w, K], or [B, K, h, w] with layout "khw"
    coefficients: Tensor,  # [B, D, K]
    boxes: Tensor,  # [B, D, 4] xyxy in box_unit
    sizes: Tensor | Sequence[tuple[int, int]],  # [B, 2] int64, (H, W) of each picture
    *,
    count: Tensor | None = None,  # [B] int64
    capacity: int | None = None,
    layout: str = "hwk",
    box_unit: str = "relative",
    activation: str = "sigmoid",
    threshold: float = 0.5,
    crop: str = "before",
    padding: float = 1.0,
    source_region: Tensor | None = None,  # [B, 4] xyxy, prototype pixels
) -> RunLengths:  # M = B * D rows
    """Assemble masks and encode them as COCO run lengths in one step, without a dense mask in between.

    The strings equal those of `encode_run_lengths(assemble_masks(...))` byte for byte. Between two values of the
    low-resolution mask that lie on one side of the threshold no pixel is computed, so the cost is that of the
    prototypes inside the boxes and of the masks' outlines.

    Args:
        sizes: [B, 2] int64 tensor, or a sequence of pairs: (height, width) of the results of each picture, fewer
            than 2**32 pixels each. On the CPU, or on the GPU where the prototypes are: there they are read without a
            wait, so nobody checks them, and a pair that is no size gives empty masks of 0 x 0.
        capacity: bytes a row; by default 4096, ample for what a network predicts.
        prototypes, coefficients, boxes, count, layout, box_unit, activation, threshold, crop, padding,
            source_region: see `assemble_masks`.

    Returns:
        RunLengths of B * D rows, a picture's detections in a row; those past `count` are empty masks.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    boxes, options = check_assemble(
        prototypes,
        coefficients,
        boxes,
        count=count,
        layout=layout,
        box_unit=box_unit,
        activation=activation,
        threshold=threshold,
        crop=crop,
        padding=padding,
        source_region=source_region,
    )
    if capacity is None:
        capacity = DEFAULT_CAPACITY
    capacity = check_count(capacity, "capacity")
    sizes = check_sizes(sizes, prototypes.shape[0], prototypes.device)
    return RunLengths(
        *torch.ops.yolact.assemble_run_lengths(prototypes, coefficients, boxes, sizes, capacity=capacity, **options)
    )


def prototypes_to_rles(
    prototypes: Tensor,  # [B, h, w, K], or [B, K, h, w] with layout "khw"
    coefficients: Tensor,  # [B, D, K]
    boxes: Tensor,  # [B, D, 4] xyxy in box_unit
    sizes: Tensor | Sequence[tuple[int, int]],  # [B, 2] int64, (H, W) of each picture
    *,
    count: Tensor | None = None,  # [B] int64
    capacity: int | None = None,
    source_region: Tensor | None = None,  # [B, 4] xyxy, prototype pixels
    **options: Any,
) -> list[list[dict[str, Any]]]:
    """Assemble masks straight to COCO's dictionaries, exact whatever the masks; synchronises on a GPU.

    Encodes with `capacity` bytes a row, copies the strings once, and encodes those again that overflowed.

    Args:
        sizes: [B, 2] int64 tensor, or a sequence of pairs: (height, width) of the results of each picture.
        capacity: bytes a row; by default what suffices for nearly all masks of the largest size, or of any usual one
            where the sizes lie on a GPU. It changes the speed only.
        prototypes, coefficients, boxes, count, source_region, options: see `assemble_masks`.

    Returns:
        One list a picture: a dictionary {"size": [H, W], "counts": str} for each of its rows below `count`.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    if capacity is None and isinstance(prototypes, Tensor):
        sizes = check_sizes(sizes, len(prototypes), prototypes.device)
        if sizes.device.type == "cpu":
            capacity = ample_capacity(max(sizes[:, 1].tolist(), default=0))
    run_lengths = assemble_run_lengths(
        prototypes, coefficients, boxes, sizes, count=count, capacity=capacity, source_region=source_region, **options
    )
    batch, detections = coefficients.shape[:2]

    def encode_again(rows: list[int], capacity: int) -> RunLengths:
        pairs = check_sizes(sizes, batch, prototypes.device)
        parts = []
        for b, of_picture in groupby(rows, lambda row: row // detections):
            one, chosen = slice(b, b + 1), [row % detections for row in of_picture]
            region = None if source_region is None else source_region[one]
            arguments = (prototypes[one], coefficients[one, chosen], boxes[one, chosen], pairs[one])
            parts.append(assemble_run_lengths(*arguments, capacity=capacity, source_region=region, **options))
        return RunLengths(*(torch.cat([getattr(part, name) for part in parts]) for name in RunLengths.__annotations__))

    on_host = None if count is None else copy_to_host(count)  # exact_rles waits for both
    rles = exact_rles(run_lengths, encode_again)
    counts = [detections] * batch if on_host is None else on_host.clamp(0, detections).tolist()
    return [rles[b * detections : b * detections + counts[b]] for b in range(batch)]


def check_sizes(sizes: Tensor | Sequence[tuple[int, int]], batch: int, device: torch.device) -> Tensor:
    """Return `sizes` as a contiguous [B, 2] int64 tensor; its values are checked where that costs no wait."""
    if not isinstance(sizes, Tensor):
        pairs = [check_size(size, f"sizes[{place}]") for place, size in enumerate(items_of(sizes, "sizes"))]
        sizes = torch.tensor(pairs, dtype=torch.int64, device="cpu").view(-1, 2)  # a copy to a GPU would wait
        check_tensor(sizes, "sizes", (batch, 2), (torch.int64,))
        return sizes
    check_tensor(sizes, "sizes", (batch, 2), (torch.int64,))
    if sizes.device.type != "cpu":
        if sizes.device != device:
            raise ValueError(f"sizes must be on the CPU or on {device}, got {sizes.device}")
    elif not torch.compiler.is_compiling():
        for place, size in enumerate(sizes.tolist()):
            check_size(size, f"sizes[{place}]")
    return sizes.contiguous()


@torch.library.register_fake("yolact::assemble_run_lengths")
def _(
    prototypes: Tensor, coefficients: Tensor, boxes: Tensor, sizes: Tensor, *, capacity: int, **options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = coefficients.shape[0] * coefficients.shape[1]
    return (
        coefficients.new_empty((rows, capacity), dtype=torch.uint8),
        coefficients.new_empty((rows,), dtype=torch.int64),
        coefficients.new_empty((rows,), dtype=torch.int64),
        coefficients.new_empty((rows, 2), dtype=torch.int64),
    )
