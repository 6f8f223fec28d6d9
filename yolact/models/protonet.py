"""The branch that makes the prototype masks (section 3.1 of the paper)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Protonet(nn.Sequential):
    """Three 3x3 convolutions on P3, twice the size, one more, and 1x1 to the prototypes, kept positive by a ReLU."""

    def __init__(self, in_channels: int, channels: int, prototypes: int) -> None:
        layers: list[tuple[str, nn.Module]] = [  # numbered as the published weights are
            ("0", nn.Conv2d(in_channels, channels, 3, padding=1)),
            ("1", nn.ReLU()),
            ("2", nn.Conv2d(channels, channels, 3, padding=1)),
            ("3", nn.ReLU()),
            ("4", nn.Conv2d(channels, channels, 3, padding=1)),
            ("5", nn.ReLU()),
            ("6", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)),
            ("8", nn.Conv2d(channels, channels, 3, padding=1)),
            ("9", nn.ReLU()),
            ("10", nn.Conv2d(channels, prototypes, 1)),
            ("11", nn.ReLU()),
        ]
        super().__init__(OrderedDict(layers))

    def forward(
        self,
        p3: Tensor,  # [B, C, h, w]
    ) -> Tensor:  # [B, 2h, 2w, K]
        return super().forward(p3).permute(0, 2, 3, 1)
