"""The mask loss in plain torch, which holds every mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.ops.reference.assemble import box_mask


def mask_loss(
    prototypes: Tensor,  # [B, h, w, K]
    coefficients: Tensor,  # [M, K]
    picture: Tensor,  # [M]
    truth: Tensor,  # [M]
    boxes: Tensor,  # [T, 4] xyxy, fractions
    masks: Tensor,  # [T, h, w]
    *,
    padding: float = 1.0,
) -> Tensor:  # [M]
    """The twin of `yolact.ops.mask_loss`, differentiable."""
    _, height, width, _ = prototypes.shape
    if prototypes.dtype != torch.float64:
        prototypes, coefficients = prototypes.float(), coefficients.float()
    logits = torch.einsum("mhwk,mk->mhw", prototypes[picture], coefficients)
    wanted = masks[truth]
    entropy = -F.logsigmoid(torch.where(wanted, logits, -logits))
    certain_and_wrong = logits.sigmoid() == (~wanted).to(logits.dtype)
    entropy = entropy.masked_fill(certain_and_wrong, 100.0)
    edges = boxes[truth].float() * torch.tensor([width, height, width, height])
    entropy = entropy.where(box_mask(edges, (padding, padding), (height, width)), 0.0)
    x1, y1, x2, y2 = edges.unbind(1)
    return entropy.sum((1, 2)) / ((x2 - x1).abs() * (y2 - y1).abs())
