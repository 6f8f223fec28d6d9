"""Fast NMS in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from yolact.structures import Selection


def fast_nms(
    boxes: Tensor,  # [B, N, 4] float32 xyxy
    scores: Tensor,  # [B, C, N] float32
    *,
    iou_threshold: float = 0.5,
    top_k: int = 200,
    max_detections: int | None = 100,
    score_threshold: float | None = None,
    across_classes: bool = False,
    method: str = "fast",
    union_eps: float = 0.0,
    plus_one: bool = False,
    suppress_equal: bool = False,
) -> Selection:
    """The twin of `yolact.ops.fast_nms`."""
    batch, classes, _ = scores.shape
    rows = rows_of(max_detections, top_k, scores, across_classes)
    index = torch.full((batch, rows), -1)
    label = torch.full((batch, rows), -1)
    score = torch.zeros(batch, rows)
    count = torch.zeros(batch, dtype=torch.int64)
    for b in range(batch):
        candidates = ~scores[b].isnan() & ~boxes[b].isnan().any(-1)  # [C, N]
        if score_threshold is not None:
            candidates &= scores[b] > score_threshold
        if across_classes:
            groups = [best_class(scores[b], candidates)]
        else:
            groups = [candidates & (torch.arange(classes)[:, None] == c) for c in range(classes)]

        kept = []
        for group in groups:
            i, c = group.T.nonzero().T  # by index
            order = scores[b, c, i].argsort(descending=True, stable=True)[:top_k]
            i, c = i[order], c[order]
            overlap = overlaps(boxes[b, i], plus_one, union_eps)
            apart = overlap < iou_threshold if suppress_equal else overlap <= iou_threshold
            falls_to = (~apart).triu(1)  # [j, i]: i falls to the better j
            stays = ~falls_to.any(0) if method == "fast" else stay_greedily(falls_to)
            kept.append(torch.stack([c, i])[:, stays])

        c, i = sort_by_score(torch.cat(kept, 1), scores[b])[:, :rows]
        count[b] = len(i)
        index[b, : len(i)], label[b, : len(i)], score[b, : len(i)] = i, c, scores[b, c, i]
    return Selection(index, label, score, count)


def best_class(
    scores: Tensor,  # [C, N]
    candidates: Tensor,  # [C, N] bool
) -> Tensor:  # [C, N] bool
    """Leave each box one candidate: its best score, in the lowest class that has it."""
    highest = scores.masked_fill(~candidates, -torch.inf).amax(0)
    at_best = candidates & (scores == highest)
    return at_best & (at_best.cumsum(0) == 1)


def overlaps(boxes: Tensor, plus_one: bool, union_eps: float) -> Tensor:  # [N, 4] -> [N, N]
    """Intersection over union of every two boxes."""

    def sides(low: Tensor, high: Tensor) -> Tensor:
        return high - low + 1 if plus_one else high - low

    area = sides(boxes[:, :2], boxes[:, 2:]).prod(-1)
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = sides(low, high).clamp(min=0).prod(-1)
    union = area[:, None] + area[None] - intersection
    if union_eps > 0:
        union = union.clamp(min=union_eps)
    return intersection / union


def stay_greedily(falls_to: Tensor) -> Tensor:  # [N, N] bool, upper triangle -> [N] bool
    """From the best on, each box that stays fells those after it."""
    stays = torch.ones(len(falls_to), dtype=torch.bool)
    for j in range(len(falls_to)):
        if stays[j]:
            stays &= ~falls_to[j]
    return stays


def sort_by_score(
    pairs: Tensor,  # [2, N] class and box
    scores: Tensor,  # [C, N]
) -> Tensor:  # [2, N]
    """Sort by falling score, ties by lower class, then by lower box."""
    c, i = pairs
    pairs = pairs[:, (c * scores.shape[1] + i).argsort()]
    return pairs[:, scores[pairs[0], pairs[1]].argsort(descending=True, stable=True)]


def rows_of(max_detections: int | None, top_k: int, scores: Tensor, across_classes: bool) -> int:
    """The rows of the result: where none are asked for, as many as can stay, or one."""
    if max_detections is not None:
        return max_detections
    _, classes, boxes = scores.shape
    return max(1, min(top_k, boxes)) * (1 if across_classes else classes)
