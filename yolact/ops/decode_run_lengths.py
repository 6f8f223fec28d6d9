"""COCO run lengths to dense masks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import check_size, check_tensor
from yolact.ops.run_lengths import RunLengths


def decode_run_lengths(
    run_lengths: RunLengths,  # M rows
    size: tuple[int, int] | None = None,  # (H, W)
) -> Tensor:  # [M, H, W] bool
    """Decode COCO's compressed run-length strings to masks, all of one size.

    Args:
        run_lengths: M rows, none of them overflowed.
        size: (height, width) of every mask. Without it the size is read from `run_lengths`, which synchronises on a
            GPU and which torch.compile cannot trace in one graph.

    Returns:
        [M, H, W] bool.

    Raises:
        TypeError: `run_lengths` of another type, or tensors of the wrong dtype.
        ValueError: masks of different sizes or of another size than `size`; a row that overflowed; a string that is
            broken, or covers more or fewer pixels than its size has. The row is named. (Inside a compiled graph
            what is found in the data raises RuntimeError.)
    """
    if not isinstance(run_lengths, RunLengths):
        raise TypeError(f"run_lengths must be RunLengths, got {type(run_lengths).__name__}")
    check_tensor(run_lengths.data, "run_lengths.data", (None, None), (torch.uint8,))
    rows = run_lengths.data.shape[0]
    for name, shape in (("length", (rows,)), ("needed", (rows,)), ("size", (rows, 2))):
        check_tensor(getattr(run_lengths, name), f"run_lengths.{name}", shape, (torch.int64,), run_lengths.data)
    if size is None:
        size = tuple(run_lengths.size[0].tolist()) if rows else (0, 0)
    sides = check_size(size, "size", low=0)
    arguments = (run_lengths.data, run_lengths.length, run_lengths.needed, run_lengths.size, sides)
    if torch.compiler.is_compiling():
        return torch.ops.yolact.decode_run_lengths(*arguments)
    try:
        return torch.ops.yolact.decode_run_lengths(*arguments)
    except RuntimeError as error:
        found = re.search(r"row \d+ of run_lengths .*", str(error))
        if found is None:
            raise
        raise ValueError(found.group()) from None


@torch.library.register_fake("yolact::decode_run_lengths")
def _(data: Tensor, length: Tensor, needed: Tensor, sizes: Tensor, size: Sequence[int]) -> Tensor:
    return data.new_empty((data.shape[0], size[0], size[1]), dtype=torch.bool)
