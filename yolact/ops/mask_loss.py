"""The loss of assembled masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import FLOATING, check_count, check_no_tangent, check_number, check_size, check_tensor, plain


def mask_loss(
    prototypes: Tensor,  # [B, h, w, K]
    coefficients: Tensor,  # [M, K], a row a positive
    picture: Tensor,  # [M] int64
    truth: Tensor,  # [M] int64
    boxes: Tensor,  # [T, 4] xyxy, fractions
    masks: Tensor,  # [T, h, w] bool
    *,
    padding: float = 1.0,
) -> Tensor:  # [M] float32
    """Compare each positive's assembled mask with its truth inside the true box, without ever holding a mask.

    The mask loss of YOLACT (section 3.3): the binary cross entropy of sigmoid(prototypes . coefficients) at the
    prototypes' resolution, summed over the pixels inside the truth's box, over the area of that box. Forward and
    backward each compute the logits anew, in float32 and only inside the boxes, so that memory does not grow with the
    number of positives. Differentiable, once and backwards, by `prototypes` and `coefficients`, not by torch.func;
    deterministic to the bit.

    A probability that rounds to 0 or 1 and is wrong costs 100 and has no gradient, as in the original.

    Args:
        prototypes: [B, h, w, K] float32, float16 or bfloat16, any strides and any K. float64 on the CPU, where the
            coefficients are, too: all is computed in it then.
        coefficients: [M, K], floating.
        picture: [M] int64, the picture that each positive is of, in any order.
        truth: [M] int64, the row of `boxes` and `masks` that each positive answers for.
        boxes: [T, 4] xyxy, floating, fractions of the picture, corners in any order.
        masks: [T, h, w] bool, at the prototypes' resolution.
        padding: prototype pixels by which a box grows on each side. A pixel (column x) is inside where
            x1 - padding <= x < x2 + padding, and rows alike.

    Returns:
        [M] float32 (float64 for float64): infinite where the box has no area; NaN, and no gradient, where it has a NaN.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value. What
            `picture` and `truth` hold is looked at on the CPU alone, where nobody has to wait for it, and not in
            compiled graphs: there the loss of a positive of no picture or no truth is NaN, without a gradient.
        NotImplementedError: forward-mode differentiation.
    """
    padding = check_number(padding, "padding", low=0.0)
    check_tensor(prototypes, "prototypes", (None, None, None, None), (*FLOATING, torch.float64))
    batch, height, width, channels = prototypes.shape
    check_size((height, width), "prototypes")
    check_count(channels, "the channels of prototypes")
    in_double = prototypes.dtype == torch.float64
    if in_double and prototypes.device.type != "cpu":
        raise TypeError(f"prototypes of dtype float64 must be on the CPU, got {prototypes.device}")
    dtypes = (torch.float64,) if in_double else FLOATING
    check_tensor(coefficients, "coefficients", (None, channels), dtypes, like=prototypes)
    count = coefficients.shape[0]
    check_tensor(picture, "picture", (count,), (torch.int64,), like=prototypes)
    check_tensor(truth, "truth", (count,), (torch.int64,), like=prototypes)
    check_tensor(boxes, "boxes", (None, 4), FLOATING, like=prototypes)
    check_tensor(masks, "masks", (boxes.shape[0], height, width), (torch.bool,), like=prototypes)
    if prototypes.device.type == "cpu" and not torch.compiler.is_compiling():
        check_index(picture, "picture", batch)
        check_index(truth, "truth", boxes.shape[0])
    check_no_tangent("mask_loss", prototypes, coefficients)
    boxes = plain(boxes).float().contiguous()
    return torch.ops.yolact.mask_loss(
        prototypes, coefficients, picture.contiguous(), truth.contiguous(), boxes, masks, padding=padding
    )


def check_index(index: Tensor, name: str, end: int) -> None:
    """Raise ValueError for what is outside [0, end)."""
    wrong = index[(index < 0) | (index >= end)]
    if len(wrong):
        raise ValueError(f"{name} must be within [0, {end}), got {int(wrong[0])}")


@torch.library.register_fake("yolact::mask_loss")
def _(prototypes: Tensor, coefficients: Tensor, *inputs: Tensor, padding: float) -> Tensor:
    dtype = torch.float64 if prototypes.dtype == torch.float64 else torch.float32
    return coefficients.new_empty(coefficients.shape[0], dtype=dtype)


@torch.library.register_fake("yolact::mask_loss_backward")
def _(
    loss_gradient: Tensor, prototypes: Tensor, coefficients: Tensor, *inputs: Tensor, padding: float
) -> tuple[Tensor, Tensor]:
    batch, height, width, channels = prototypes.shape
    if prototypes.stride(3) == 1:
        gradient = prototypes.new_empty((batch, height, width, channels))
    else:
        gradient = prototypes.new_empty((batch, channels, height, width)).permute(0, 2, 3, 1)
    return gradient, coefficients.new_empty(coefficients.shape)


def save(ctx: Any, inputs: tuple[Tensor, ...], keyword_only_inputs: dict[str, float], output: Tensor) -> None:
    """Keep the inputs: all else is computed again."""
    ctx.save_for_backward(*inputs)
    ctx.padding = keyword_only_inputs["padding"]


def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the prototypes and the coefficients."""
    gradients = torch.ops.yolact.mask_loss_backward(loss_gradient.contiguous(), *ctx.saved_tensors, padding=ctx.padding)
    return (*gradients, None, None, None, None)


def refuse(ctx: Any, *gradients: Tensor) -> None:
    """Where torch would go on as if the gradients were constants."""
    raise RuntimeError("mask_loss can be differentiated once: its gradients have none")


torch.library.register_autograd("yolact::mask_loss", backward, setup_context=save)
torch.library.register_autograd("yolact::mask_loss_backward", refuse)
