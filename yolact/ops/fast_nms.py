"""Fast NMS, and the traditional way."""

from __future__ import annotations

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import check_candidates, check_choice, check_count, check_number, check_tensor, plain
from yolact.structures import Selection


def fast_nms(
    boxes: Tensor,  # [B, N, 4] float32 xyxy, any unit
    scores: Tensor,  # [B, C, N] float32, foreground classes
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
    """Select boxes by falling score, without those that overlap a better box of their class.

    Fast NMS, section 3.4 of YOLACT (Bolya et al., 2019): a box falls to any better one, even to one that fell itself.
    No gradient flows through it.

    Args:
        boxes: [B, N, 4] float32 xyxy, any unit and strides. A box with a NaN is no candidate.
        scores: [B, C, N] float32 of the foreground classes. A NaN is no candidate.
        iou_threshold: a box stays while its overlap (intersection over union) with every better box is at most this;
            the overlap 0/0 of two boxes without area is not.
        top_k: candidates ranked a class, the best by score and then by lower index; the others fall.
        max_detections: rows of the result, however few can stay; None for all that can: of top_k candidates, or of N
            where those are fewer, a class, or across classes altogether.
        score_threshold: scores of candidates are strictly above it; None for any score.
        across_classes: each box counts in its best class only (the lower of equals), boxes of different classes
            suppress each other, and top_k is over all boxes.
        method: "fast", or "greedy" for traditional NMS, in which only boxes that stay suppress others.
        union_eps: the least union, as in mmdetection (1e-6); 0 leaves unions as they are.
        plus_one: widths and heights count one more, as in traditional NMS on whole pixels.
        suppress_equal: a box falls also at an overlap of exactly iou_threshold.

    Returns:
        Selection of D = max_detections rows by falling score; ties by lower label, then by lower index. Rows past
        `count` hold index and label -1 and score 0. The same on every backend, to the bit.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape or range, named with its value.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]]])  # one picture, three boxes
        >>> kept = fast_nms(boxes, torch.tensor([[[0.9, 0.8, 0.7]]]), max_detections=3)  # one class
        >>> kept.index, kept.count  # the second overlaps the first by 0.81
        (tensor([[ 0,  2, -1]]), tensor([2]))
    """
    check_tensor(boxes, "boxes", (None, None, 4), (torch.float32,))
    check_tensor(scores, "scores", (boxes.shape[0], None, boxes.shape[1]), (torch.float32,), like=boxes)
    check_count(scores.shape[1], "the classes of scores")
    check_candidates(scores.shape[1], scores.shape[2])
    iou_threshold = check_number(iou_threshold, "iou_threshold")
    top_k = check_count(top_k, "top_k")
    if score_threshold is not None:
        score_threshold = check_number(score_threshold, "score_threshold")
    check_choice(method, "method", ("fast", "greedy"))
    union_eps = check_number(union_eps, "union_eps", low=0.0)
    return Selection(
        *torch.ops.yolact.fast_nms(
            plain(boxes),
            plain(scores),
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=rows_of(max_detections, top_k, scores.shape[1], boxes.shape[1], across_classes),
            score_threshold=score_threshold,
            across_classes=across_classes,
            method=method,
            union_eps=union_eps,
            plus_one=plus_one,
            suppress_equal=suppress_equal,
        )
    )


def rows_of(max_detections: int | None, top_k: int, classes: int, boxes: int, across_classes: bool) -> int:
    """Return the rows of a result, where None stands for as many as can stay, and at least one."""
    if max_detections is None:
        ranked = torch.sym_max(1, torch.sym_min(top_k, boxes))  # of open sizes, too
        return ranked if across_classes else classes * ranked
    return check_count(max_detections, "max_detections")


@torch.library.register_fake("yolact::fast_nms")
def _(boxes: Tensor, scores: Tensor, *, max_detections: int, **options: object) -> tuple[Tensor, ...]:
    shape = (boxes.shape[0], max_detections)
    index = boxes.new_empty(shape, dtype=torch.int64)
    return index, torch.empty_like(index), boxes.new_empty(shape), boxes.new_empty(shape[:1], dtype=torch.int64)
