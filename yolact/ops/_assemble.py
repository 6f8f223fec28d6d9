"""What `assemble_masks` and `assemble_run_lengths` check and pass on alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolact.ops._checks import FLOATING, check_choice, check_count, check_number, check_size, check_tensor


def check_assemble(
    prototypes: Tensor,
    coefficients: Tensor,
    boxes: Tensor,
    *,
    count: Tensor | None,
    layout: str,
    box_unit: str,
    activation: str,
    threshold: float,
    crop: str,
    padding: float,
    source_region: Tensor | None,
) -> tuple[Tensor, dict[str, Any]]:
    """Check the arguments that both operators share; return the boxes and the options as the operators take them."""
    check_choice(layout, "layout", ("hwk", "khw"))
    check_choice(box_unit, "box_unit", ("relative", "output", "prototype"))
    check_choice(activation, "activation", ("sigmoid", "none"))
    check_choice(crop, "crop", ("before", "after", "none"))
    threshold = check_number(threshold, "threshold")
    padding = check_number(padding, "padding", low=0.0)
    check_tensor(prototypes, "prototypes", (None, None, None, None), FLOATING)
    batch, *sides = prototypes.shape
    channels = sides.pop(2 if layout == "hwk" else 0)
    check_size(sides, "prototypes")
    check_count(channels, "the channels of prototypes")
    check_tensor(coefficients, "coefficients", (batch, None, channels), FLOATING, like=prototypes)
    check_tensor(boxes, "boxes", (batch, coefficients.shape[1], 4), FLOATING, like=prototypes)
    if count is not None:
        check_tensor(count, "count", (batch,), (torch.int64,), like=prototypes)
        count = count.contiguous()
    if source_region is not None:
        check_tensor(source_region, "source_region", (batch, 4), (torch.int64, *FLOATING), like=prototypes)
        source_region = source_region.float().contiguous()
    options = {
        "count": count,
        "layout": layout,
        "box_unit": box_unit,
        "activation": activation,
        "threshold": threshold,
        "crop": crop,
        "padding": padding,
        "source_region": source_region,
    }
    return boxes.float().contiguous(), options
