"""ResNet-50, -101 and -152 as feature extractors (He et al., 2015), with deformable convolutions where asked for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from yolact.models.deformable import DeformableConv2d
from yolact.options import DeformableOptions


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3 (which carries the stride), 1x1 expand by four, and the way around them."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, *, deformable: bool = False) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = (
            DeformableConv2d(width, width, stride)
            if deformable
            else nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


class ResNet(nn.Module):
    """A residual network without its classifier; `blocks` counts the bottlenecks of its four stages.

    Those that `deformable` includes have a deformable 3x3 convolution.
    """

    channels = (512, 1024, 2048)  # of C3, C4, C5
    layers_to_c4 = 5  # conv1, bn1 and three stages

    def __init__(self, blocks: Sequence[int], deformable: DeformableOptions | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layers = nn.ModuleList()
        in_channels = 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            layer = []
            for block in range(count):
                stride = 2 if block == 0 and stage > 0 else 1
                deforms = deformable is not None and deformable.includes(stage, block, count)
                layer.append(Bottleneck(in_channels, width, stride, deformable=deforms))
                in_channels = width * Bottleneck.expansion
            self.layers.append(nn.Sequential(*layer))

    def forward(
        self,
        x: Tensor,  # [B, 3, S, S]
    ) -> list[Tensor]:  # C3 [B, 512, S/8, S/8], C4 [B, 1024, S/16, S/16], C5 [B, 2048, S/32, S/32]
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # [B, 64, S/2, S/2]
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # [B, 64, S/4, S/4]
        stages = []
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        return stages[1:]


def resnet50(deformable: DeformableOptions | None = None) -> ResNet:
    return ResNet((3, 4, 6, 3), deformable)


def resnet101(deformable: DeformableOptions | None = None) -> ResNet:
    return ResNet((3, 4, 23, 3), deformable)


def resnet152(deformable: DeformableOptions | None = None) -> ResNet:
    return ResNet((3, 8, 36, 3), deformable)
