"""The network's raw outputs to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import (
    FLOATING,
    check_candidates,
    check_choice,
    check_count,
    check_number,
    check_numbers,
    check_tensor,
    items_of,
    plain,
)
from yolact.ops.fast_nms import rows_of
from yolact.structures import Detections


def detect(
    box_deltas: Tensor,  # [B, P, 4] float32, float16 or bfloat16
    class_logits: Tensor,  # [B, P, 1 + C], background first
    priors: Tensor,  # [P, 4] cx cy w h, 0..1
    *,
    score_threshold: float = 0.05,
    second_threshold: bool = False,
    iou_threshold: float = 0.5,
    top_k: int = 200,
    max_detections: int | None = 100,
    across_classes: bool = False,
    method: str = "fast",
    variances: Sequence[float] = (0.1, 0.2),
    max_log_size: float | None = None,
    clip: bool = False,
    union_eps: float = 0.0,
    level_sizes: Sequence[int] | None = None,
    pre_nms_top_k: int | None = None,
) -> Detections:
    """Score, threshold, decode and suppress: a whole batch from the network's raw outputs to detections.

    Section 3 of YOLACT (Bolya et al., 2019), decoding as in SSD (Liu et al., 2016): the centre is
    p_c + delta * variances[0] * p_wh, the size p_wh * exp(delta * variances[1]). No gradient flows through it.

    Args:
        box_deltas: [B, P, 4] float32, float16 or bfloat16: centre offsets, then log sizes, relative to the priors.
        class_logits: [B, P, 1 + C] likewise, background first, before the softmax, which is taken in float32.
        priors: [P, 4] cx cy w h likewise, fractions of the network's input.
        score_threshold: a prior stays when its best foreground probability is strictly above this. A prior with a
            NaN logit, or with a NaN in its decoded box, never stays.
        second_threshold: whether each detection's own score must be above score_threshold too; otherwise the copies
            of priors that stay, in their less likely classes, fill the result up.
        iou_threshold, top_k, max_detections, across_classes, method, union_eps: as in `fast_nms`.
        variances: the factors of centre offsets and of log sizes.
        max_log_size: the magnitude that log sizes are clamped to (mmdetection: log(1000 / 16)); None for any.
        clip: whether boxes are clamped to 0..1, before suppression.
        level_sizes: how many of the P priors each level has; None for one level.
        pre_nms_top_k: of each level only so many priors that stay, those of the best foreground probability (ties
            to the lower prior), go on to suppression; None for all.

    Returns:
        Detections of D = max_detections rows by falling score; ties by lower label, then by lower prior. Rows past
        `count` hold label and prior -1, score and box 0. The same to the bit from run to run; between backends,
        scores may differ by 4 units in the last place, and with them what depends on scores so close.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape or range, named with its value.
    """
    check_tensor(priors, "priors", (None, 4), FLOATING)
    check_tensor(box_deltas, "box_deltas", (None, priors.shape[0], 4), FLOATING, like=priors)
    check_tensor(class_logits, "class_logits", (box_deltas.shape[0], priors.shape[0], None), FLOATING, like=priors)
    check_count(class_logits.shape[2], "the last size of class_logits", low=2)
    check_candidates(class_logits.shape[2] - 1, class_logits.shape[1])
    score_threshold = check_number(score_threshold, "score_threshold")
    iou_threshold = check_number(iou_threshold, "iou_threshold")
    top_k = check_count(top_k, "top_k")
    check_choice(method, "method", ("fast", "greedy"))
    variances = check_numbers(variances, "variances", 2)
    if max_log_size is not None:
        max_log_size = check_number(max_log_size, "max_log_size", low=0.0)
    union_eps = check_number(union_eps, "union_eps", low=0.0)
    if level_sizes is not None:
        level_sizes = [check_count(size, "level_sizes", low=0) for size in items_of(level_sizes, "level_sizes")]
        if sum(level_sizes) != priors.shape[0]:
            raise ValueError(f"level_sizes must add up to {priors.shape[0]} priors, got {level_sizes}")
    if pre_nms_top_k is not None:
        pre_nms_top_k = check_count(pre_nms_top_k, "pre_nms_top_k")
    return Detections(
        *torch.ops.yolact.detect(
            plain(box_deltas),
            plain(class_logits),
            plain(priors),
            score_threshold=score_threshold,
            second_threshold=second_threshold,
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=rows_of(max_detections, top_k, class_logits.shape[2] - 1, priors.shape[0], across_classes),
            across_classes=across_classes,
            method=method,
            variances=variances,
            max_log_size=max_log_size,
            clip=clip,
            union_eps=union_eps,
            level_sizes=level_sizes,
            pre_nms_top_k=pre_nms_top_k,
        )
    )


@torch.library.register_fake("yolact::detect")
def _(
    box_deltas: Tensor, class_logits: Tensor, priors: Tensor, *, max_detections: int, **options: object
) -> tuple[Tensor, ...]:
    batch = box_deltas.shape[0]
    boxes = box_deltas.new_empty((batch, max_detections, 4), dtype=torch.float32)
    score = boxes.new_empty((batch, max_detections))
    label = boxes.new_empty((batch, max_detections), dtype=torch.int64)
    return boxes, label, score, torch.empty_like(label), boxes.new_empty((batch,), dtype=torch.int64)
