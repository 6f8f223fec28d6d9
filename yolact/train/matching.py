"""Which prior answers for which truth."""

from __future__ import annotations

import torch
from torch import Tensor

from yolact.options import TrainOptions

BACKGROUND, NEUTRAL = -1, -2  # in place of the number of a truth


def match(
    priors: Tensor,  # [P, 4] cx cy w h, fractions
    boxes: Tensor,  # [n, 4] xyxy, fractions
    crowd_boxes: Tensor,  # [m, 4] xyxy, fractions
    options: TrainOptions,
) -> Tensor:  # [P] int64
    """Match the priors of a picture with its truths (section 6 of the paper, as SSD does).

    Every truth gets one prior whatever their overlap: the best pair of all is taken first, then the best of what is
    left. Every other prior belongs to the truth it overlaps most, if that is enough.

    Returns:
        [P] int64, the truth that each prior answers for, or BACKGROUND or NEUTRAL.
    """
    corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], 1)
    if len(boxes):
        overlap = _intersection(boxes, corners)
        iou = overlap / (_area(boxes)[:, None] + _area(corners) - overlap)  # [n, P]
        best, matched = iou.max(0)
        matched = matched.where(best >= options.positive_iou, NEUTRAL).where(best >= options.negative_iou, BACKGROUND)
        best, wish = iou.max(1)  # [n] each truth's best of the priors left
        for _ in range(min(iou.shape)):
            truth = best.argmax()
            prior = wish[truth]
            matched[prior] = truth
            best[truth] = -1  # has one
            iou[:, prior] = -1
            again = ((wish == prior) & (best >= 0)).nonzero()[:, 0]
            if len(again):
                best[again], wish[again] = iou[again].max(1)
    else:
        matched = torch.full((len(priors),), BACKGROUND, device=priors.device)
    if len(crowd_boxes) and options.crowd_overlap is not None:
        inside = (_intersection(crowd_boxes, corners) / _area(corners)).amax(0)
        matched = matched.where((matched >= 0) | (inside <= options.crowd_overlap), NEUTRAL)
    return matched


def encode(
    boxes: Tensor,  # [n, 4] xyxy, fractions
    priors: Tensor,  # [n, 4] cx cy w h, fractions
    variances: tuple[float, float],
) -> Tensor:  # [n, 4]
    """The deltas that decode to the boxes: centre offsets in sizes of the prior and log sizes, over the variances."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    offsets = (centres - priors[:, :2]) / (variances[0] * priors[:, 2:])
    log_sizes = ((boxes[:, 2:] - boxes[:, :2]) / priors[:, 2:]).log() / variances[1]
    return torch.cat([offsets, log_sizes], 1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _intersection(a: Tensor, b: Tensor) -> Tensor:  # [n, 4], [P, 4] -> [n, P]
    ax1, ay1, ax2, ay2 = a.T[:, :, None]
    bx1, by1, bx2, by2 = b.T.contiguous()  # coordinate by coordinate, and in place: twice as quick as pairs of them
    widths = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    return widths.mul_(torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0))
