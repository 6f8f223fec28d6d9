"""The operators once more, for a hundred thousand small problems at a time: tensors of a problem a row, on any device.

A third reading beside `yolact.ops.reference`, which goes picture by picture: a million problems take seconds on a GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def overlaps(boxes: Tensor, plus_one: bool, union_eps: float) -> Tensor:  # [..., N, 4] -> [..., N, N]
    one = 1.0 if plus_one else 0.0
    x0, y0, x1, y1 = boxes.unbind(-1)
    width = torch.minimum(x1[..., :, None], x1[..., None, :]) - torch.maximum(x0[..., :, None], x0[..., None, :]) + one
    height = torch.minimum(y1[..., :, None], y1[..., None, :]) - torch.maximum(y0[..., :, None], y0[..., None, :]) + one
    common = width.clamp(min=0) * height.clamp(min=0)
    area = (x1 - x0 + one) * (y1 - y0 + one)
    union = area[..., :, None] + area[..., None, :] - common
    return common / (union.clamp(min=union_eps) if union_eps > 0 else union)


def fast_nms(
    boxes: Tensor,  # [B, N, 4]
    scores: Tensor,  # [B, C, N]
    *,
    iou_threshold: float,
    top_k: int,
    max_detections: int,
    score_threshold: float | None = None,
    across_classes: bool = False,
    method: str = "fast",
    union_eps: float = 0.0,
    plus_one: bool = False,
    suppress_equal: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # index, label [B, D] int64, score [B, D], count [B]
    """What `yolact.ops.fast_nms` returns; scores must be finite or NaN."""
    classes, number = scores.shape[1:]
    candidates = ~scores.isnan() & ~boxes.isnan().any(-1)[:, None]
    if score_threshold is not None:
        candidates &= scores > score_threshold
    if across_classes:
        highest = scores.masked_fill(~candidates, -torch.inf).argmax(1, keepdim=True)  # the first of equal ones
        candidates &= torch.arange(classes, device=scores.device)[:, None] == highest
        groups = scores.masked_fill(~candidates, -torch.inf).amax(1, keepdim=True)  # [B, 1, N]
    else:
        groups = scores.masked_fill(~candidates, -torch.inf)  # [B, C, N]

    ranked, order = groups.sort(dim=-1, descending=True, stable=True)  # [B, G, N]
    standing = (ranked > -torch.inf) & (torch.arange(number, device=scores.device) < top_k)
    sorted_boxes = boxes[:, None].expand(-1, order.shape[1], -1, -1).gather(2, order[..., None].expand(-1, -1, -1, 4))
    overlap = overlaps(sorted_boxes, plus_one, union_eps)  # [B, G, N, N]
    apart = overlap < iou_threshold if suppress_equal else overlap <= iou_threshold
    fells = ~apart & torch.ones(number, number, dtype=torch.bool, device=scores.device).triu(1)  # [j, i]: j fells i
    fells &= standing[..., None]
    if method == "fast":
        stays = standing & ~fells.any(-2)
    else:
        stays = standing.clone()
        for j in range(number):
            stays &= ~(fells[..., j, :] & stays[..., j, None])

    kept = torch.zeros_like(stays).scatter(-1, order, stays) & candidates  # [B, C, N], each where it was
    flat = scores.masked_fill(~kept, -torch.inf).flatten(1)  # by label, then by index
    score, place = flat.sort(dim=-1, descending=True, stable=True)
    rows = min(max_detections, score.shape[1])
    score, place = F.pad(score[:, :rows], (0, max_detections - rows), value=-torch.inf), place[:, :rows]
    place = F.pad(place, (0, max_detections - rows))
    none = score == -torch.inf
    index, label = (place % number).masked_fill(none, -1), (place // number).masked_fill(none, -1)
    return index, label, score.masked_fill(none, 0), (~none).sum(1)


def detect(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C]
    priors: Tensor,  # [P, 4]
    *,
    score_threshold: float,
    second_threshold: bool,
    iou_threshold: float,
    max_log_size: float | None = None,
    clip: bool = False,
    **options: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `yolact.ops.detect` returns, and [B] bool: whether no comparison in the problem is decided by rounding."""
    below = class_logits - class_logits.amax(-1, keepdim=True)
    scores = below.double().softmax(-1).float()[..., 1:]  # [B, P, C]
    best = scores.amax(-1)
    log_size = box_deltas[..., 2:] * 0.2
    if max_log_size is not None:
        log_size = log_size.clamp(-max_log_size, max_log_size)
    size = priors[:, 2:] * log_size.double().exp().float()
    low = priors[:, :2] + box_deltas[..., :2] * 0.1 * priors[:, 2:] - size / 2
    boxes = torch.cat([low, low + size], -1)
    if clip:
        boxes = boxes.clamp(0, 1)
    stays = best > score_threshold
    candidates = scores.masked_fill(~stays[..., None], torch.nan).transpose(1, 2)  # [B, C, P]
    prior, label, score, count = fast_nms(
        boxes,
        candidates,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold if second_threshold else None,
        **options,
    )
    found = boxes.gather(1, prior.clamp(min=0)[..., None].expand(-1, -1, 4)).masked_fill(prior[..., None] < 0, 0)

    ordered = candidates.flatten(1).nan_to_num(-1).sort(-1).values
    gap = (ordered.diff() - 4e-6 * ordered[:, 1:]).masked_fill(ordered[:, 1:] < 0, 1)
    clear = (gap > 0).all(1) & ~((scores - score_threshold).abs() <= 1e-6).flatten(1).any(1)
    overlap = overlaps(boxes, False, 0.0)
    either = stays[:, :, None] & stays[:, None, :] & torch.ones_like(overlap[0], dtype=torch.bool).triu(1)
    # A box that clipping leaves without area overlaps as 0 / 0, or as rounding has it.
    clear &= (((overlap - iou_threshold).abs() > 1e-5) & ~overlap.isnan() | ~either).flatten(1).all(1)
    return found, label, score, prior, count, clear


def mask_values(
    prototypes: Tensor,  # [B, h, w, K]
    coefficients: Tensor,  # [B, D, K]
    boxes: Tensor,  # [B, D, 4] xyxy, fractions
    size: tuple[int, int],
    *,
    activation: str,
    crop: str,
    padding: float,
) -> tuple[Tensor, Tensor]:  # [B, D, H, W] float32, and bool
    """What `yolact.ops.assemble_masks` compares with its threshold, and which pixels may be one at all."""
    height, width = prototypes.shape[1:3]
    values = torch.einsum("bhwk,bdk->bdhw", prototypes, coefficients)
    values = values.sigmoid() if activation == "sigmoid" else values
    if crop == "before":
        values = values.where(inside(boxes, (height, width), (padding, padding)), 0.0)
    values = F.interpolate(values, size, mode="bilinear", align_corners=False)
    if crop == "after":
        return values, inside(boxes, size, (padding * size[0] / height, padding * size[1] / width))
    return values, torch.ones_like(values, dtype=torch.bool)


def inside(boxes: Tensor, size: tuple[int, int], paddings: tuple[float, float]) -> Tensor:  # [B, D, H, W] bool
    spans = []
    for axis, length, padding in ((1, size[0], paddings[0]), (0, size[1], paddings[1])):
        edges = boxes[..., axis::2] * length
        low, high = edges.amin(-1) - padding, edges.amax(-1) + padding
        pixel = torch.arange(length, device=boxes.device)
        spans.append((pixel >= low[..., None]) & (pixel < high[..., None]))
    return spans[0][..., :, None] & spans[1][..., None, :]


def strings(masks: Tensor, capacity: int) -> tuple[Tensor, Tensor, Tensor]:  # [M, H, W] bool
    """What `yolact.ops.encode_run_lengths` returns, but for the sizes: data [M, capacity] uint8, length, needed [M]."""
    pixels = masks.transpose(1, 2).flatten(1)  # column by column
    number = pixels.shape[1]
    flips = pixels ^ F.pad(pixels[:, :-1], (1, 0))
    place = torch.arange(number, device=masks.device)
    # Each run's begin, in order; past the last one the end of the picture, which makes runs of nothing.
    begins = place.where(flips, number).sort(1).values
    counts = F.pad(begins, (0, 1), value=number).diff(prepend=begins.new_zeros(len(masks), 1))  # [M, number + 1]
    runs = flips.sum(1, keepdim=True) + 1
    value = counts.clone()
    value[:, 3:] -= counts[:, 1:-2]
    characters, used = [], []
    going = torch.arange(number + 1, device=masks.device) < runs
    while bool(going.any()):
        last = (value >= -16) & (value < 16)
        characters.append(((value & 31) | torch.where(last, 0, 32)) + 48)
        used.append(going)
        value, going = value >> 5, going & ~last
    text, used = torch.stack(characters, -1).flatten(1), torch.stack(used, -1).flatten(1)  # [M, counts * slots]
    needed = used.sum(1)
    length = needed.where(needed <= capacity, 0)
    order = (~used).to(torch.uint8).argsort(dim=1, stable=True)  # characters first, in their order
    text = F.pad(text.gather(1, order), (0, capacity))[:, :capacity]
    data = text.where(torch.arange(capacity, device=masks.device) < length[:, None], 0)
    return data.to(torch.uint8), length, needed
