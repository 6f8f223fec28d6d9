"""Where the operators can run, and why they cannot elsewhere."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import torch

import yolact.ops  # noqa: F401 - loads torch.ops.yolact
from yolact.errors import UserError

BUILD_INFO = Path(__file__).resolve().parent / "_build_info.json"


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; "auto" is a GPU where one can run the operators, None the CPU.

    Raises:
        UserError: there is no such device here, or it cannot run the operators.
    """
    if name == "auto":
        return torch.device("cpu" if cuda_fault() else "cuda")
    try:
        device = torch.device("cpu" if name is None else name)
    except RuntimeError:
        raise UserError(f"device {str(name)!r} is unknown; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(name)!r} is not supported; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (fault := cuda_fault(device.index or 0)):
        raise UserError(f"device {str(name)!r} cannot be used: {fault}")
    return device


def cuda_fault(index: int = 0) -> str | None:
    """Why the operators cannot run on that GPU, in a line; None when they can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a CPU build; install a CUDA build of torch"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        return f"torch {torch.__version__} for CUDA {torch.version.cuda} finds no GPU with a driver"
    if index >= gpus:
        return f"there is no such GPU: torch sees {gpus}"
    built = build_info()
    if not torch._C._dispatch_has_kernel_for_dispatch_key("yolact::detect", "CUDA"):
        return f"the operators were built without CUDA kernels ({built['cuda_reason']})"
    # The CUDA runtime in the operators runs with the driver of its own major version and with later ones.
    driver, runtime = driver_version(), built["nvcc"]
    if driver // 1000 < int(runtime.split(".")[0]):
        return f"the driver serves CUDA {driver // 1000}.{driver % 1000 // 10}, too old for the operators' {runtime}"
    major, minor = torch.cuda.get_device_capability(index)
    if not serves(built["cuda_archs"], major, minor):
        return f"the operators were built for {' '.join(built['cuda_archs'])}, and this GPU is an sm_{major}{minor}"
    return None


def serves(archs: list[str], major: int, minor: int) -> bool:
    """Whether code for these architectures (CMake's names) runs on a GPU of that compute capability."""
    for arch in archs:
        built_major, built_minor = divmod(int(arch.split("-")[0]), 10)
        # Machine code runs on later GPUs of its generation; PTX, which a bare number brings too, on any later one.
        if not arch.endswith("-virtual") and built_major == major and built_minor <= minor:
            return True
        if not arch.endswith("-real") and (built_major, built_minor) <= (major, minor):
            return True
    return False


def driver_version() -> int:
    """The latest CUDA that the driver serves, as 1000 times its major version and 10 times its minor one."""
    version = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return version.value


def build_info() -> dict[str, Any]:
    """What setup.py wrote down of the build."""
    return json.loads(BUILD_INFO.read_text())
