"""The processes of one run as torchrun starts them: which of them this is, and what they tell each other.

Every function works in a process that is alone, too, and does nothing there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from yolact.errors import UserError

T = TypeVar("T")

MEETING = timedelta(minutes=10)  # processes start together: who has not come by then is dead
TIMEOUT = timedelta(hours=2)  # one process counts what all have detected while the others wait


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the group that torchrun's environment describes, and leave it at the end; gives the device of this process.

    Args:
        device: "cuda" without an index becomes this process's own of the machine. NCCL connects GPUs, gloo CPUs.

    Raises:
        UserError: this process has no GPU, not all processes came, or only half of that environment is set.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    own_gpu = ("LOCAL_RANK",) if device == torch.device("cuda") else ()
    if missing := [name for name in ("RANK", *own_gpu, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UserError(f"WORLD_SIZE is set, and {', '.join(missing)} not: start the processes by torchrun")
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise UserError(f"process {os.environ['RANK']} has no GPU: there is no {device} here; start fewer")
        torch.cuda.set_device(device)
    # What the host has to know goes through gloo, and no process waits for its GPU to learn it.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, number, count = _meet()
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _meet() -> tuple[dist.Store, int, int]:
    """What the processes keep between them, which of them this is, and how many there are, once all have come."""
    try:
        store, number, count = next(rendezvous("env://", timeout=MEETING))
        store.set(f"here {number}", "")
        store.wait([f"here {other}" for other in range(count)], MEETING)
    except dist.DistError as error:
        raise UserError(f"not every process has come within {MEETING.total_seconds():g} s") from error
    return store, number, count


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place; without a gradient."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def max_over_processes(value: int) -> int:
    """The largest of the processes' numbers."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def broadcast_from_main(tensors: Iterable[Tensor]) -> None:
    """Write the main process's values into tensors, which all processes have in one order."""
    if world_size() == 1:
        return
    for tensor in tensors:
        sent = tensor.contiguous()
        dist.broadcast(sent, src=0)
        tensor.copy_(sent)


def gather_from_processes(value: T) -> list[T]:
    """What each process passed, in the order of their ranks; every process gets the list."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def failing_together() -> Iterator[None]:
    """All processes come here, and a UserError in one of them ends them all."""
    if world_size() == 1:
        yield
        return
    fault: UserError | None = None
    try:
        yield
    except UserError as error:
        fault = error
        fault.__traceback__ = None  # whose frames would keep alive what has to go before the group (`TrainStep.close`)
    raise_together(fault)


def raise_together(fault: UserError | None) -> None:
    """Raise in all processes what one of them passes; only the main one tells it.

    Raises:
        UserError: the first of the faults, in the main process.
        SystemExit: in the others, with the status that the fault of a user's has.
    """
    faults = [told for told in gather_from_processes(None if fault is None else str(fault)) if told is not None]
    if faults and not is_main():
        raise SystemExit(2)
    if faults:
        raise fault or UserError(faults[0])
