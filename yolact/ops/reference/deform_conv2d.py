"""The modulated deformable convolution in plain torch, of operations that autograd and ONNX have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv2d(
    input: Tensor,  # [B, C, H, W]
    offset: Tensor,  # [B, G * kh * kw * 2 (y, x), h, w]
    weight: Tensor,  # [O, C / groups, kh, kw]
    bias: Tensor | None = None,  # [O]
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,  # [B, G * kh * kw, h, w]
) -> Tensor:  # [B, O, h, w]
    """The twin of `yolact.ops.deform_conv2d`, differentiable."""
    dtype = torch.promote_types(input.dtype, torch.float32)
    outputs, of_a_group, *kernel = weight.shape
    batch, channels, _, _ = input.shape
    positions = offset.shape[2:]
    offset = offset.to(dtype).unflatten(1, (-1, *kernel, 2))  # [B, G, kh, kw, 2, h, w]

    def regular(axis: int) -> Tensor:
        """Where a plain convolution samples along an axis, tap by tap: [kh, h] or [kw, w]."""
        step, edge, apart = (pair(each)[axis] for each in (stride, padding, dilation))
        position, tap = (torch.arange(n, device=input.device) for n in (positions[axis], kernel[axis]))
        return position * step - edge + tap[:, None] * apart

    y = regular(0)[:, None, :, None] + offset[:, :, :, :, 0]  # [B, G, kh, kw, h, w]
    x = regular(1)[:, None, :] + offset[:, :, :, :, 1]
    samples = bilinear(input.to(dtype), y, x)  # [B, G, kh, kw, h, w, C / G]
    if mask is not None:
        samples = samples * mask.to(dtype).unflatten(1, (-1, *kernel))[..., None]

    groups = channels // of_a_group
    rows = of_a_group * kernel[0] * kernel[1]
    columns = samples.permute(0, 1, 6, 2, 3, 4, 5).reshape(batch, groups, rows, positions.numel())
    result = weight.to(dtype).reshape(groups, outputs // groups, rows) @ columns  # [B, groups, O / groups, h * w]
    result = result.reshape(batch, outputs, *positions)
    if bias is not None:
        result = result + bias.to(dtype)[:, None, None]
    return result.to(input.dtype)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def bilinear(input: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample each group of channels at its positions [B, G, ...]; what lies outside the input is 0."""
    batch, groups = y.shape[:2]
    height, width = input.shape[2:]
    # Farther than a pixel outside, all neighbours are: in a border of zeros. There a NaN goes, and weighs NaN.
    y, x = y.clamp(-2, height), x.clamp(-2, width)
    top, left = y.detach().floor(), x.detach().floor()
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = (edge.nan_to_num(-2).long() + 2 for edge in (top, left))
    bordered = F.pad(input, (2, 2, 2, 2)).unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2)
    ones = (1,) * (y.dim() - 2)
    b = torch.arange(batch, device=y.device).view(-1, 1, *ones)
    g = torch.arange(groups, device=y.device).view(-1, *ones)
    return (
        bordered[b, g, top, left] * (1 - down) * (1 - right)
        + bordered[b, g, top, left + 1] * (1 - down) * right
        + bordered[b, g, top + 1, left] * down * (1 - right)
        + bordered[b, g, top + 1, left + 1] * down * right
    )
