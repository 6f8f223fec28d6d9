"""uint8 pictures to the network's normalised input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import check_numbers, check_size, check_tensor


def preprocess(
    pictures: Tensor,  # [B, H, W, 3] uint8
    size: int | tuple[int, int],  # S, or (height, width)
    mean: Sequence[float],
    std: Sequence[float],
    *,
    round_to_uint8: bool = False,
) -> Tensor:  # [B, 3, S, S] float32
    """Resize, normalise and transpose uint8 pictures in one pass, without keeping the aspect ratio.

    Bilinear with half-pixel centres and no antialiasing, as the original prepares single pictures and video.

    Args:
        pictures: [B, H, W, 3] uint8, any strides.
        size: height and width of the result; one number for a square.
        mean: three numbers a channel, in the pictures' channel order, on the scale of 0 to 255.
        std: likewise, not zero.
        round_to_uint8: round after resizing, before normalising, as a resize of uint8 pictures does (mmdetection).

    Returns:
        [B, 3, height, width] float32: (resized - mean) / std.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape or range, named with its value.
    """
    check_tensor(pictures, "pictures", (None, None, None, 3), (torch.uint8,))
    check_size(pictures.shape[1:3], "pictures")
    sides = check_size(size if isinstance(size, Iterable) else (size, size), "size")
    mean, std = check_numbers(mean, "mean", 3), check_numbers(std, "std", 3)
    if 0 in std:
        raise ValueError(f"std must not hold a zero, got {std}")
    return torch.ops.yolact.preprocess(pictures, sides, mean, std, round_to_uint8=round_to_uint8)


@torch.library.register_fake("yolact::preprocess")
def _(
    pictures: Tensor, size: Sequence[int], mean: Sequence[float], std: Sequence[float], *, round_to_uint8: bool
) -> Tensor:
    return pictures.new_empty((pictures.shape[0], 3, size[0], size[1]), dtype=torch.float32)
