"""What `make wheel` makes: all that it should hold, every architecture, one wheel for torches with CUDA and without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from binaries import CUDA_BUILD, WHEEL, needs, undefined_symbols
from conftest import ROOT, skip_or_fail

from tools import kernel_table, release

TORCH_CUDA = ROOT / "build/venv-torch-2.11/bin/python"


@pytest.fixture(scope="module")
def package() -> Path:
    """A folder with the package as pip installs it from the wheel."""
    if not CUDA_BUILD.exists():
        skip_or_fail("nvcc", f"the wheel is not built ({WHEEL}): make wheel, where nvcc is")
    return WHEEL


def tracked(*below: str) -> set[str]:
    """The files that git has there."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    told = subprocess.run(["git", "ls-files", *below], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(told.stdout.splitlines())


def run(python: str | Path, package: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, *command], cwd=package, env=environment, capture_output=True, text=True)


def fare(python: str | Path, package: Path) -> dict:
    """What tests/one_binary.py tells of the package under that Python's torch."""
    done = run(python, package, ROOT / "tests/one_binary.py", ROOT / "docs/demo.jpg")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["package"]).is_relative_to(package)
    return told


def check(told: dict) -> None:
    """All that works without a GPU, under any torch."""
    operators = [name for name in told["operators"] if name != "current_stream"]
    assert told["right"] == dict.fromkeys(operators, True)
    assert told["cuda_operators"] == operators
    assert told["mask_without_torch"]
    assert told["found"] == ["cat"], "by the bundled model"
    assert told["doctor"]["yolact"].startswith(f"ok: {release.Release().version} in {WHEEL}")
    assert told["doctor"]["CUDA kernels"].startswith("ok: built for 75-real ")
    assert told["doctor"]["operators, cuda"] == f"ok: {len(operators)} of {len(operators)}"
    assert not [finding for finding in told["doctor"].values() if finding.startswith("bad")]


def test_wheel_holds_the_package_and_nothing_else(package):
    installed = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    info = f"yolact-{release.Release().version}.dist-info"
    (module,) = package.glob("yolact/_mask.*.so")
    built = {"yolact/_C.so", f"yolact/{module.name}", "yolact/_build_info.json"}
    assert {name for name in installed if name.startswith("yolact/")} == tracked("yolact") | built
    others = {name.partition("/")[0] for name in installed if not name.startswith("yolact/")}
    assert others == {info, "bin", "installed"}
    assert f"{info}/licenses/LICENSE" in installed
    for name in tracked("yolact"):
        assert (package / name).read_bytes() == (ROOT / name).read_bytes(), f"{name} changed: make wheel"


def test_wheel_is_stripped_of_symbols(package):
    for path in package.glob("yolact/*.so"):
        told = subprocess.run(["nm", path], capture_output=True, text=True)
        assert "no symbols" in told.stderr, path


def test_sdist_holds_what_git_tracks(package):
    with tarfile.open(release.Release().sdist) as archive:
        held = {member.name.partition("/")[2]: member for member in archive.getmembers() if member.isfile()}
        made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or name.startswith("yolact.egg-info/")}
        left_out = {name for name in tracked() if name.startswith((".ci/", ".gitignore"))}
        assert held.keys() - made == tracked() - left_out
        for name in ("csrc/torch/schema.cpp", "cmake/manylinux.cpp", "tests/conftest.py"):
            assert archive.extractfile(held[name]).read() == (ROOT / name).read_bytes()


def test_every_kernel_is_built_for_every_architecture(package):
    binary = kernel_table.read(package / "yolact/_C.so")
    assert binary.machine_code == release.ARCHITECTURES
    assert binary.ptx == {90, 120}
    assert {name.split()[0] for name in binary.kernels} == {path.name for path in ROOT.glob("csrc/cuda/*.cu")}
    for name, uses in binary.kernels.items():
        assert uses.keys() == binary.machine_code, name
        assert not any(use.local for use in uses.values()), f"{name} spills or has a stack frame"
        assert all(use.shared <= 48 * 1024 for use in uses.values()), name


def test_no_product_is_fused_into_a_sum(package):
    """As the results are those of csrc/cpu to the bit. ptxas fuses none that say how they round."""
    cuobjdump = [kernel_table.find_cuobjdump(), "--dump-ptx", package / "yolact/_C.so"]
    ptx = subprocess.run(cuobjdump, capture_output=True, text=True, check=True).stdout
    assert re.search(r"\bmul\.rn\.f32\b", ptx)
    assert not re.search(r"\bfma\.|(?<!global\.)\b(add|sub|mul)\.f(32|64)|\.(ftz|approx|full)\b", ptx)


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
    check(told)
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
    check(told)
    if told["gpus"] == 0:
        # The symbol resolved: the answer is that of torch's CUDA part.
        assert "torch has no current stream on cuda:0" in told["stream_error"]
        assert told["device_error"].startswith("device 'cuda' cannot be used: ")
        done = run(TORCH_CUDA, package, "-m", "yolact.cli", "predict", "photo.jpg", "--device", "cuda")
        assert (done.returncode, done.stderr) == (2, f"yolact: {told['device_error']}\n")
