"""Which device is found, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from yolact import devices, doctor, ops
from yolact.devices import find_device, serves
from yolact.errors import UserError


@dataclass
class Machine:
    """A machine as torch tells of it, and how the operators were built."""

    cuda: str | None = "13.0"
    gpus: int = 2
    kernels: bool = True
    driver: int | None = 13010
    runtime: str = "13.0"
    capability: tuple[int, int] = (9, 0)
    archs: tuple[str, ...] = ("75-real", "90")


def pretend(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    built = {"cuda_reason": "YOLACT_CUDA=0", "nvcc": machine.runtime, "cuda_archs": list(machine.archs)}
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    monkeypatch.setattr(torch.version, "cuda", machine.cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: machine.gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: machine.gpus)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: machine.capability)
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: machine.kernels)
    monkeypatch.setattr(devices, "driver_version", lambda: machine.driver)
    monkeypatch.setattr(devices, "build_info", lambda: built)


def test_find_device():
    assert find_device(None) == find_device("cpu") == torch.device("cpu")
    for name, fault in {"cuda:99": "cannot be used: ", "gpu": "is unknown", "meta": "is not supported"}.items():
        with pytest.raises(UserError, match=f"device '{name}' {fault}"):
            find_device(name)


def test_find_device_takes_a_gpu_that_can_run(monkeypatch):
    pretend(Machine(), monkeypatch)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    assert find_device(torch.device("cuda", 1)) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("machine", "fault"),
    [
        (Machine(cuda=None), "torch 2.11.0 is built without CUDA; install a CUDA build of torch"),
        (Machine(driver=None), "no NVIDIA driver is here"),
        (Machine(driver=12080), "the driver serves CUDA 12.8, too old for torch 2.11.0 with its 13.0"),
        (Machine(gpus=0), "torch 2.11.0 sees no GPUs"),
        (Machine(gpus=1), "torch 2.11.0 sees 1 GPU"),
        (Machine(kernels=False), "the operators were built without CUDA kernels (YOLACT_CUDA=0)"),
        (Machine(cuda="12.8", driver=12090), "the driver serves CUDA 12.9, too old for the operators with their 13.0"),
        (Machine(capability=(8, 6)), "the operators were built for 75-real 90, and this GPU is an sm_86"),
    ],
)
def test_find_device_says_why_not(machine, fault, monkeypatch):
    pretend(machine, monkeypatch)
    with pytest.raises(UserError) as caught:
        find_device("cuda:1")
    assert str(caught.value) == f"device 'cuda:1' cannot be used: {fault}"
    assert find_device("auto") == torch.device("cuda" if machine.gpus == 1 else "cpu")


@pytest.mark.parametrize(
    ("archs", "gpus"),
    [
        (["80-real"], [80, 86, 89]),
        (["86-real"], [86, 89]),
        (["90"], [90, 100, 103, 120]),
        (["89-virtual"], [89, 90, 100, 103, 120]),
        (["75-real", "100-real"], [75, 100, 103]),
    ],
)
def test_serves(archs, gpus):
    assert [gpu for gpu in (70, 75, 80, 86, 89, 90, 100, 103, 120) if serves(archs, *divmod(gpu, 10))] == gpus


def test_doctor_tells_of_each_gpu(monkeypatch):
    pretend(Machine(archs=("80-real",)), monkeypatch)
    capabilities = [(8, 6), (9, 0)]
    properties = [SimpleNamespace(name="A", major=a, minor=b, total_memory=24 << 30) for a, b in capabilities]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    told = [finding for finding in doctor.examine() if finding.subject.startswith("GPU")]
    assert told == [
        doctor.Finding("ok", "GPU 0", "A, sm_86, 24 GiB"),
        doctor.Finding(
            "no", "GPU 1", "A, sm_90, 24 GiB; the operators were built for 80-real, and this GPU is an sm_90"
        ),
    ]


def test_doctor_runs_the_deformable_convolution(monkeypatch):
    def told() -> dict[str, doctor.Finding]:
        return {found.subject: found for found in doctor.examine() if found.subject.startswith("deform_conv2d")}

    assert set(told()) == {"deform_conv2d, cpu", "deform_conv2d, cuda"}
    assert told()["deform_conv2d, cpu"].state == "ok"
    monkeypatch.setattr(ops, "deform_conv2d", lambda input, offset, weight: input * weight)  # looks at no offset
    wrong = told()["deform_conv2d, cpu"]
    assert (wrong.state, wrong.detail) == ("bad", "computes [0.0, 1.0, 2.0, 3.0], not [1.0, 2.0, 1.0, 1.5]")
    monkeypatch.delattr(ops, "deform_conv2d")
    missing = told()["deform_conv2d, cpu"]
    assert (missing.state, missing.detail.partition(":")[0]) == ("bad", "cannot be run")
