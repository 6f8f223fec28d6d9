"""The modulated deformable convolution (DCNv2, Zhu et al., 2019) as YOLACT++'s backbones have it."""

from __future__ import annotations

from torch import Tensor, nn

from yolact.ops import deform_conv2d


class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution whose taps lie, and weigh, as another convolution of its input tells.

    It begins as half of a plain one: every tap at its place, every weight by the sigmoid of 0.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1)
        self.conv_offset_mask = nn.Conv2d(in_channels, 27, 3, stride, padding=1)
        for tensor in (self.bias, *self.conv_offset_mask.parameters()):
            assert tensor is not None
            nn.init.zeros_(tensor)

    def forward(
        self,
        x: Tensor,  # [B, C, H, W]
    ) -> Tensor:  # [B, C', h, w]
        offset, mask = offset_and_mask(self.conv_offset_mask(x))
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, padding=1, mask=mask)


def offset_and_mask(
    x: Tensor,  # [B, 27, h, w] of `conv_offset_mask`
) -> tuple[Tensor, Tensor]:  # [B, 18, h, w] y and x of each tap in turn, [B, 9, h, w] its weight
    """How nine taps are sampled."""
    offset, mask = x.split((18, 9), dim=1)
    return offset, mask.sigmoid()
