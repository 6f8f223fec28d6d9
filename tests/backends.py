"""The backends on which every test of the operators runs: those that the machine has.

The kernels of another backend take the CPU's place in torch's dispatcher while a test runs, so that the tests, and the
public functions that they call, are the same for all: tensors on the CPU go in, and tensors on the CPU come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

import yolact.ops  # noqa: F401 - loads torch.ops.yolact

SIMT = Path(__file__).resolve().parent.parent / "build" / "simt" / "lib" / "_simt.so"


BACKENDS = ("cpu", "simt", "cuda")


@contextmanager
def running_on(name: str, skip_or_fail: Callable[[str, str], None]) -> Iterator[None]:
    """Let the operators' CPU tensors go to another backend; `skip_or_fail` is told what the machine lacks."""
    if name == "simt":
        if not SIMT.exists():
            skip_or_fail("simt", f"the kernels for simt are not built ({SIMT}): make build-simt")
        torch.ops.load_library(SIMT)
    elif reason := why_no_gpu():
        skip_or_fail("gpu", reason)
    library = torch.library.Library("yolact", "IMPL")
    try:
        for operator in operators():
            library.impl(operator, stand_in(name, operator), "CPU", allow_override=True)
        yield
    finally:
        library._destroy()


def why_no_gpu() -> str | None:
    """What the operators lack to run on a GPU here."""
    if not torch.cuda.is_available():
        return "no GPU is here"
    if not torch._C._dispatch_has_kernel_for_dispatch_key("yolact::preprocess", "CUDA"):
        return "the operators were built without CUDA kernels"
    return None


def operators() -> list[str]:
    """Every operator of the package that takes tensors."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("yolact::")]
    return sorted({name.removeprefix("yolact::") for name in names} - {"current_stream"})


def stand_in(backend: str, operator: str) -> Callable[..., Any]:
    """What takes the CPU kernel's place."""
    if backend == "simt":
        return getattr(torch.ops.yolact_simt, operator).default

    overload = getattr(torch.ops.yolact, operator).default

    def run_on_gpu(*arguments: Any, **options: Any) -> Any:
        there, options_there = tree_map_only(Tensor, to_gpu, (list(arguments), options))
        written = [i for i, parameter in enumerate(overload._schema.arguments) if parameter.is_write]
        for i in written:  # memory of the host, to which the device writes
            there[i] = arguments[i].pin_memory()
        results = overload(*there, **options_there)
        torch.cuda.synchronize()
        for i in written:
            arguments[i].copy_(there[i])
        return tree_map_only(Tensor, lambda tensor: tensor.cpu(), results)

    return run_on_gpu


def to_gpu(tensor: Tensor) -> Tensor:
    """The tensor on the GPU with the strides and the offset it has here."""
    whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    return whole.cuda().as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
