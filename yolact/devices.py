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
    torch_name = f"torch {torch.__version__}"
    if torch.version.cuda is None:
        return f"{torch_name} is built without CUDA; install a CUDA build of torch"
    driver = driver_version()
    if driver is None:
        return "no NVIDIA driver is here"
    if too_old(driver, torch.version.cuda):
        return f"the driver serves CUDA {told(driver)}, too old for {torch_name} with its {torch.version.cuda}"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= gpus:
        return f"{torch_name} sees {gpus or 'no'} GPU{'s' * (gpus != 1)}"
    built = build_info()
    if not torch._C._dispatch_has_kernel_for_dispatch_key("yolact::detect", "CUDA"):
        return f"the operators were built without CUDA kernels ({built['cuda_reason']})"
    if too_old(driver, built["nvcc"]):
        return f"the driver serves CUDA {told(driver)}, too old for the operators with their {built['nvcc']}"
    major, minor = torch.cuda.get_device_capability(index)
    if not serves(built["cuda_archs"], major, minor):
        return f"the operators were built for {' '.join(built['cuda_archs'])}, and this GPU is an sm_{major}{minor}"
    return None


def driver_version() -> int | None:
    """The latest CUDA that the driver serves: 1000 times its major version plus 10 times its minor one."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return version.value


def told(driver: int) -> str:
    return f"{driver // 1000}.{driver % 1000 // 10}"


def too_old(driver: int, runtime: str) -> bool:
    """A CUDA runtime, such as "13.0", runs with drivers of its own major version and of later ones."""
    return driver // 1000 < int(runtime.split(".")[0])


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


def build_info() -> dict[str, Any]:
    """What setup.py wrote down of the build."""
    return json.loads(BUILD_INFO.read_text())
