"""A batch's tensors side by side in one piece of memory a picture, so that one copy takes a picture's all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 256  # bytes: what the allocators give, so that kernels find in a piece what they find in a tensor


def pack(
    tensors: Sequence[Tensor],  # each [B, ...]
) -> tuple[Tensor, ...]:  # [B, bytes] uint8, then each tensor as a view of it
    """Copy tensors into one block, a row a picture, in their order."""
    batch = tensors[0].shape[0]
    begins, end = [], 0
    for tensor in tensors:
        begins.append(end)
        end += -(-tensor[0].numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    block = torch.empty((batch, end), dtype=torch.uint8, device=tensors[0].device)
    views = []
    for tensor, begin in zip(tensors, begins, strict=True):
        size = tensor[0].numel() * tensor.element_size()
        views.append(block[:, begin : begin + size].view(tensor.dtype).view(tensor.shape).copy_(tensor))
    return block, *views


def unpack(
    row: Tensor,  # [bytes] uint8, of a block or a copy of it, which may end early
    views: Sequence[Tensor],  # [B, ...] each, as `pack` returned them: those to find
) -> list[Tensor]:
    """One picture's tensors as views of its row."""
    found = []
    for view in views:
        begin = view.storage_offset() * view.element_size()
        size = view[0].numel() * view.element_size()
        found.append(row[begin : begin + size].view(view.dtype).view(view.shape[1:]))
    return found
