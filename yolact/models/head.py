"""The head that all levels of the pyramid share (section 3.2 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PredictionHead(nn.Module):
    """Box deltas, class logits and mask coefficients of every prior of one level."""

    def __init__(self, in_channels: int, channels: int, anchors: int, num_classes: int, prototypes: int) -> None:
        super().__init__()
        self.upfeature = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU())
        self.bbox_layer = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        self.conf_layer = nn.Conv2d(channels, anchors * (1 + num_classes), 3, padding=1)
        self.mask_layer = nn.Conv2d(channels, anchors * prototypes, 3, padding=1)
        self.anchors = anchors

    def forward(
        self,
        level: Tensor,  # [B, C, h, w]
    ) -> tuple[Tensor, Tensor, Tensor]:  # [B, p, 4], [B, p, 1 + C], [B, p, K] of the level's p = h * w * anchors priors
        x = self.upfeature(level)
        return (
            self.by_prior(self.bbox_layer(x)),
            self.by_prior(self.conf_layer(x)),
            torch.tanh(self.by_prior(self.mask_layer(x))),
        )

    def by_prior(
        self,
        x: Tensor,  # [B, anchors * n, h, w], the channels of one anchor together
    ) -> Tensor:  # [B, h * w * anchors, n]
        batch, channels, height, width = x.shape
        return x.permute(0, 2, 3, 1).reshape(batch, height * width * self.anchors, channels // self.anchors)
