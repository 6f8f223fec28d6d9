"""Memory that a process keeps for the tensors to come."""

from __future__ import annotations

import ctypes

# The numbers of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let malloc keep what is freed for what is asked for next, from now on and for the whole process.

    By default glibc gives large blocks back to the system at once. Then the pages of every feature map are faulted in
    anew, zeroed one by one: on a virtual machine, where a fault is dear, up to a sixth of the network's time. In
    exchange the process holds on to the most memory that it ever needed, and to somewhat more of it, as blocks then lie
    in one heap.

    For a program that the process belongs to, as the command line's `predict`, `eval` and `bench` do; `predict` of a
    model never does. A C library without these settings goes on as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
