"""DarkNet-53 as a feature extractor (Redmon and Farhadi, YOLOv3, 2018)."""

from __future__ import annotations

from torch import Tensor, nn


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1, inplace=True),
    )


class DarkNetBlock(nn.Module):
    """1x1 to half the channels, 3x3 back, and the way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels // 2, 1)
        self.conv2 = _conv(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class DarkNet53(nn.Module):
    """Five stages, each a convolution of stride two and then 1, 2, 8, 8 or 4 residual blocks."""

    channels = (256, 512, 1024)  # of C3, C4, C5
    layers_to_c4 = 5  # the first convolution and four stages

    def __init__(self) -> None:
        super().__init__()
        self._preconv = _conv(3, 32, 3)
        self.layers = nn.ModuleList()
        for stage, count in enumerate((1, 2, 8, 8, 4)):
            channels = 64 * 2**stage
            blocks = [DarkNetBlock(channels) for _ in range(count)]
            self.layers.append(nn.Sequential(_conv(channels // 2, channels, 3, stride=2), *blocks))

    def forward(
        self,
        x: Tensor,  # [B, 3, S, S]
    ) -> list[Tensor]:  # C3 [B, 256, S/8, S/8], C4 [B, 512, S/16, S/16], C5 [B, 1024, S/32, S/32]
        x = self._preconv(x)
        stages = []
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        return stages[2:]
