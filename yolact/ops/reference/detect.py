"""From raw outputs to detections in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from yolact.ops.reference.fast_nms import fast_nms, rows_of
from yolact.structures import Detections


def detect(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C]
    priors: Tensor,  # [P, 4] cx cy w h
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
    """The twin of `yolact.ops.detect`."""
    logits = class_logits.float()
    below = logits - logits.amax(-1, keepdim=True)
    # In double, so that scores that are equal by symmetry do not differ by the order of a sum.
    scores = below.double().softmax(-1).float()[..., 1:]  # [B, P, C]; one NaN makes a row NaN
    best = scores.amax(-1)  # [B, P]
    boxes = decode(box_deltas.float(), priors.float(), variances, max_log_size, clip)  # [B, P, 4]
    stays = (best > score_threshold) & ~boxes.isnan().any(-1)
    if pre_nms_top_k is not None:
        ranked = best.masked_fill(~stays, -torch.inf)
        for level in torch.arange(len(priors)).split(list(level_sizes or [len(priors)])):
            order = ranked[:, level].argsort(dim=-1, descending=True, stable=True)
            stays.scatter_(1, level[order[:, pre_nms_top_k:]], False)

    rows = rows_of(max_detections, top_k, scores.mT, across_classes)
    pictures = []
    for b in range(len(stays)):
        prior = stays[b].nonzero().flatten()  # [S]
        selection = fast_nms(
            boxes[b, prior][None],
            scores[b, prior].T[None],
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=rows,
            score_threshold=score_threshold if second_threshold else None,
            across_classes=across_classes,
            method=method,
            union_eps=union_eps,
        )
        # Rows past the count hold -1 and thereby take the last entry: -1, and a box of zeros.
        prior = torch.cat([prior, torch.tensor([-1])])[selection.index[0]]
        box = torch.cat([boxes[b], torch.zeros(1, 4)])[prior]
        pictures.append((box, selection.label[0], selection.score[0], prior, selection.count[0]))
    if not pictures:
        none = torch.zeros(0, rows, dtype=torch.int64)
        return Detections(torch.zeros(0, rows, 4), none, torch.zeros(0, rows), none, none[:, 0])
    return Detections(*(torch.stack(field) for field in zip(*pictures, strict=True)))


def decode(
    box_deltas: Tensor,  # [B, P, 4] float32
    priors: Tensor,  # [P, 4] cx cy w h
    variances: Sequence[float],
    max_log_size: float | None,
    clip: bool,
) -> Tensor:  # [B, P, 4] xyxy
    """Decode offsets and log sizes, with an exponential rounded once from double, as every backend has it."""
    centre = priors[:, :2] + box_deltas[..., :2] * variances[0] * priors[:, 2:]
    log_size = box_deltas[..., 2:] * variances[1]
    if max_log_size is not None:
        log_size = log_size.clamp(-max_log_size, max_log_size)
    size = priors[:, 2:] * log_size.double().exp().float()
    low = centre - size / 2
    boxes = torch.cat([low, size + low], -1)
    return boxes.clamp(0, 1) if clip else boxes
