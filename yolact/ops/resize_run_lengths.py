"""Masks of low resolution straight to COCO run lengths in the size of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from yolact.ops._checks import items_of
from yolact.ops.assemble_run_lengths import assemble_run_lengths, prototypes_to_rles
from yolact.ops.resize_masks import as_prototypes, region_of_each
from yolact.ops.run_lengths import RunLengths

Sizes = Tensor | Sequence[tuple[int, int]] | tuple[int, int]


def resize_run_lengths(
    logits: Tensor,  # [N, h, w]
    sizes: Sizes,  # (H, W), or [N, 2] int64
    *,
    capacity: int | None = None,
    source_region: Tensor | None = None,  # [4] or [N, 4] xyxy, pixels of the logits
    activation: str = "none",
    threshold: float = 0.0,
) -> RunLengths:  # M = N rows
    """Stretch masks of low resolution to their pictures and encode them, without a dense mask in between.

    The strings equal those of `encode_run_lengths(resize_masks(...))` byte for byte.

    Args:
        sizes: (height, width) of all results, or a pair for each, as `assemble_run_lengths` takes them.
        capacity: bytes a row; see `assemble_run_lengths`.
        logits, source_region, activation, threshold: see `resize_masks`.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    return assemble_run_lengths(
        *as_prototypes(logits),
        size_of_each(sizes, logits),
        capacity=capacity,
        **_options(logits, source_region, activation, threshold),
    )


def logits_to_rles(
    logits: Tensor,  # [N, h, w]
    sizes: Sizes,  # (H, W), or [N, 2] int64
    *,
    capacity: int | None = None,
    source_region: Tensor | None = None,  # [4] or [N, 4] xyxy, pixels of the logits
    activation: str = "none",
    threshold: float = 0.0,
) -> list[dict[str, Any]]:
    """Stretch masks of low resolution straight to COCO's dictionaries, exact whatever the masks; waits for a GPU.

    Args:
        sizes: see `resize_run_lengths`.
        capacity: see `assemble_run_lengths`; it changes the speed only.
        logits, source_region, activation, threshold: see `resize_masks`.

    Returns:
        {"size": [H, W], "counts": str} for each mask.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    pictures = prototypes_to_rles(
        *as_prototypes(logits),
        size_of_each(sizes, logits),
        capacity=capacity,
        **_options(logits, source_region, activation, threshold),
    )
    return [rle for (rle,) in pictures]


def size_of_each(sizes: Sizes, logits: Tensor) -> Tensor | list[Any]:  # N pairs
    """The same size for every mask, where one pair is given."""
    if isinstance(sizes, Tensor):
        return sizes.expand(logits.shape[0], 2) if sizes.shape == (2,) else sizes
    items = items_of(sizes, "sizes")
    is_pair = bool(items) and all(isinstance(item, (Integral, torch.SymInt)) for item in items)
    return [items] * logits.shape[0] if is_pair else items


def _options(logits: Tensor, source_region: Tensor | None, activation: str, threshold: float) -> dict[str, Any]:
    return {
        "layout": "khw",
        "activation": activation,
        "threshold": threshold,
        "crop": "none",
        "source_region": region_of_each(source_region, logits),
    }
