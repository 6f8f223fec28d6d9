"""Masks of low resolution, as most networks end with, to the size of the picture."""

from __future__ import annotations

from torch import Tensor

from yolact.ops._checks import FLOATING, check_size, check_tensor
from yolact.ops.assemble_masks import assemble_masks


def resize_masks(
    logits: Tensor,  # [N, h, w]
    size: tuple[int, int],  # (H, W)
    *,
    source_region: Tensor | None = None,  # [4] or [N, 4] xyxy, pixels of the logits
    activation: str = "none",
    threshold: float = 0.0,
    packed: bool = False,
) -> Tensor:  # [N, H, W] bool
    """Stretch masks of low resolution to a picture and threshold them, as RF-DETR, SAM and Mask2Former end.

    What `F.interpolate(..., mode="bilinear", align_corners=False) > threshold` gives, in one step and without the
    interpolated values in memory; each mask is taken for a prototype of its own, by the kernel of `assemble_masks`.
    A model that resizes twice (SAM to its input, then to the picture) is not equal to the bit in one step.

    Args:
        logits: [N, h, w] logits, or with a `threshold` of 0.5 probabilities; float32, float16 or bfloat16, any strides.
            NaN is not above the threshold, nor is any pixel between it and others; next to infinities pixels may be
            either, for the weight of 0 times one of them is NaN.
        size: (H, W) of every result, fewer than 2**32 pixels.
        source_region: xyxy in pixels of the logits, whole numbers, of all masks or of each: the part that is the
            picture, without the padding. It is cut out as by slicing before interpolation. None: all.
        activation: "none", logits are interpolated; or "sigmoid", their probabilities, with a `threshold` of 0.5 as a
            rule. Which of the two a model does makes a difference at the borders.
        threshold: a pixel is one where its value is strictly above.
        packed: return bits, 8 to a byte along W: pixel x is bit x % 8 (from the lowest) of byte x // 8.

    Returns:
        [N, H, W] bool, or packed [N, H, ceil(W / 8)] uint8.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    masks = assemble_masks(
        *as_prototypes(logits),
        size,
        layout="khw",
        activation=activation,
        threshold=threshold,
        crop="none",
        source_region=region_of_each(source_region, logits),
        packed=packed,
    )
    return masks[:, 0]


def as_prototypes(
    logits: Tensor,  # [N, h, w]
) -> tuple[Tensor, Tensor, Tensor]:  # prototypes [N, 1, h, w], coefficients [N, 1, 1], boxes [N, 1, 4]
    """Each mask as the only prototype of a picture of its own, times one: which is the mask, to the bit."""
    check_tensor(logits, "logits", (None, None, None), FLOATING)
    count, *sides = logits.shape
    check_size(sides, "logits")
    return logits[:, None], logits.new_ones(1, 1, 1).expand(count, 1, 1), logits.new_zeros(1, 1, 4).expand(count, 1, 4)


def region_of_each(source_region: Tensor | None, logits: Tensor) -> Tensor | None:  # [N, 4]
    """The same region for every mask, where one is given."""
    if isinstance(source_region, Tensor) and source_region.shape == (4,):
        return source_region.expand(logits.shape[0], 4)
    return source_region
