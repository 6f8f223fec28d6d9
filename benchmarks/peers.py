"""How others do the same jobs: written here from their description, or called where they are installed."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor


def eager_detect(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C]
    priors: Tensor,  # [P, 4]
) -> list[tuple[Tensor, Tensor, Tensor]]:  # a picture: boxes [N, 4], label [N], score [N]
    """Detection as the original formulates it, in eager torch: a picture at a time, matrices throughout."""
    probabilities = class_logits.softmax(-1)
    results = []
    for deltas, scores in zip(box_deltas, probabilities.transpose(1, 2), strict=True):
        centre = priors[:, :2] + deltas[:, :2] * 0.1 * priors[:, 2:]
        size = priors[:, 2:] * torch.exp(deltas[:, 2:] * 0.2)
        boxes = torch.cat([centre - size / 2, centre - size / 2 + size], 1)
        keep = scores[1:].max(0).values > 0.05
        results.append(eager_fast_nms(boxes[keep], scores[1:, keep]))
    return results


def eager_fast_nms(
    boxes: Tensor,  # [N, 4]
    scores: Tensor,  # [C, N]
) -> tuple[Tensor, Tensor, Tensor]:  # boxes [M, 4], label [M], score [M]
    """Fast NMS as the paper gives it: sort, an overlap matrix a class, its upper triangle, the columns' maxima."""
    scores, order = scores.sort(1, descending=True)
    scores, order = scores[:, :200], order[:, :200]
    boxes = boxes[order]  # [C, K, 4]
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    overlap = intersection / (area[:, :, None] + area[:, None] - intersection)
    keep = overlap.triu_(1).amax(1) <= 0.5
    label = torch.arange(len(scores))[:, None].expand_as(keep)[keep]
    scores, order = scores[keep].sort(descending=True)
    return boxes[keep][order[:100]], label[order[:100]], scores[:100]


def eager_masks(
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [N, K]
    boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
    size: tuple[int, int],
) -> Tensor:  # [N, H, W] bool
    """Masks as the original makes them, in eager torch: all prototypes for each, cut by the box, stretched whole."""
    height, width, _ = prototypes.shape
    masks = (prototypes @ coefficients.T).sigmoid()  # [h, w, N]
    x0, y0, x1, y1 = (boxes * torch.tensor([width, height, width, height])).unbind(1)
    column, row = torch.arange(width)[None, :, None], torch.arange(height)[:, None, None]
    inside = (column >= (x0 - 1).clamp(min=0)) & (column < (x1 + 1).clamp(max=width))
    inside = inside & (row >= (y0 - 1).clamp(min=0)) & (row < (y1 + 1).clamp(max=height))
    masks = (masks * inside.float()).permute(2, 0, 1).contiguous()
    return F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].gt(0.5)


def mask_packages() -> dict[str, ModuleType]:
    """The packages that encode COCO's run lengths, of those installed."""
    packages = {}
    for name in ("pycocotools", "hotcoco"):
        try:
            packages[name] = importlib.import_module(f"{name}.mask")
        except ImportError:
            continue
    return packages
