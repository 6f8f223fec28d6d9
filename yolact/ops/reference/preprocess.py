"""Preprocessing in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def preprocess(
    pictures: Tensor,  # [B, H, W, 3] uint8
    size: int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    round_to_uint8: bool = False,
) -> Tensor:  # [B, 3, S, S] float32
    """The twin of `yolact.ops.preprocess`."""
    images = pictures.permute(0, 3, 1, 2).float()  # [B, 3, H, W]
    images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    if round_to_uint8:
        images = images.round()
    shape = (1, 3, 1, 1)
    return (images - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
