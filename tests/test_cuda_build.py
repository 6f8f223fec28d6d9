"""What `make build-cuda` makes: every architecture in it, and one binary for torches with CUDA and without."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from binaries import CUDA_BUILD, needs, undefined_symbols
from conftest import ROOT, skip_or_fail

from tools import kernel_table

TORCH_CUDA = ROOT / "build/venv-torch-2.11/bin/python"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is here, but with the operators as nvcc built them."""
    if not CUDA_BUILD.exists():
        skip_or_fail("nvcc", f"the CUDA kernels are not built ({CUDA_BUILD}): make build-cuda, where nvcc is")
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("_C.so", "weights", "__pycache__")
    shutil.copytree(ROOT / "yolact", folder / "yolact", ignore=ignored)
    shutil.copy(CUDA_BUILD, folder / "yolact")
    return folder


def run(python: str | Path, package: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, *command], cwd=package, env=environment, capture_output=True, text=True)


def fare(python: str | Path, package: Path) -> dict:
    """What tests/one_binary.py tells of the package under that Python's torch."""
    done = run(python, package, ROOT / "tests/one_binary.py")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["package"]).is_relative_to(package)
    return told


def check_operators(told: dict) -> None:
    operators = [name for name in told["operators"] if name != "current_stream"]
    assert told["right"] == dict.fromkeys(operators, True)
    assert told["cuda_operators"] == operators


def test_every_kernel_is_built_for_every_architecture(package):
    binary = kernel_table.read(package / "yolact/_C.so")
    assert binary.machine_code == {75, 80, 86, 87, 89, 90, 100, 120}
    assert binary.ptx == {90, 120}
    assert {name.split()[0] for name in binary.kernels} == {path.name for path in ROOT.glob("csrc/cuda/*.cu")}
    for name, uses in binary.kernels.items():
        assert uses.keys() == binary.machine_code, name
        assert not any(use.local for use in uses.values()), f"{name} spills or has a stack frame"
        assert all(use.shared <= 48 * 1024 for use in uses.values()), name


def test_table_fails_on_local_memory(monkeypatch, capsys):
    told = (
        "\nFatbin ptx code:\n================\narch = sm_90\n"
        "\nFatbin elf code:\n================\narch = sm_{arch}\n\nResource usage:\n Common:\n  GLOBAL:0\n"
        " Function _ZN6yolact4cuda46_GLOBAL__N__75a24bb7_13_preprocess_cu_9c64e5cb6kernelIfEEvPT_:\n"
        "  REG:{registers} STACK:{stack} SHARED:512 LOCAL:0 CONSTANT[0]:480 TEXTURE:0 SURFACE:0 SAMPLER:0\n"
    )
    for stack, state in ((0, 0), (8, 1)):
        binary = kernel_table.parse(
            told.format(arch=80, registers=36, stack=0) + told.format(arch=90, registers=40, stack=stack)
        )
        assert (binary.machine_code, binary.ptx) == ({80, 90}, {90})
        monkeypatch.setattr(kernel_table, "read", lambda path, binary=binary: binary)
        monkeypatch.setattr(sys, "argv", ["kernel_table", "_C.so"])
        assert kernel_table.main() == state
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["preprocess.cu", "kernel<float>", "512", str(stack), "36", "40"] in rows


def test_the_binary_needs_nothing_of_cuda(package):
    assert not [need for need in needs(CUDA_BUILD) if "cud" in need or "nv" in need]
    symbols = undefined_symbols(CUDA_BUILD)
    assert not [symbol for symbol in symbols if symbol.startswith("cu")]
    assert symbols["aoti_torch_get_current_cuda_stream"] == "w", "a CPU build of torch lacks it, so it must be weak"


def test_it_runs_under_this_torch(package):
    told = fare(sys.executable, package)
    assert told["torch"] == torch.__version__
    check_operators(told)
    if told["cuda"] is None:
        assert "it has no CUDA stream to run on; install a CUDA build" in told["stream_error"]
        assert told["device_error"] == (
            f"device 'cuda' cannot be used: torch {torch.__version__} is built without CUDA;"
            " install a CUDA build of torch"
        )


def test_it_runs_under_the_cuda_build_of_the_oldest_torch(package):
    if not TORCH_CUDA.exists():
        skip_or_fail("torch-cuda", f"no environment with a CUDA build of torch ({TORCH_CUDA}): make venv-torch-cuda")
    told = fare(TORCH_CUDA, package)
    assert told["torch"].startswith("2.11.0")
    assert told["cuda"] is not None
    check_operators(told)
    if told["gpus"] == 0:
        # The symbol resolved: the answer is that of torch's CUDA part.
        assert "torch has no current stream on cuda:0" in told["stream_error"]
        assert told["device_error"].startswith("device 'cuda' cannot be used: ")
        done = run(TORCH_CUDA, package, "-m", "yolact.cli", "predict", "photo.jpg", "--device", "cuda")
        assert (done.returncode, done.stderr) == (2, f"yolact: {told['device_error']}\n")
