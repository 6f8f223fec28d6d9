"""RF-DETR's instance segmentation: its masks of low resolution to the picture, to call or in the library's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, original_of, version_of
from yolact.integrations.tensors import alike, takes
from yolact.ops import PictureResults, logits_to_rles, resize_masks
from yolact.ops._checks import check_count, check_number, check_size, items_of

KNOWN = "1.9.0 to 1.11.2"


def outputs_to_results(
    outputs: dict[str, Tensor],  # pred_logits [B, Q, C], pred_boxes [B, Q, 4] cx cy w h 0..1, pred_masks [B, Q, h, w]
    target_sizes: Tensor | Sequence[tuple[int, int]],  # B pairs (H, W): the pictures
    *,
    num_select: int = 300,
    score_threshold: float = 0.0,
) -> list[PictureResults]:
    """Select as RF-DETR's `PostProcess` does, and make COCO's run lengths without a dense mask in between.

    Of all pairs of a query and a class, the `num_select` of the best scores, those above the threshold. A query that
    several classes choose has its mask encoded once.

    Raises:
        TypeError, ValueError: an argument of the wrong type or range, named with its value; there are more or fewer
            sizes than pictures, or no masks.
    """
    num_select = check_count(num_select, "num_select", low=0)
    score_threshold = check_number(score_threshold, "score_threshold")
    if missing := {"pred_logits", "pred_boxes", "pred_masks"} - outputs.keys():
        raise ValueError(f"outputs must have {', '.join(sorted(missing))}, got {', '.join(sorted(outputs))}")
    tensors = [outputs[name] for name in ("pred_logits", "pred_boxes", "pred_masks")]
    pairs = items_of(target_sizes.tolist() if isinstance(target_sizes, Tensor) else target_sizes, "target_sizes")
    if len(pairs) != len(tensors[0]):
        raise ValueError(f"target_sizes must hold {len(tensors[0])} pairs, got {len(pairs)}")
    results = []
    for place, (logits, boxes, masks, pair) in enumerate(zip(*tensors, pairs, strict=True)):
        height, width = check_size(map(int, pair), f"target_sizes[{place}]")
        scores = logits.sigmoid().flatten()
        chosen = (scores > score_threshold).nonzero().flatten()
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)[:num_select]]
        queries, labels = chosen // logits.shape[1], chosen % logits.shape[1]
        centre, extent = boxes[queries].float().split(2, 1)
        side = centre.new_tensor([width, height])
        corners = [((centre + sign * extent / 2) * side).clamp(min=0).minimum(side) for sign in (-1, 1)]
        different, which = queries.unique(return_inverse=True)
        rles = logits_to_rles(masks[different], (height, width))
        every = [dict(rles[place]) for place in which.tolist()]
        results.append(PictureResults(torch.cat(corners, 1), labels, scores[chosen].float(), every))
    return results


def accelerate() -> Acceleration:
    """Put `resize_masks` into the installed RF-DETR's `PostProcess`, which `predict`, evaluation and training call.

    Results, their order and dtypes stay; pixels differ only where a logit is within rounding error of 0. Boxes alone,
    keypoints, and masks that are left at their own resolution stay RF-DETR's.

    Raises:
        UserError: RF-DETR is not here, or acts like no known release; nothing is changed.
    """
    owner = find_module("rfdetr.models.postprocess").PostProcess
    try:
        theirs = original_of(owner, "_postprocess_masks")
    except KeyError as error:
        raise _unknown(f"lacks {error} of") from error
    ours = _postprocess_masks(theirs)
    if not _agree(ours, theirs):
        raise _unknown("makes other masks than")
    return Acceleration([Patch(owner, "_postprocess_masks", staticmethod(ours))])


accelerated = accelerate  # reads well after `with`


def _postprocess_masks(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """`PostProcess._postprocess_masks`: theirs tells all but the masks, of which it is shown one value each."""

    @wraps(theirs)
    def fast(
        out_masks: Tensor,  # [B, Q, h, w] logits
        scores: Tensor,  # [B, K]
        labels: Tensor,
        boxes: Tensor,
        topk_boxes: Tensor,  # [B, K] queries
        target_sizes: Tensor,  # [B, 2]
        upsample_masks_to_image_size: bool = True,
        **options: Any,
    ) -> list[dict[str, Tensor]]:
        if not upsample_masks_to_image_size or not takes(out_masks):
            tensors = (out_masks, scores, labels, boxes, topk_boxes, target_sizes)
            return theirs(*tensors, upsample_masks_to_image_size, **options)
        rows = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)  # come back as labels: of the kept
        results = theirs(out_masks[..., :1, :1], scores, rows, boxes, topk_boxes, target_sizes, False, **options)
        for b, (result, (height, width)) in enumerate(zip(results, target_sizes.tolist(), strict=True)):
            kept = result["labels"]
            result["labels"] = labels[b, kept]
            result["masks"] = resize_masks(out_masks[b, topk_boxes[b, kept]], (int(height), int(width)))[:, None]
        return results

    return fast


def _agree(ours: Callable[..., Any], theirs: Callable[..., Any]) -> bool:
    """Whether both return the same of a small case."""
    random = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 5, 6, 8, generator=random)
    scores = torch.rand(2, 7, generator=random).sort(1, descending=True).values
    queries = torch.randint(0, 5, (2, 7), generator=random)
    boxes = torch.rand(2, 7, 4, generator=random)
    sizes = torch.tensor([[30, 41], [17, 9]])
    try:
        found, expected = (function(masks, scores, queries, boxes, queries, sizes) for function in (ours, theirs))
        for mine, other in zip(found, expected, strict=True):
            if mine.keys() != other.keys():
                return False
            if not all(alike(mine[name], value) for name, value in other.items()):
                return False
    except Exception:  # another signature, another kind of result
        return False
    return True


def _unknown(what: str) -> UserError:
    return UserError(f"rfdetr {version_of('rfdetr')} {what} the known releases {KNOWN}; nothing was changed")
