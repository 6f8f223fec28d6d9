"""COCO run lengths to dense masks."""

from __future__ import annotations

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
            broken, or covers more or fewer pixels than its size has. The row is named. On a GPU with `size` given, and
            inside a compiled graph, nobody waits for what is found in the data: such a row gives an empty mask.
    """
    if not isinstance(run_lengths, RunLengths):
        raise TypeError(f"run_lengths must be RunLengths, got {type(run_lengths).__name__}")
    data = run_lengths.data
    check_tensor(data, "run_lengths.data", (None, None), (torch.uint8,))
    rows = data.shape[0]
    for name, shape in (("length", (rows,)), ("needed", (rows,)), ("size", (rows, 2))):
        check_tensor(getattr(run_lengths, name), f"run_lengths.{name}", shape, (torch.int64,), data)
    may_wait = not torch.compiler.is_compiling() and (size is None or data.device.type == "cpu")
    if size is None:
        size = tuple(run_lengths.size[0].tolist()) if rows else (0, 0)
    sides = check_size(size, "size", low=0)
    masks, error = torch.ops.yolact.decode_run_lengths(
        data, run_lengths.length, run_lengths.needed, run_lengths.size, sides
    )
    if may_wait and error.any():
        row = int(error.nonzero()[0])
        raise ValueError(f"row {row} of run_lengths {_complaint(run_lengths, row, int(error[row]), sides)}")
    return masks


# What an error of the operator says of its row, by the numbers of RunError in csrc/common/run_lengths.h.
_COMPLAINTS = {
    1: "holds a character that no run length has",
    2: "breaks off inside a number",
    3: "holds a negative run length",
    4: "covers more pixels than its size has",
    5: "covers fewer pixels than its size has",
    6: "overflowed: it needs {needed} bytes, its capacity is {capacity}",
    7: "is of size {own}, not {size}",
}


def _complaint(run_lengths: RunLengths, row: int, error: int, size: Sequence[int]) -> str:
    return _COMPLAINTS[error].format(
        needed=int(run_lengths.needed[row]),
        capacity=run_lengths.data.shape[1],
        own=run_lengths.size[row].tolist(),
        size=list(size),
    )


@torch.library.register_fake("yolact::decode_run_lengths")
def _(data: Tensor, length: Tensor, needed: Tensor, sizes: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    count = data.shape[0]
    return data.new_empty((count, size[0], size[1]), dtype=torch.bool), data.new_empty((count,), dtype=torch.int64)
