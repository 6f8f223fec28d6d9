"""Argument checks that name the argument and print the value; cheap, and traced away by torch.compile."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

FLOATING = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = 2**63 - 1  # of an operator's whole numbers


def check_tensor(
    value: Tensor,
    name: str,
    shape: Sequence[int | None],  # None stands for any size
    dtypes: Sequence[torch.dtype],
    like: Tensor | None = None,  # the tensor whose device it must share
) -> None:
    """Raise TypeError for the wrong type, layout or dtype, ValueError for the wrong shape or device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {value.layout}")
    if value.dtype not in dtypes:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} must be of dtype {allowed}, got {str(value.dtype).removeprefix('torch.')}")
    actual = value.shape
    fits = len(actual) == len(shape)
    if fits:
        for size, want in zip(actual, shape, strict=True):
            if want is not None and size != want:
                fits = False
    if not fits:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must be of shape [{wanted}], got {list(actual)}")
    if like is not None and value.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, got {value.device}")


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor without its history; `detach` on one that has none would cost a microsecond for nothing."""
    return tensor.detach() if tensor.requires_grad else tensor


def check_no_tangent(operator: str, *tensors: Tensor | None) -> None:
    """Raise NotImplementedError where a tensor carries a forward-mode tangent, which torch would drop in silence."""
    if forward_ad._current_level < 0:  # outside of every dual_level; asking each tensor would take microseconds
        return
    traced = torch.compiler.is_compiling()  # a graph does not see the tangents of what it will be given
    for tensor in tensors:
        if tensor is not None and (traced or forward_ad.unpack_dual(tensor).tangent is not None):
            raise NotImplementedError(f"{operator} has no forward-mode derivative: differentiate it backwards")


def check_number(value: float, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return it as Python's own; raise TypeError for no number, ValueError for NaN or what is outside [low, high]."""
    if type(value) not in (int, float):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
        value = float(value)  # NumPy's
    if not low <= value <= high:  # also catches NaN
        raise ValueError(f"{name} must be within [{low}, {high}], got {value}")
    return value


def check_count(value: int, name: str, low: int = 1) -> int:
    """Return it as Python's own; raise TypeError for no whole number, ValueError for one below `low` or too large."""
    if type(value) not in (int, torch.SymInt):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        value = int(value)  # NumPy's
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    if not torch.compiler.is_compiling() and value > LARGEST:  # no guard on what a graph leaves open
        raise ValueError(f"{name} must be at most {LARGEST}, got {value}")
    return value


def items_of(values: Iterable[Any], name: str) -> list[Any]:
    """Return the items as a list; raise TypeError for what has none."""
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {values!r}") from None


def check_numbers(values: Iterable[float], name: str, length: int) -> list[float]:
    """Return so many numbers as Python's own; raise ValueError for more or fewer, and as `check_number` does."""
    items = items_of(values, name)
    if len(items) != length:
        raise ValueError(f"{name} must hold {length} numbers, got {items}")
    return [check_number(item, name) for item in items]


def check_size(size: Iterable[int], name: str, low: int = 1) -> list[int]:
    """Return (height, width) as Python's own; raise TypeError or ValueError for what is no mask's size."""
    items = items_of(size, name)
    if len(items) != 2:
        raise ValueError(f"{name} must be (height, width), got {items}")
    height = check_count(items[0], f"the height of {name}", low)
    width = check_count(items[1], f"the width of {name}", low)
    check_pixels(height, width, name)
    return [height, width]


def check_pixels(height: int, width: int, name: str) -> None:
    """Raise ValueError for more pixels than COCO's 32-bit counts can tell, or a side near the end of an int32."""
    # Inside a graph the operator checks it: sizes may be open there, and a bound on them would be a guard.
    if not torch.compiler.is_compiling() and (height * width >= 2**32 or max(height, width) >= 2**30):
        raise ValueError(f"{name} must have fewer than 2**32 pixels, and 2**30 a side, got {height} x {width}")


def check_candidates(classes: int, boxes: int) -> None:
    """Raise ValueError for more pairs of a class and a box than the kernels' 32 bits can number."""
    if not torch.compiler.is_compiling() and (classes * boxes >= 2**32 - 1 or max(classes, boxes) >= 2**31 - 1):
        raise ValueError(f"classes times boxes must be fewer than 2**32 - 1, got {classes} x {boxes}")


def check_choice(value: str, name: str, choices: Sequence[str]) -> None:
    """Raise ValueError where `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
