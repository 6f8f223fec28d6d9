"""Fast NMS and detection once more, in NumPy and loops over pairs: an independent reading of what they promise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

F = np.float32


def overlap(a: np.ndarray, b: np.ndarray, plus_one: bool, union_eps: float) -> np.float32:
    one = F(plus_one)
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + one, F(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + one, F(0))
    area_a = (a[2] - a[0] + one) * (a[3] - a[1] + one)
    area_b = (b[2] - b[0] + one) * (b[3] - b[1] + one)
    union = area_a + area_b - width * height
    if union_eps > 0:
        union = max(union, F(union_eps))
    with np.errstate(divide="ignore", invalid="ignore"):
        return width * height / union


def fast_nms(
    boxes,  # [N, 4] float32, finite
    scores,  # [C, N] float32, NaN: no candidate
    *,
    iou_threshold=0.5,
    top_k=200,
    max_detections=100,
    score_threshold=None,
    across_classes=False,
    method="fast",
    union_eps=0.0,
    plus_one=False,
    suppress_equal=False,
) -> list[tuple[int, int, float]]:  # (label, index, score)
    candidates = [
        (float(s), c, i)
        for c, row in enumerate(scores)
        for i, s in enumerate(row)
        if not np.isnan(s) and (score_threshold is None or s > F(score_threshold))
    ]
    if across_classes:
        best: dict[int, tuple[float, int, int]] = {}
        for candidate in candidates:
            if candidate[2] not in best or candidate[0] > best[candidate[2]][0]:
                best[candidate[2]] = candidate
        groups = [list(best.values())]
    else:
        groups = [[candidate for candidate in candidates if candidate[1] == c] for c in range(len(scores))]
    kept = []
    for group in groups:
        ranked = sorted(group, key=lambda candidate: (-candidate[0], candidate[2]))[:top_k]
        fell = [False] * len(ranked)
        for low in range(len(ranked)):
            for high in range(low):
                if method == "greedy" and fell[high]:
                    continue
                value = overlap(boxes[ranked[high][2]], boxes[ranked[low][2]], plus_one, union_eps)
                stays = value < F(iou_threshold) if suppress_equal else value <= F(iou_threshold)
                fell[low] |= not stays
        kept += [candidate for candidate, gone in zip(ranked, fell, strict=True) if not gone]
    kept.sort(key=lambda candidate: (-candidate[0], candidate[1], candidate[2]))
    return [(c, i, s) for s, c, i in kept[:max_detections]]


def detect(
    box_deltas,  # [P, 4] float32
    class_logits,  # [P, 1 + C] float32
    priors,  # [P, 4]
    *,
    score_threshold=0.05,
    second_threshold=False,
    variances=(0.1, 0.2),
    max_log_size=None,
    clip=False,
    level_sizes=None,
    pre_nms_top_k=None,
    **options,
) -> list[tuple[int, int, float, np.ndarray]]:  # (label, prior, score, box)
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = np.exp(class_logits - class_logits.max(1, keepdims=True))
        scores = (shifted / shifted.sum(1, keepdims=True))[:, 1:]
        centre = priors[:, :2] + box_deltas[:, :2] * F(variances[0]) * priors[:, 2:]
        log_size = box_deltas[:, 2:] * F(variances[1])
        if max_log_size is not None:
            log_size = np.clip(log_size, -F(max_log_size), F(max_log_size))
        size = priors[:, 2:] * np.exp(log_size.astype(np.float64)).astype(F)
        boxes = np.concatenate([centre - size / 2, size + (centre - size / 2)], 1)
    if clip:
        boxes = np.clip(boxes, F(0), F(1))
    best = scores.max(1)
    stays = [p for p in range(len(priors)) if best[p] > F(score_threshold) and not np.isnan(boxes[p]).any()]
    if pre_nms_top_k is not None:
        ends = np.cumsum([0, *(level_sizes or [len(priors)])])
        stays = sorted(
            p
            for low, high in pairwise(ends)
            for p in sorted((p for p in stays if low <= p < high), key=lambda p: (-best[p], p))[:pre_nms_top_k]
        )
    kept = fast_nms(
        boxes[stays], scores[stays].T, score_threshold=score_threshold if second_threshold else None, **options
    )
    return [(label, stays[i], score, boxes[stays[i]]) for label, i, score in kept]
