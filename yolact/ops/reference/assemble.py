"""Mask assembly in plain torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.ops.reference.run_lengths import encode_run_lengths
from yolact.ops.run_lengths import RunLengths


def assemble_masks(
    prototypes: Tensor,  # [B, h, w, K], or [B, K, h, w] with layout "khw"
    coefficients: Tensor,  # [B, D, K]
    boxes: Tensor,  # [B, D, 4] xyxy in box_unit
    size: tuple[int, int],
    *,
    count: Tensor | None = None,  # [B]
    layout: str = "hwk",
    box_unit: str = "relative",
    activation: str = "sigmoid",
    threshold: float = 0.5,
    crop: str = "before",
    padding: float = 1.0,
    source_region: Tensor | None = None,  # [B, 4]
    packed: bool = False,
) -> Tensor:  # [B, D, H, W] bool
    """The twin of `yolact.ops.assemble_masks`."""
    values, inside = assemble_values(
        prototypes,
        coefficients,
        boxes,
        size,
        count=count,
        layout=layout,
        box_unit=box_unit,
        activation=activation,
        crop=crop,
        padding=padding,
        source_region=source_region,
    )
    masks = (values > threshold) & inside
    return pack(masks) if packed else masks


def assemble_values(
    prototypes: Tensor,
    coefficients: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    *,
    count: Tensor | None = None,
    layout: str = "hwk",
    box_unit: str = "relative",
    activation: str = "sigmoid",
    crop: str = "before",
    padding: float = 1.0,
    source_region: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:  # [B, D, H, W] float32, and bool
    """Return what is compared with the threshold, and which pixels may be one at all; other options change neither."""
    if layout == "khw":
        prototypes = prototypes.permute(0, 2, 3, 1)
    batch, height, width = prototypes.shape[:3]
    detections = coefficients.shape[1]
    values = torch.einsum("bhwk,bdk->bdhw", prototypes.float(), coefficients.float())
    if activation == "sigmoid":
        values = values.sigmoid()
    boxes = boxes.float()

    outputs = torch.zeros(batch, detections, *size)
    inside = ~boxes.isnan().any(-1)  # [B, D]
    if count is not None:
        inside &= torch.arange(detections) < count[:, None]
    inside = inside[:, :, None, None].repeat(1, 1, *size)
    for b in range(batch):
        x0, y0, x1, y1 = region_of(source_region, b, height, width)
        if x0 >= x1 or y0 >= y1:
            inside[b] = False
            continue
        region = (x0, y0, x1, y1)
        low = values[b]
        if crop == "before":
            edges = to_prototype(boxes[b], box_unit, region, (height, width), size)
            low = torch.where(box_mask(edges, (padding, padding), (height, width)), low, 0.0)
        low = low[:, y0:y1, x0:x1]
        if detections:
            outputs[b] = F.interpolate(low[None], size, mode="bilinear", align_corners=False)[0]
        if crop == "after":
            edges = to_output(boxes[b], box_unit, region, (height, width), size)
            paddings = (padding * quotient(size[1], x1 - x0), padding * quotient(size[0], y1 - y0))
            inside[b] &= box_mask(edges, paddings, size)
    return outputs, inside


def assemble_run_lengths(
    prototypes: Tensor,
    coefficients: Tensor,
    boxes: Tensor,
    sizes: Tensor,  # [B, 2] int64
    *,
    count: Tensor | None = None,
    capacity: int | None = None,
    source_region: Tensor | None = None,
    **options: Any,
) -> RunLengths:
    """The twin of `yolact.ops.assemble_run_lengths`: the dense masks, encoded."""
    pictures = [
        encode_run_lengths(
            assemble_masks(
                prototypes[b : b + 1],
                coefficients[b : b + 1],
                boxes[b : b + 1],
                (height, width),
                count=None if count is None else count[b : b + 1],
                source_region=None if source_region is None else source_region[b : b + 1],
                **options,
            )[0],
            capacity=capacity,
        )
        for b, (height, width) in enumerate(sizes.tolist())
    ]
    return RunLengths(
        torch.cat([picture.data for picture in pictures]),
        torch.cat([picture.length for picture in pictures]),
        torch.cat([picture.needed for picture in pictures]),
        torch.cat([picture.size for picture in pictures]),
    )


def region_of(source_region: Tensor | None, b: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The part of picture b's prototypes that is shown: xyxy, whole pixels; all zeros where it holds NaN."""
    if source_region is None:
        return 0, 0, width, height
    corners = source_region[b].float()
    if corners.isnan().any():
        return 0, 0, 0, 0
    limits = torch.tensor([width, height, width, height])
    x0, y0, x1, y1 = corners.round().clamp(min=0).minimum(limits).long().tolist()
    return x0, y0, x1, y1


def quotient(a: float, b: float) -> Tensor:
    """a / b in float32, as the kernels compute scales."""
    return torch.tensor(float(a)) / torch.tensor(float(b))


def to_prototype(
    boxes: Tensor,  # [D, 4] xyxy
    box_unit: str,
    region: tuple[int, int, int, int],
    shape: tuple[int, int],  # of the prototypes
    size: tuple[int, int],
) -> Tensor:  # [D, 4] xyxy, pixels of the prototypes
    """Boxes to prototype pixels."""
    x0, y0, x1, y1 = region
    if box_unit == "relative":
        return boxes * torch.tensor([shape[1], shape[0], shape[1], shape[0]])
    if box_unit == "output":
        scale = torch.stack([quotient(x1 - x0, size[1]), quotient(y1 - y0, size[0])])
        return boxes * scale.repeat(2) + torch.tensor([x0, y0, x0, y0])
    return boxes


def to_output(
    boxes: Tensor,  # [D, 4] xyxy
    box_unit: str,
    region: tuple[int, int, int, int],
    shape: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:  # [D, 4] xyxy, pixels of the result
    """Boxes to pixels of the result."""
    x0, y0, x1, y1 = region
    if box_unit == "relative":
        scale = torch.stack(
            [size[1] * quotient(shape[1], x1 - x0), size[0] * quotient(shape[0], y1 - y0)],
        )
        origin = torch.stack([quotient(x0, shape[1]), quotient(y0, shape[0])])
        return (boxes - origin.repeat(2)) * scale.repeat(2)
    if box_unit == "prototype":
        scale = torch.stack([quotient(size[1], x1 - x0), quotient(size[0], y1 - y0)])
        return (boxes - torch.tensor([x0, y0, x0, y0])) * scale.repeat(2)
    return boxes


def box_mask(
    edges: Tensor,  # [D, 4] xyxy, pixels
    paddings: tuple[float | Tensor, float | Tensor],  # along x and y
    shape: tuple[int, int],
) -> Tensor:  # [D, height, width] bool
    """Which pixels lie inside each box: its edges sorted, padded and clamped, as the original does it."""
    spans = []
    for axis, length in ((0, shape[1]), (1, shape[0])):
        low = edges[:, axis::2].amin(-1) - paddings[axis]
        high = edges[:, axis::2].amax(-1) + paddings[axis]
        pixel = torch.arange(length)
        spans.append((pixel >= low.clamp(min=0)[:, None]) & (pixel < high.clamp(max=length)[:, None]))
    return spans[1][:, :, None] & spans[0][:, None, :]


def pack(masks: Tensor) -> Tensor:  # [..., W] bool -> [..., ceil(W / 8)] uint8
    """Eight pixels of a row to a byte, the first in the lowest bit."""
    bits = F.pad(masks.to(torch.uint8), (0, -masks.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (bits << torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
