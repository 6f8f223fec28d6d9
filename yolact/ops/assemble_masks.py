"""Prototypes and coefficients to dense masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._assemble import check_assemble
from yolact.ops._checks import check_size


def assemble_masks(
    prototypes: Tensor,  # [B, h, w, K], or [B, K, h, w] with layout "khw"
    coefficients: Tensor,  # [B, D, K]
    boxes: Tensor,  # [B, D, 4] xyxy in box_unit
    size: tuple[int, int],  # (H, W)
    *,
    count: Tensor | None = None,  # [B] int64
    layout: str = "hwk",
    box_unit: str = "relative",
    activation: str = "sigmoid",
    threshold: float = 0.5,
    crop: str = "before",
    padding: float = 1.0,
    source_region: Tensor | None = None,  # [B, 4] xyxy, prototype pixels
    packed: bool = False,
) -> Tensor:  # [B, D, H, W] bool
    """Combine prototypes to a mask a detection, cut it by the box, stretch it to the picture and threshold it.

    Mask assembly of YOLACT (section 3.3): activation(prototypes . coefficients) at the prototypes' resolution,
    bilinear interpolation with half-pixel centres, a threshold. Computed in float32, and only inside the boxes.

    Args:
        prototypes: [B, h, w, K] or, with layout "khw", [B, K, h, w]; float32, float16 or bfloat16, any strides. Any K.
        coefficients: [B, D, K], floating.
        boxes: [B, D, 4] xyxy, floating, of any order of corners. A box with NaN gives an empty mask.
        size: (H, W) of every result, fewer than 2**32 pixels.
        count: [B] int64, the valid rows of each picture; the masks of rows past it are empty. None: all are valid.
        layout: "hwk", channels last, or "khw".
        box_unit: "relative", fractions of the whole prototype map, which is the network's input; "prototype", its
            pixels; or "output", pixels of the result.
        activation: "sigmoid", or "none": logits are interpolated.
        threshold: a pixel is one where its value is strictly above; 0.5 for a sigmoid, 0 for logits as a rule. NaN
            is not above.
        crop: "before": what lies outside the box is 0 before interpolation, as in YOLACT, so a mask may bleed past
            its box by the interpolation; "after": pixels of the result outside the box are zero; "none": boxes are
            not used, but for NaN. A pixel (column x) is inside where x1 <= x < x2, and rows alike.
        padding: prototype pixels by which a box grows on each side.
        source_region: [B, 4] xyxy in prototype pixels, whole numbers: the part of the prototypes that is the
            picture, without the borders of a letterbox. It is cut out as by slicing before interpolation, and is
            what the result shows; an empty one gives empty masks. None: the whole map.
        packed: return bits, 8 to a byte along W: pixel x is bit x % 8 (from the lowest) of byte x // 8.

    Returns:
        [B, D, H, W] bool, or packed [B, D, H, ceil(W / 8)] uint8.

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
    sides = check_size(size, "size")
    return torch.ops.yolact.assemble_masks(prototypes, coefficients, boxes, sides, **options, packed=packed)


@torch.library.register_fake("yolact::assemble_masks")
def _(
    prototypes: Tensor, coefficients: Tensor, boxes: Tensor, size: Sequence[int], *, packed: bool, **options: Any
) -> Tensor:
    batch, detections = coefficients.shape[:2]
    pitch, dtype = ((size[1] + 7) // 8, torch.uint8) if packed else (size[1], torch.bool)
    return coefficients.new_empty((batch, detections, size[0], pitch), dtype=dtype)
