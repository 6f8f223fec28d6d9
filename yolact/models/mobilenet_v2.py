"""MobileNetV2 as a feature extractor (Sandler et al., 2018), under torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

# Expansion, output channels, number of blocks and stride of each stage.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),  # ends in C3
    (6, 64, 4, 2),
    (6, 96, 3, 1),  # ends in C4
    (6, 160, 3, 2),
    (6, 320, 1, 1),  # ends in C5
)
TAPS = (6, 13, 17)  # the features that C3, C4 and C5 are


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1x1 expand, depthwise 3x3, linear 1x1 project; the way around them when the shape stays."""

    def __init__(self, in_channels: int, expansion: int, stride: int, channels: int) -> None:
        super().__init__()
        width = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_conv(in_channels, width, 1)]
        layers.append(_conv(width, width, 3, stride, groups=width))
        self.conv = nn.Sequential(*layers, nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """The stem and the seventeen blocks, without the last convolution and the classifier."""

    channels = (32, 96, 320)  # of C3, C4, C5
    layers_to_c4 = TAPS[1] + 1

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList([_conv(3, 32, 3, stride=2)])
        in_channels = 32
        for expansion, channels, count, stride in _STAGES:
            for block in range(count):
                self.features.append(InvertedResidual(in_channels, expansion, stride if block == 0 else 1, channels))
                in_channels = channels
        # Depthwise convolutions on a CPU are faster so; the features hand the layout on to what follows.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        x: Tensor,  # [B, 3, S, S]
    ) -> list[Tensor]:  # C3 [B, 32, S/8, S/8], C4 [B, 96, S/16, S/16], C5 [B, 320, S/32, S/32]
        features = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                features.append(x)
        return features


def mobilenet_v2_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's weights of the whole classifier, or mmpretrain's or mmdetection's of the backbone, as ours."""
    before = [0, *accumulate(count for _, _, count, _ in _STAGES)]  # blocks before a stage, which the latter two count

    def rename(name: str) -> str:
        name = re.sub(r"^features\.18\.", "conv2.", name)  # the last convolution, by the other name
        name = re.sub(r"^conv1\.(conv|bn)\.", lambda m: f"features.0.{int(m[1] == 'bn')}.", name)
        match = re.match(r"layer([1-7])\.(\d)\.(?:conv\.(\d)|(expand|depthwise|linear)_conv)\.(conv|bn)\.", name)
        if match is None:
            return name
        stage, block, number, kind, part = match.groups()
        expands = stage != "1"
        layer = int(number) if number else ("expand", "depthwise", "linear").index(kind) - (not expands)
        norm = int(part == "bn")
        # The linear one stands beside its norm, the others are units with it.
        place = f"{layer}.{norm}" if layer <= expands else f"{layer + norm}"
        return f"features.{1 + before[int(stage) - 1] + int(block)}.conv.{place}.{name[match.end() :]}"

    return {rename(name): tensor for name, tensor in tensors.items()}
