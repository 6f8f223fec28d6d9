"""What teaches the net of YOLACT++ that tells how good masks are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.models.mask_iou import MaskIoUNet, inside_boxes
from yolact.structures import RawOutputs
from yolact.train.assignment import Assignment


def mask_iou_loss(net: MaskIoUNet, raw: RawOutputs, assignment: Assignment) -> Tensor:
    """Smooth L1 between the IoU that masks have with their truths and the one predicted, summed over the masks.

    They are the masks drawn for the mask loss whose truths are large enough (`Assignment.rescored`), those of the whole
    batch at once, in single precision. A gradient flows into the masks as well, as in the original. Where there is none
    of them the net sees an empty batch: its weights have a gradient all the same, zero, which processes that train
    together wait for.
    """
    truth = assignment.truth.index_select(0, assignment.rescored)
    rows = assignment.drawn.index_select(0, assignment.rescored)
    coefficients = raw.mask_coefficients.flatten(0, 1).index_select(0, rows).float().split(assignment.rescored_counts)
    with torch.autocast(truth.device.type, enabled=False):  # a caller's
        masks = soft_masks(raw.prototypes.float(), coefficients, assignment.boxes.index_select(0, truth))
        predicted = net(masks[:, None].to(next(net.parameters()).dtype)).float()  # [R, C]
    with torch.no_grad():
        found, wanted = masks > 0.5, assignment.masks.index_select(0, truth)
        iou = (found & wanted).sum((1, 2)) / (found | wanted).sum((1, 2))
    label = assignment.channel.index_select(0, truth) % predicted.shape[1]
    return F.smooth_l1_loss(predicted.gather(1, label[:, None])[:, 0], iou, reduction="sum")


def soft_masks(
    prototypes: Tensor,  # [B, h, w, K] float32
    coefficients: tuple[Tensor, ...],  # a picture: [r, K] float32; together R rows
    boxes: Tensor,  # [R, 4] xyxy, fractions
) -> Tensor:  # [R, h, w]
    """Probabilities at the prototypes' resolution, zero outside the boxes and a pixel around them."""
    _, h, w, _ = prototypes.shape
    pairs = zip(coefficients, prototypes, strict=True)
    logits = torch.cat([rows @ planes.flatten(0, 1).T for rows, planes in pairs]).unflatten(1, (h, w))
    lines, columns = inside_boxes(boxes, h, w)
    inside = lines[:, :, None] & columns[:, None, :]
    # In place, so that of all that the masks need in training one copy is kept.
    return logits.masked_fill_(~inside, -torch.inf).sigmoid_()
