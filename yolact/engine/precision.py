"""In which floating-point type a network runs."""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from pathlib import Path

import torch

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = ("auto", *_DTYPES)


def choose_dtype(precision: str, device: torch.device, weights: torch.dtype) -> torch.dtype:
    """The type that a precision means.

    "auto" is the type of the weights where that is a half one; on a GPU float16, which every GPU that the operators
    run on multiplies in tensor cores and which keeps three bits more than bfloat16 does; on a CPU bfloat16 where the
    processor multiplies it natively, else float32.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision != "auto":
        return _DTYPES[precision]
    if weights in (torch.float16, torch.bfloat16):
        return weights
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if multiplies_bf16(_processor_flags()) else torch.float32


def multiplies_bf16(flags: Set[str]) -> bool:
    """Whether a processor with these features, as Linux names them, has instructions that oneDNN gains by.

    Without them oneDNN converts every bfloat16 and is slower than in float32.
    """
    return bool(flags & {"amx_bf16", "avx512_bf16"})


@cache
def _processor_flags() -> frozenset[str]:
    try:
        return flags_in(Path("/proc/cpuinfo").read_text())
    except OSError:
        return frozenset()


def flags_in(cpuinfo: str) -> frozenset[str]:
    """The features of the first processor that /proc/cpuinfo lists."""
    for line in cpuinfo.splitlines():
        name, _, values = line.partition(":")
        if name.strip() == "flags":
            return frozenset(values.split())
    return frozenset()
