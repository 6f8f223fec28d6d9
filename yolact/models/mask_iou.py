"""The net that tells how good a mask is (YOLACT++, section 6.1: fast mask re-scoring)."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (1, 8, 16, 32, 64, 128)  # of the mask, and after each 3x3 convolution
SMALLEST = 63  # pixels a side of the masks: five convolutions that halve without padding leave one


class MaskIoUNet(nn.Module):
    """Predicts, for each class, the IoU that a mask would have with its object if it were of that class.

    Five 3x3 convolutions of stride 2 without padding, one of 1x1 to the classes, a ReLU after each, and the maximum
    over what is left of the plane.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []  # numbered as the published weights are
        for before, after in pairwise(CHANNELS):
            layers.append((str(len(layers)), nn.Conv2d(before, after, 3, stride=2)))
            layers.append((str(len(layers)), nn.ReLU()))
        layers.append((str(len(layers)), nn.Conv2d(CHANNELS[-1], num_classes, 1)))
        layers.append((str(len(layers)), nn.ReLU()))
        self.maskiou_net = nn.Sequential(OrderedDict(layers))

    def forward(
        self,
        masks: Tensor,  # [N, 1, h, w] probabilities at the prototypes' resolution, 0 outside their boxes
    ) -> Tensor:  # [N, C] not negative
        """Predict the IoUs.

        Raises:
            ValueError: the masks have a side of less than 63 pixels.
        """
        if masks.ndim != 4 or masks.shape[1] != 1 or min(masks.shape[2:]) < SMALLEST:
            raise ValueError(f"masks must be [N, 1, h, w] of at least {SMALLEST} a side, got {list(masks.shape)}")
        x = self.maskiou_net(masks)
        return F.max_pool2d(x, x.shape[2:]).flatten(1)


def inside_boxes(
    boxes: Tensor,  # [..., 4] xyxy, fractions, corners in any order
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:  # [..., height] and [..., width] bool
    """Which rows and which columns of the prototypes a mask may have: its box's, with a pixel more on each side.

    What is at i is inside where low - 1 <= i < high + 1, as in `yolact.ops.assemble_masks`; nothing is where a box
    holds a NaN.
    """

    def inside(ends: Tensor, length: int) -> Tensor:  # ends [..., 2] fractions
        low, high = (ends * length).sort(dim=-1).values.split(1, dim=-1)
        pixels = torch.arange(length, device=boxes.device)
        return (pixels >= low - 1) & (pixels < high + 1)

    return inside(boxes[..., 1::2], height), inside(boxes[..., ::2], width)
