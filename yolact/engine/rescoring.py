"""Masks scored by how well they fit: the box's score times the IoU that a small net predicts (YOLACT++, section 6.1).

What the net sees is made for it at the prototypes' resolution, a few masks at a time, and goes when it was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from yolact.engine.convolution import RELU, PlainConvolution
from yolact.models.mask_iou import MaskIoUNet, inside_boxes
from yolact.structures import Rows

Score = Literal["mask", "box"]
SCORES = get_args(Score)

MaskIoU = Callable[[Tensor], Tensor]  # [N, 1, h, w] float32 soft masks -> [N, C] float32

# Masks of a picture that are looked at together, where only those that count are and where all are: few enough that
# their planes come from memory used before (a hundred at once take a CPU a fourth longer), and as many as are found by
# default, which are launched once. Of thousands the others wait.
_TOGETHER = {True: 32, False: 128}


def lean_mask_iou(net: MaskIoUNet) -> MaskIoU:
    """What the net computes, channels last, and in float32 whatever the network's precision, as scores are.

    Not by oneDNN's fused primitives: how many masks there are changes from picture to picture, and they reorder their
    weights for each number.
    """
    layers = [
        PlainConvolution(layer, None, RELU, dtype=torch.float32)
        for layer in cast(nn.Sequential, net.maskiou_net)
        if isinstance(layer, nn.Conv2d)
    ]

    def predict(masks: Tensor) -> Tensor:
        x = masks.contiguous(memory_format=torch.channels_last)
        for layer in layers:
            x = layer(x)
        return x.amax((2, 3))

    return predict


def mask_iou_as_it_is(net: nn.Module) -> MaskIoU:
    """A net with hooks or other layers than `yolact.models` builds, in its own precision."""
    dtype = next(net.parameters()).dtype
    return lambda masks: net(masks.to(dtype)).float()


def rescore(
    rows: Rows,
    mask_iou: MaskIoU,
    score: Score,
    score_threshold: float,
    *,
    ragged: bool,
) -> Rows:
    """Rows with both scores, by the one that counts: in its falling order, and those above the threshold.

    Args:
        rows: by falling score of the box; those that count are above the threshold.
        mask_iou: predicts IoUs.
        score: which one counts.
        score_threshold: masks have to score above it, too, where their scores count.
        ragged: look at the rows that count alone, which the host has to wait for; otherwise at all of them.
    """
    ious = _predict(rows, mask_iou, ragged)
    box_scores, mask_scores = rows.scores, rows.scores * ious
    rows = replace(rows, box_scores=box_scores, mask_scores=mask_scores)
    if score == "box":
        return rows
    kept = torch.arange(box_scores.shape[1], device=box_scores.device) < rows.count[:, None]  # [B, D]
    if score_threshold > 0:
        kept = kept & (mask_scores > score_threshold)
    ranked = mask_scores.masked_fill(~kept, -1.0)  # those kept come first
    order = torch.argsort(ranked, dim=1, descending=True, stable=True)

    def ordered(tensor: Tensor) -> Tensor:  # [B, D] or [B, D, n]
        return torch.take_along_dim(tensor, order if tensor.ndim == 2 else order[..., None], 1)

    mask_scores = ordered(mask_scores)
    return replace(
        rows,
        count=kept.sum(1),
        labels=ordered(rows.labels),
        scores=mask_scores,
        box_scores=ordered(box_scores),
        mask_scores=mask_scores,
        boxes=ordered(rows.boxes),
        relative_boxes=ordered(rows.relative_boxes),
        coefficients=ordered(rows.coefficients),
    )


def _predict(rows: Rows, mask_iou: MaskIoU, ragged: bool) -> Tensor:  # [B, D]
    """The IoU of each row's mask if the row's class is right; 0 for rows that were not looked at."""
    ious = torch.zeros_like(rows.scores)
    parts = [(slice(None), ious.shape[1])]
    if ragged:
        parts = [(slice(b, b + 1), count) for b, count in enumerate(rows.count.tolist())]
    few = _TOGETHER[ragged]
    for pictures, count in parts:
        for start in range(0, count, few):
            some = pictures, slice(start, min(start + few, count))
            masks = soft_masks(rows.prototypes[pictures], rows.coefficients[some], rows.relative_boxes[some])
            by_class = mask_iou(masks.flatten(0, 1)[:, None])  # [n, C]
            labels = rows.labels[some].clamp(min=0)  # past the count there is none
            ious[some] = by_class.gather(1, labels.view(-1, 1)).view(labels.shape)
    return ious.nan_to_num_(0.0)


def soft_masks(
    prototypes: Tensor,  # [B, h, w, K] float32
    coefficients: Tensor,  # [B, D, K] float32
    boxes: Tensor,  # [B, D, 4] float32 xyxy, fractions, corners in any order
) -> Tensor:  # [B, D, h, w] float32
    """What `assemble_masks` has before it makes masks as large as the picture: probabilities, 0 outside the boxes."""
    batch, height, width, channels = prototypes.shape
    planes = prototypes.reshape(batch, height * width, channels)
    masks = torch.bmm(coefficients, planes.transpose(1, 2)).sigmoid_().unflatten(2, (height, width))
    rows, columns = inside_boxes(boxes, height, width)
    # A line at a time: a plane of what is inside would take as long as the masks themselves.
    return masks.mul_(rows.to(masks.dtype).unsqueeze(3)).mul_(columns.to(masks.dtype).unsqueeze(2))
