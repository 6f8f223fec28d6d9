"""The feature pyramid (Lin et al., 2017; section 3 of the YOLACT paper)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from yolact.options import FPNOptions


class FPN(nn.Module):
    """P3 to P5 top down from C3 to C5, and P6, P7 by convolutions of stride two.

    The original feeds P6 from P5 and ends P3 to P5 in a ReLU; mmdetection feeds it from C5 and has no ReLU. Weights
    trained for one mean nothing to the other. Both lists of layers start at the coarsest level, as the published
    weights number them.
    """

    def __init__(self, in_channels: Sequence[int], options: FPNOptions) -> None:
        super().__init__()
        channels = options.channels
        self.options = options
        self.lat_layers = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in reversed(in_channels))
        self.pred_layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        p6_channels = in_channels[-1] if options.p6_from == "C5" else channels
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(c, channels, 3, stride=2, padding=1) for c in (p6_channels, channels)
        )

    def forward(
        self,
        features: Sequence[Tensor],  # C3, C4, C5
    ) -> list[Tensor]:  # P3 to P7, each [B, channels, h, w], every level half of the one before, rounded up
        levels: list[Tensor] = []  # from P5 down to P3
        x: Tensor | None = None
        for feature, lateral in zip(reversed(features), self.lat_layers, strict=True):
            y = lateral(feature)
            if x is not None:
                y = y + F.interpolate(x, size=feature.shape[2:], mode="bilinear", align_corners=False)
            x = y
            levels.append(y)

        levels = [conv(x) for x, conv in zip(levels, self.pred_layers, strict=True)]
        if self.options.relu:
            levels = [F.relu(x) for x in levels]

        p6 = self.downsample_layers[0](features[-1] if self.options.p6_from == "C5" else levels[0])
        p7 = self.downsample_layers[1](p6)
        return [*reversed(levels), p6, p7]
