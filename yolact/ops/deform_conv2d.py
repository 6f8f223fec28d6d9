"""The modulated deformable convolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import FLOATING, check_count, check_no_tangent, check_size, check_tensor, items_of


def deform_conv2d(
    input: Tensor,  # [B, C, H, W]
    offset: Tensor,  # [B, G * kh * kw * 2, h, w], pixels
    weight: Tensor,  # [O, C / groups, kh, kw]
    bias: Tensor | None = None,  # [O]
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,  # [B, G * kh * kw, h, w]
    *,
    deterministic: bool | None = None,
) -> Tensor:  # [B, O, h, w]
    """Convolve samples that each tap takes at a position of its own, each times a factor of its own.

    The modulated deformable convolution (Zhu et al., *Deformable ConvNets v2*, 2019, section 3.1), with the arguments
    of torchvision's operator and its results. A tap of output (i, j) samples at ``(i * stride - padding + tap *
    dilation) + offset``, bilinearly; what lies outside the input is 0. Products are torch's own, of tiles of columns:
    they take a tile's memory whatever the batch. Differentiable, once and backwards, by all five tensors; not by
    torch.func.

    Args:
        input: [B, C, H, W] float32, float16, bfloat16 or float64; fastest in torch.channels_last, as is `weight`.
        offset: [B, G * kh * kw * 2, h, w]: for each of G groups of channels and each tap, y and x in pixels of the
            input. Any floating dtype, whatever the input's; float64 with a float64 input. h and w are those of a plain
            convolution. A position that is no number samples NaN, an infinite one 0.
        weight: [O, C / groups, kh, kw], of the input's dtype. Groups of the weights follow from C, as G does from the
            channels of `offset`; G divides C.
        bias: [O], of the input's dtype; none for None.
        stride: between positions, a number or (y, x), as the next two.
        padding: pixels around the input.
        dilation: pixels from tap to tap.
        mask: [B, G * kh * kw, h, w], the factors, of any floating dtype (float64 with float64); ones for None.
        deterministic: whether the input's gradient has the same bits at every run. None asks
            `torch.are_deterministic_algorithms_enabled()`. On a CPU it always has, with any number of threads; on a GPU
            it then takes time that grows with the square of the picture's pixels. All other results always have the
            bits that torch's products give them; of another number of threads those may give the weight's gradient
            others.

    Returns:
        [B, O, h, w] of the input's dtype, in torch.channels_last. Half types are computed in float32 on a CPU; on a GPU
        products are of half types and samples are rounded to them. Under autocast the input, weight and bias are
        brought to its dtype, as a convolution's are; offsets and mask stay as they come.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
        NotImplementedError: forward-mode differentiation.
    """
    strides, paddings, dilations = pair(stride, "stride", 1), pair(padding, "padding", 0), pair(dilation, "dilation", 1)
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    elif not isinstance(deterministic, bool):
        raise TypeError(f"deterministic must be a bool or None, got {deterministic!r}")
    floating = (*FLOATING, torch.float64)
    check_tensor(input, "input", (None, None, None, None), floating)
    check_tensor(weight, "weight", (None, None, None, None), floating, like=input)
    if bias is not None:
        check_tensor(bias, "bias", (weight.shape[0],), floating, like=input)
    kind = input.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):  # meta has no autocast
        dtype = torch.get_autocast_dtype(kind)
        input, weight = lowered(input, dtype), lowered(weight, dtype)
        bias = None if bias is None else lowered(bias, dtype)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != input.dtype:
            raise TypeError(f"{name} must be of the dtype of input, {input.dtype}, got {tensor.dtype}")
    check_shapes(input, offset, weight, mask, strides, paddings, dilations)
    check_no_tangent("deform_conv2d", input, offset, weight, bias, mask)
    return torch.ops.yolact.deform_conv2d(
        input.contiguous(memory_format=torch.channels_last),
        offset,
        weight.contiguous(memory_format=torch.channels_last),
        bias,
        mask,
        stride=strides,
        padding=paddings,
        dilation=dilations,
        deterministic=deterministic,
    )


def lowered(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor as autocast hands it to a convolution."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)


def pair(value: int | Sequence[int], name: str, low: int) -> list[int]:
    """Return (y, x) as Python's own; raise TypeError or ValueError for what is neither a number nor two."""
    items = items_of(value, name) if isinstance(value, Iterable) else [value, value]
    if len(items) != 2:
        raise ValueError(f"{name} must be a number or (y, x), got {items}")
    items = [check_count(item, name, low) for item in items]
    if not torch.compiler.is_compiling() and max(items) >= 2**30:  # the operator checks it, too
        raise ValueError(f"{name} must be below 2**30, got {max(items)}")
    return items


def output_size(size: Sequence[int], kernel: Sequence[int], *strides_paddings_dilations: Sequence[int]) -> list[int]:
    """Return (h, w), how many positions a convolution has; 0 or less where the kernel does not fit."""
    return [
        (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for length, taps, stride, padding, dilation in zip(size, kernel, *strides_paddings_dilations, strict=True)
    ]


def check_shapes(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> None:
    """Raise ValueError for shapes that do not go together, TypeError for what are no offsets or no mask."""
    batch, channels, *size = input.shape
    outputs, of_a_group, *kernel = weight.shape
    check_size(size, "input")
    check_size(kernel, "weight")
    check_count(channels, "the channels of input")
    check_count(outputs, "the outputs of weight")
    if of_a_group < 1 or channels % of_a_group:
        raise ValueError(
            f"the channels of input must be a multiple of those of weight, got {channels} and {of_a_group}"
        )
    if outputs % (channels // of_a_group):
        raise ValueError(f"the outputs of weight must be a multiple of {channels // of_a_group} groups, got {outputs}")
    positions = output_size(size, kernel, stride, padding, dilation)
    if min(positions) < 1:
        raise ValueError(
            f"a kernel of {kernel} with dilation {dilation} must fit the input of {size} with padding {padding}"
        )
    dtypes = (torch.float64,) if input.dtype == torch.float64 else FLOATING
    check_tensor(offset, "offset", (batch, None, *positions), dtypes, like=input)
    taps, found = kernel[0] * kernel[1], offset.shape[1]
    if found < 1 or found % (2 * taps) or channels % (found // (2 * taps)):
        raise ValueError(
            f"offset must have {2 * taps} channels for each of groups that divide the {channels} of input, got {found}"
        )
    if mask is not None:
        check_tensor(mask, "mask", (batch, found // 2, *positions), dtypes, like=input)


def channels_last(like: Tensor, shape: Sequence[int]) -> Tensor:
    batch, channels, height, width = shape
    return like.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)


@torch.library.register_fake("yolact::deform_conv2d")
def _(input: Tensor, offset: Tensor, weight: Tensor, *others: Tensor | None, **options: Any) -> Tensor:
    return channels_last(input, (input.shape[0], weight.shape[0], *offset.shape[2:]))


@torch.library.register_fake("yolact::deform_conv2d_backward")
def _(
    gradient: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_input, of_offset, of_weight, of_mask = options["wanted"]
    return (
        channels_last(input, input.shape) if of_input else input.new_empty(0),
        offset.new_empty(offset.shape) if of_offset else offset.new_empty(0),
        channels_last(weight, weight.shape) if of_weight else weight.new_empty(0),
        mask.new_empty(mask.shape) if mask is not None and of_mask else (input if mask is None else mask).new_empty(0),
    )


def save(ctx: Any, inputs: tuple[Tensor | None, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
    """Keep the inputs: columns are made again."""
    input, offset, weight, _, mask = inputs
    ctx.save_for_backward(input, offset, weight, mask)
    ctx.options = keyword_only_inputs


def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of those of the five that ask for one."""
    of_input, of_offset, of_weight, of_bias, of_mask = ctx.needs_input_grad[:5]
    wanted = [of_input, of_offset, of_weight, of_mask]
    input, offset, weight, mask = (None,) * 4
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if any(wanted):
        gradients = torch.ops.yolact.deform_conv2d_backward(gradient, *ctx.saved_tensors, **ctx.options, wanted=wanted)
        input, offset, weight, mask = (
            each if is_wanted else None for each, is_wanted in zip(gradients, wanted, strict=True)
        )
    return input, offset, weight, gradient.sum((0, 2, 3)) if of_bias else None, mask


def refuse(ctx: Any, *gradients: Tensor) -> None:
    """Where torch would go on as if the gradients were constants."""
    raise RuntimeError("deform_conv2d can be differentiated once: its gradients have none")


torch.library.register_autograd("yolact::deform_conv2d", backward, setup_context=save)
torch.library.register_autograd("yolact::deform_conv2d_backward", refuse)
