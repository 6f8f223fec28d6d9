"""What the compiled objects need from the system: one binary serves every torch and every x86-64."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from binaries import CUDA_BUILD, OPERATORS, undefined_symbols
from conftest import ROOT, skip_or_fail


@pytest.mark.parametrize("path", [OPERATORS, CUDA_BUILD], ids=["as installed", "with CUDA"])
def test_operators_use_the_stable_abi_alone(path):
    if not path.exists():
        skip_or_fail("nvcc", f"the CUDA kernels are not built ({path}): make wheel, where nvcc is")
    symbols = [symbol for symbol in undefined_symbols(path) if "@" not in symbol]  # a version: the C or C++ library's
    from_torch = [symbol for symbol in symbols if re.match(r"(aoti_torch|torch)_\w+$", symbol)]
    assert from_torch, "the operators must need something of torch"
    # Mangled names must be the C++ library's own; std, and the operators new and delete.
    others = [symbol for symbol in symbols if symbol not in from_torch]
    unstable = [
        symbol for symbol in others if not re.match(r"_Z(N?K?S[ts]|T[IVS]|n|d)|_ITM_\w+$|__gmon_start__$", symbol)
    ]
    assert not unstable, f"outside torch's stable ABI: {unstable}"
    # The CUDA stream is the only symbol of torch's CUDA part: a CPU build of torch lacks it, so it is weak.
    constants = {"aoti_torch_device_type_cuda"}
    cuda = {symbol for symbol in from_torch if "cuda" in symbol} - constants - {"aoti_torch_get_current_cuda_stream"}
    assert not cuda, f"a CPU build of torch has no {cuda}"


def setup_functions(monkeypatch) -> dict:
    monkeypatch.chdir(ROOT)
    scope: dict = {"__name__": "setup", "__file__": str(ROOT / "setup.py")}
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), scope)
    return scope


def test_setup_finds_this_torch(monkeypatch):
    import torch

    functions = setup_functions(monkeypatch)
    found = functions["find_torch"]()
    assert found is not None
    version, cuda = functions["torch_version"](found)
    if not os.environ.get("YOLACT_TORCH_DIR"):
        assert (version, cuda) == (torch.__version__, torch.version.cuda)


def test_setup_refuses_a_folder_without_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLACT_TORCH_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match=f"YOLACT_TORCH_DIR={tmp_path} holds no torch"):
        setup_functions(monkeypatch)["find_torch"]()


def nvcc_wrapper(folder: Path) -> Path:
    """A program that answers as nvcc does, of a toolkit elsewhere."""
    (folder / "toolkit/include").mkdir(parents=True)
    (folder / "toolkit/include/cuda_runtime.h").touch()
    nvcc = folder / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        "case $1 in\n"
        "  --version) echo 'release 13.0, V13.0.88';;\n"
        f"  --dryrun) echo '#$ TOP={folder}/toolkit' >&2;;\n"
        "  --list-gpu-arch) printf 'compute_%s\\n' 50 75 80 90 120;;\n"
        "esac\n"
    )
    nvcc.chmod(0o755)
    return nvcc


@pytest.mark.parametrize(
    ("wish", "torch_cuda", "reason"),
    [
        ("0", "13.0", "YOLACT_CUDA=0"),
        ("auto", None, "the torch found is a CPU build"),
        ("auto", "13.0", "nvcc 13.0, torch for CUDA 13.0"),
        ("1", None, "nvcc 13.0, YOLACT_CUDA=1"),
    ],
)
def test_setup_decides_cuda(monkeypatch, tmp_path, wish, torch_cuda, reason):
    nvcc = nvcc_wrapper(tmp_path)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    monkeypatch.setenv("YOLACT_CUDA", wish)
    found, why = setup_functions(monkeypatch)["decide_cuda"](torch_cuda)
    assert why == reason
    assert found == ((str(nvcc), "13.0", {"50", "75", "80", "90", "120"}) if "nvcc" in reason else None)


def test_setup_without_nvcc(monkeypatch, tmp_path):
    nvcc = nvcc_wrapper(tmp_path)
    (tmp_path / "toolkit/include/cuda_runtime.h").unlink()  # nvcc without its headers is no nvcc
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    decide_cuda = setup_functions(monkeypatch)["decide_cuda"]
    assert decide_cuda("13.0") == (None, "no nvcc with its headers")
    monkeypatch.setenv("YOLACT_CUDA", "1")
    with pytest.raises(SystemExit, match="YOLACT_CUDA=1, but there is no nvcc with its headers"):
        decide_cuda("13.0")
    monkeypatch.setenv("YOLACT_CUDA", "auto")
    monkeypatch.setenv("CUDACXX", str(nvcc))  # what is named is not passed over for another
    with pytest.raises(SystemExit, match=f"CUDACXX={nvcc} is no nvcc with its headers"):
        decide_cuda("13.0")


@pytest.mark.parametrize(
    ("wish", "gpus", "archs", "reason"),
    [
        ("80, 90-real", "7.5", ["80", "90-real"], "YOLACT_CUDA_ARCHS"),
        ("all", "7.5", [], "YOLACT_CUDA_ARCHS"),
        ("", "9.0\n6.1\n8.0\n9.0", ["80", "90"], "the GPUs present"),
        ("", "12.0", ["120"], "the GPUs present"),
        ("", "9.0\n12.1", [], "a GPU of sm_121 is present, newer than nvcc 13.0: it runs the PTX"),
        ("", "6.1", [], "no GPU is present"),
        ("", "No devices were found", [], "no GPU is present"),
    ],
)
def test_setup_decides_architectures(monkeypatch, tmp_path, wish, gpus, archs, reason):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{gpus}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("YOLACT_CUDA_ARCHS", wish)
    functions = setup_functions(monkeypatch)
    nvcc = functions["examine_nvcc"](str(nvcc_wrapper(tmp_path)))
    assert functions["decide_archs"](nvcc) == (archs, reason)


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ("sm_90", "must be all, or numbers such as '80 90', got 'sm_90'"),
        ("90 50 99-real", "names 50 99; nvcc 13.0 compiles the kernels for 75 80 90 120"),
    ],
)
def test_setup_refuses_an_unknown_architecture(monkeypatch, tmp_path, wish, fault):
    monkeypatch.setenv("YOLACT_CUDA_ARCHS", wish)
    functions = setup_functions(monkeypatch)
    with pytest.raises(SystemExit, match=f"YOLACT_CUDA_ARCHS {fault}"):
        functions["decide_archs"](functions["examine_nvcc"](str(nvcc_wrapper(tmp_path))))


def test_all_architectures_are_those_that_nvcc_knows(tmp_path):
    nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc"))
    if nvcc is None:
        skip_or_fail("nvcc", "no nvcc is on the PATH")
    old = tmp_path / "nvcc"  # as of CUDA 12.6
    old.write_text(
        f'#!/bin/sh\n[ "$1" = --list-gpu-arch ] && exec printf "compute_%s\\n" 50 75 80 86 87 89 90\nexec {nvcc} "$@"\n'
    )
    old.chmod(0o755)
    configure = [sys.executable, "-m", "cmake", "-S", ROOT, "-B", tmp_path / "build"]
    configure += ["-DYOLACT_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={old}"]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    cache = (tmp_path / "build/CMakeCache.txt").read_text()
    assert "\nYOLACT_CUDA_ARCHS:STRING=75-real;80-real;86-real;87-real;89-real;90\n" in cache


def test_setup_refuses_an_unknown_wish(monkeypatch):
    monkeypatch.setenv("YOLACT_CUDA", "perhaps")
    with pytest.raises(SystemExit, match="YOLACT_CUDA must be auto, 1 or 0, got 'perhaps'"):
        setup_functions(monkeypatch)["decide_cuda"](None)


def test_setup_configures_anew_and_keeps_the_objects(monkeypatch, tmp_path):
    compiled, remembered = tmp_path / "CMakeFiles/_C.dir/a.o", tmp_path / "CMakeFiles/3.24.0/CMakeCXXCompiler.cmake"
    for path in (compiled, remembered, tmp_path / "CMakeCache.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    functions = setup_functions(monkeypatch)
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: None)
    functions["CMakeBuild"].cmake(None, tmp_path, tmp_path, tmp_path, None, [])
    assert compiled.exists()
    assert not remembered.exists()
    assert not (tmp_path / "CMakeCache.txt").exists()


def test_doctor_finds_everything_it_needs():
    told = subprocess.run([sys.executable, "-m", "yolact.doctor"], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "operators, cpu" in told.stdout
