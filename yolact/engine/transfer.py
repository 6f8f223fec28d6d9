"""To a GPU and back beside what it computes; on a CPU there is nothing to move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def upload(
    tensors: Sequence[Tensor],  # each on the CPU or on the device
    device: torch.device,
) -> list[Tensor]:  # [n, ...] on the device, neighbours of one shape together
    """Copy tensors through pinned memory on a stream of their own; the current stream waits for it, the host does not.

    What lies on the device was written on the current stream.
    """
    groups = []
    for (_, place), members in groupby(tensors, key=lambda tensor: (tensor.shape, tensor.device)):
        same = list(members)
        if place == device or device.type == "cpu":
            groups.append(torch.stack(same))
            continue
        pinned = torch.empty((len(same), *same[0].shape), dtype=same[0].dtype, device="cpu", pin_memory=True)
        torch.stack(same, out=pinned)
        current, side = torch.cuda.current_stream(device), _upload_stream(device)
        with torch.cuda.stream(side):
            there = pinned.to(device, non_blocking=True)
        current.wait_stream(side)
        there.record_stream(current)
        groups.append(there)
    return groups


@cache
def _upload_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: the allocator keeps memory apart for each stream."""
    return torch.cuda.Stream(device)


def mark(device: torch.device) -> Callable[[], None]:
    """What waits for all that was asked of the device until now."""
    if device.type == "cpu":
        return lambda: None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def in_flight(begun: Iterable[Callable[[], Iterable[T]]], ahead: int) -> Iterator[T]:
    """Results in order, with so many batches begun beyond the one whose results are given.

    Where beginning fails, what was begun before is given first.
    """
    batches = iter(begun)
    waiting: list[Callable[[], Iterable[T]]] = []
    fault: Exception | None = None
    try:
        while True:
            try:
                waiting.append(next(batches))
            except StopIteration:
                break
            except Exception as error:
                fault = error
                break
            if len(waiting) > ahead:
                yield from waiting.pop(0)()
        while waiting:
            yield from waiting.pop(0)()
        if fault:
            raise fault
    finally:
        fault = None  # which knows this frame
        for finish in waiting:  # nobody wants them, but memory that the device is to write must outlive that
            finish()
