"""Run lengths in plain torch and Python."""

from __future__ import annotations

import torch
from torch import Tensor

from yolact.ops.run_lengths import DEFAULT_CAPACITY, RunLengths


def encode_run_lengths(
    masks: Tensor,  # [N, H, W] bool or uint8
    *,
    capacity: int | None = None,
) -> RunLengths:
    """The twin of `yolact.ops.encode_run_lengths`."""
    capacity = DEFAULT_CAPACITY if capacity is None else capacity
    strings = [string_of(counts_of(mask)) for mask in masks]
    needed = torch.tensor([len(string) for string in strings], dtype=torch.int64)
    length = needed.where(needed <= capacity, 0)
    data = torch.zeros(len(strings), capacity, dtype=torch.uint8)
    for row, string in enumerate(strings):
        if len(string) <= capacity:
            data[row, : len(string)] = torch.tensor(list(string), dtype=torch.uint8)
    return RunLengths(data, length, needed, torch.tensor(masks.shape[1:]).repeat(len(masks), 1))


def decode_run_lengths(
    run_lengths: RunLengths,
    size: tuple[int, int],
) -> Tensor:  # [M, H, W] bool
    """The twin of `yolact.ops.decode_run_lengths`, for strings that are good."""
    height, width = size
    masks = torch.zeros(len(run_lengths), height, width, dtype=torch.bool)
    for mask, data, length in zip(masks, run_lengths.data, run_lengths.length.tolist(), strict=True):
        counts = torch.tensor(counts_in(bytes(data[:length].tolist())), dtype=torch.int64)
        ones = torch.arange(len(counts)) % 2 == 1
        mask.copy_(ones.repeat_interleave(counts).view(width, height).T)
    return masks


def gather_run_lengths(run_lengths: RunLengths) -> Tensor:  # [bytes] uint8
    """What `torch.ops.yolact.gather_run_lengths` writes: five int64 a row, then the strings that did not overflow."""
    capacity = run_lengths.data.shape[1]
    fits = (run_lengths.needed <= capacity) & (run_lengths.length >= 0) & (run_lengths.length <= capacity)
    length = run_lengths.length.where(fits, 0)
    padded = (length + 3) // 4 * 4
    begin = padded.cumsum(0) - padded
    records = torch.stack([begin, length, run_lengths.needed, *run_lengths.size.unbind(1)], 1)
    texts = [
        torch.cat([row[:bytes_that_count], row.new_zeros(-bytes_that_count % 4)])
        for row, bytes_that_count in zip(run_lengths.data, length.tolist(), strict=True)
    ]
    return torch.cat([records.view(torch.uint8).flatten(), *texts])


def counts_of(mask: Tensor) -> list[int]:
    """The lengths of the alternating runs of a mask, column by column, zeros first."""
    pixels = (mask != 0).T.reshape(-1)
    previous = torch.cat([torch.zeros(1, dtype=torch.bool, device=mask.device), pixels])[:-1]
    flips = (pixels != previous).nonzero().flatten().tolist()  # where a run begins
    begins, ends = [0, *flips], [*flips, pixels.numel()]
    return [end - begin for begin, end in zip(begins, ends, strict=True)]


def string_of(counts: list[int]) -> bytes:
    """COCO's string: differences to the count two before, in groups of five bits from the lowest."""
    characters = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)  # the sign is repeated from bit 4 on
            characters.append(group + (32 if more else 0) + 48)
    return bytes(characters)


def counts_in(string: bytes) -> list[int]:
    """The counts of COCO's string."""
    counts: list[int] = []
    value = shift = 0
    for character in string:
        group = character - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
