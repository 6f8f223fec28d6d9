"""YOLACT as the original formulates it, in eager torch: what our steps are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.models.mask_iou import MaskIoUNet


def eager_detect(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C]
    priors: Tensor,  # [P, 4]
    carried: Tensor | None = None,  # [B, P, K] what each prior takes along, such as mask coefficients
) -> list[tuple[Tensor, ...]]:  # a picture: boxes [N, 4], label [N], score [N] and, where asked for, carried [N, K]
    """Detection as the original formulates it, in eager torch: a picture at a time, matrices throughout."""
    probabilities = class_logits.softmax(-1)
    results = []
    for b, (deltas, scores) in enumerate(zip(box_deltas, probabilities.transpose(1, 2), strict=True)):
        centre = priors[:, :2] + deltas[:, :2] * 0.1 * priors[:, 2:]
        size = priors[:, 2:] * torch.exp(deltas[:, 2:] * 0.2)
        boxes = torch.cat([centre - size / 2, centre - size / 2 + size], 1)
        keep = scores[1:].max(0).values > 0.05
        along = () if carried is None else (carried[b, keep],)
        results.append(eager_fast_nms(boxes[keep], scores[1:, keep], *along))
    return results


def eager_fast_nms(
    boxes: Tensor,  # [N, 4]
    scores: Tensor,  # [C, N]
    *carried: Tensor,  # [N, K]
) -> tuple[Tensor, ...]:  # boxes [M, 4], label [M], score [M], and of what is carried the rows that stay
    """Fast NMS as the paper gives it: sort, an overlap matrix a class, its upper triangle, the columns' maxima."""
    if len(boxes) == 0:
        return boxes, torch.empty(0, dtype=torch.int64, device=boxes.device), scores.new_empty(0), *carried
    scores, order = scores.sort(1, descending=True)
    scores, order = scores[:, :200], order[:, :200]
    boxes = boxes[order]  # [C, K, 4]
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    overlap = intersection / (area[:, :, None] + area[:, None] - intersection)
    keep = overlap.triu_(1).amax(1) <= 0.5
    label = torch.arange(len(scores), device=scores.device)[:, None].expand_as(keep)[keep]
    which = order[keep]
    scores, order = scores[keep].sort(descending=True)
    rows = (along[which[order[:100]]] for along in carried)
    return boxes[keep][order[:100]], label[order[:100]], scores[:100], *rows


def eager_masks(
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [N, K]
    boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
    size: tuple[int, int],
) -> Tensor:  # [N, H, W] bool
    """Masks as the original makes them, in eager torch: all prototypes for each, cut by the box, stretched whole."""
    masks = eager_soft_masks(prototypes, coefficients, boxes)
    return F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].gt(0.5)


def eager_soft_masks(
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [N, K]
    boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
) -> Tensor:  # [N, h, w]
    """The same before they are stretched: probabilities."""
    height, width, _ = prototypes.shape
    masks = (prototypes @ coefficients.T).sigmoid()  # [h, w, N]
    x0, y0, x1, y1 = boxes.unbind(1)
    column = torch.arange(width, device=boxes.device)[None, :, None]
    row = torch.arange(height, device=boxes.device)[:, None, None]
    inside = (column >= (x0 * width - 1).clamp(min=0)) & (column < (x1 * width + 1).clamp(max=width))
    inside = inside & (row >= (y0 * height - 1).clamp(min=0)) & (row < (y1 * height + 1).clamp(max=height))
    return (masks * inside.to(masks.dtype)).permute(2, 0, 1).contiguous()


def eager_rescore(
    net: MaskIoUNet,
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [N, K]
    boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
    labels: Tensor,  # [N]
    scores: Tensor,  # [N]
) -> Tensor:  # [N]
    """Scores of masks as the original has them; the order is left to who shows them."""
    ious = net(eager_soft_masks(prototypes, coefficients, boxes)[:, None])  # [N, C]
    return scores * ious.gather(1, labels[:, None])[:, 0]


def eager_preprocess(
    pictures: Tensor,  # [B, H, W, 3] uint8
    size: tuple[int, int],
    mean: Tensor,  # [3]
    std: Tensor,  # [3]
) -> Tensor:  # [B, 3, *size] float32
    """Pictures to the network's input, in eager torch."""
    images = F.interpolate(pictures.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
    return (images - mean[:, None, None]) / std[:, None, None]
