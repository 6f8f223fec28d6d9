"""Argument checks that name the argument and print the value; cheap, and traced away by torch.compile."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float16, torch.bfloat16)


def check_tensor(
    value: Tensor,
    name: str,
    shape: Sequence[int | None],  # None stands for any size
    dtypes: Sequence[torch.dtype],
    like: Tensor | None = None,  # the tensor whose device it must share
) -> None:
    """Raise TypeError for the wrong type or dtype, ValueError for the wrong shape or device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in dtypes:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} must be of dtype {allowed}, got {str(value.dtype).removeprefix('torch.')}")
    fits = value.dim() == len(shape) and all(
        want is None or size == want for size, want in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must be of shape [{wanted}], got {list(value.shape)}")
    if like is not None and value.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, got {value.device}")


def check_number(value: float, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise TypeError for no number, ValueError for NaN or a value outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not low <= value <= high:  # also catches NaN
        raise ValueError(f"{name} must be within [{low}, {high}], got {value}")


def check_count(value: int, name: str, low: int = 1) -> None:
    """Raise TypeError for no whole number, ValueError for one below `low`."""
    if isinstance(value, (bool, float)) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_choice(value: str, name: str, choices: Sequence[str]) -> None:
    """Raise ValueError where `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
