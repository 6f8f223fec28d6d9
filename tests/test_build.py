"""What the compiled objects need from the system: one binary serves every torch and every x86-64."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

OPERATORS = ROOT / "yolact" / "_C.so"


def undefined_symbols() -> list[str]:
    if shutil.which("nm") is None:
        pytest.skip("nm is not here")
    told = subprocess.run(["nm", "-D", "--undefined-only", OPERATORS], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in told.stdout.splitlines()]


def test_operators_use_the_stable_abi_alone():
    symbols = [symbol for symbol in undefined_symbols() if "@" not in symbol]  # a version names the C or C++ library
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


@pytest.mark.parametrize(("wish", "expected"), [("0", "YOLACT_CUDA=0"), ("auto", "")])
def test_setup_decides_cuda(monkeypatch, wish, expected):
    monkeypatch.setenv("YOLACT_CUDA", wish)
    built, reason = setup_functions(monkeypatch)["decide_cuda"](None)
    assert not built
    assert expected in reason


def test_setup_refuses_an_unknown_wish(monkeypatch):
    monkeypatch.setenv("YOLACT_CUDA", "perhaps")
    with pytest.raises(SystemExit, match="YOLACT_CUDA must be auto, 1 or 0, got 'perhaps'"):
        setup_functions(monkeypatch)["decide_cuda"](None)


def test_doctor_finds_everything_it_needs():
    told = subprocess.run([sys.executable, "-m", "yolact.doctor"], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "operators, cpu" in told.stdout
