"""Deformable convolutions for the tests, and what is compared of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

# Of the largest value: a result is a sum of up to some hundred products, in another order than the reference's.
TOLERANCE = 1e-5
DOUBLE = 1e-12
HALF = {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}  # of a value: half a unit in the last place


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call."""

    input: Tensor
    offset: Tensor
    weight: Tensor
    bias: Tensor | None
    mask: Tensor | None
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 1
    dilation: int | tuple[int, int] = 1

    @property
    def arguments(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def simple_case(
    batch: int = 2,
    channels: int = 8,
    outputs: int = 6,
    size: tuple[int, int] = (7, 9),
    dtype: torch.dtype | None = None,
) -> Case:
    """A kernel of 3 x 3 with bias and mask, in one group."""
    generator = torch.Generator().manual_seed(0)
    return Case(
        torch.randn(batch, channels, *size, generator=generator).to(dtype),
        (torch.randn(batch, 18, *size, generator=generator) * 2).to(dtype),
        (torch.randn(outputs, channels, 3, 3, generator=generator) / 9).to(dtype),
        torch.randn(outputs, generator=generator).to(dtype),
        torch.rand(batch, 9, *size, generator=generator).to(dtype),
    )


def random_case(seed: int, dtypes: tuple[torch.dtype, ...] = tuple(HALF)) -> Case:
    """One call with everything drawn: sizes, groups, types, strides, offsets of none to far outside."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    groups, offset_groups = draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2, 4])
    channels = groups * offset_groups * draw.choice([1, 4, 16, 21])
    kernel = draw.choice([1, 2, 3]), draw.choice([1, 3, 5])
    stride, padding = (draw.choice([1, 2]), draw.choice([1, 3])), (draw.choice([0, 1, 3]), draw.choice([0, 2]))
    dilation = draw.choice([1, 2]), draw.choice([1, 3])
    batch, size = draw.choice([1, 2, 3]), (draw.choice([3, 8, 11]), draw.choice([13, 17]))
    positions = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    if min(positions) < 1:
        return random_case(seed + 1000, dtypes)
    taps, dtype = offset_groups * kernel[0] * kernel[1], draw.choice(dtypes)
    outputs = groups * draw.choice([1, 5, 16])
    sampling = dtypes if len(dtypes) == 1 else (dtype, torch.float32)

    def tensor(*shape: int, strides: str) -> Tensor:
        values = torch.randn(shape, generator=generator)
        if strides == "channels last":
            values = values.contiguous(memory_format=torch.channels_last)
        elif strides == "sliced":
            values = values.repeat_interleave(2, 1)[:, ::2]
        return values

    strides = ("contiguous", "channels last", "sliced")
    offset = tensor(batch, 2 * taps, *positions, strides=draw.choice(strides)) * draw.choice([0.0, 0.3, 3.0, 30.0])
    mask = torch.sigmoid(tensor(batch, taps, *positions, strides=draw.choice(strides)))
    return Case(
        tensor(batch, channels, *size, strides=draw.choice(strides)).to(dtype),
        offset.to(draw.choice(sampling)),
        tensor(outputs, channels // groups, *kernel, strides=draw.choice(strides)).to(dtype),
        torch.randn(outputs, generator=generator).to(dtype) if draw.random() < 0.5 else None,
        mask.to(draw.choice(sampling)) if draw.random() < 0.7 else None,
        stride,
        padding,
        dilation,
    )


TENSORS = ("input", "offset", "weight", "bias", "mask")


def with_gradients(function: Callable[..., Tensor], case: Case, **options: Any) -> dict[str, Tensor]:
    """The result, and the gradients of all tensors of a weighted sum of it."""
    arguments = case.arguments
    leaves = {name: arguments[name].detach().requires_grad_() for name in TENSORS if arguments[name] is not None}
    result = function(**(arguments | leaves), **options)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(5)).to(result.dtype)
    gradients = torch.autograd.grad(result, list(leaves.values()), weights)
    return {"result": result.detach()} | dict(zip(leaves, gradients, strict=True))


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, message: str = "") -> None:
    """Compare each with its largest value as the unit."""
    assert found.keys() == expected.keys()
    for name, ours in found.items():
        theirs = expected[name]
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        ours, theirs = ours.double(), theirs.double()
        scale = theirs.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-3) if theirs.numel() else 1.0
        torch.testing.assert_close(
            ours / scale,
            theirs / scale,
            atol=tolerance,
            rtol=tolerance,
            equal_nan=True,
            msg=lambda told, at=name: f"{message} {at}: {told}",
        )


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare to the bit."""
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
