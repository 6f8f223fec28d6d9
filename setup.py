"""Finds torch's headers without importing torch, and drives CMake. Everything else is in pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 11)


def find_torch() -> Path | None:
    """The installed torch package. An isolated build does not see it on sys.path, but pip keeps the prefix."""
    folders = [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if virtual_env := os.environ.get("VIRTUAL_ENV"):
        tag = f"python{sys.version_info.major}.{sys.version_info.minor}"
        folders.append(str(Path(virtual_env) / "lib" / tag / "site-packages"))
    candidates = [Path(folder) / "torch" for folder in folders if folder]
    if named := os.environ.get("YOLACT_TORCH_DIR"):
        candidates = [Path(named), Path(named) / "torch"]
    for candidate in candidates:
        if (candidate / "include/torch/csrc/stable/library.h").exists():
            return candidate.resolve()
    if os.environ.get("YOLACT_TORCH_DIR"):
        sys.exit(f"yolact: YOLACT_TORCH_DIR={named} holds no torch from {'.'.join(map(str, OLDEST_TORCH))} on")
    return None


def torch_version(torch: Path) -> tuple[str, str | None]:
    """(version, CUDA version or None), read from the file that torch imports them from."""
    text = (torch / "version.py").read_text()
    version = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"cuda: [^=]*= '([^']+)'", text)
    return (version.group(1) if version else "unknown", cuda.group(1) if cuda else None)


def find_cuda() -> tuple[Path, str] | None:
    """(toolkit root, nvcc's version). nvcc may be a wrapper script, so it is asked where its parts are."""
    nvcc = os.environ.get("CUDACXX") or "nvcc"
    try:
        told = subprocess.run([nvcc, "--dryrun", "-x", "cu", "/dev/null"], capture_output=True, text=True).stderr
        version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
    top = re.search(r"^#\$ TOP=(.*)$", told, re.M)
    release = re.search(r"release ([\d.]+)", version)
    if not top or not release or not (Path(top.group(1)) / "include/cuda_runtime.h").exists():
        return None
    return Path(top.group(1)).resolve(), release.group(1)


def decide_cuda(torch_cuda: str | None) -> tuple[bool, str]:
    """Whether the CUDA kernels are built, and why: YOLACT_CUDA=auto|1|0."""
    wish = os.environ.get("YOLACT_CUDA", "auto")
    if wish not in ("auto", "1", "0"):
        sys.exit(f"yolact: YOLACT_CUDA must be auto, 1 or 0, got {wish!r}")
    if wish == "0":
        return False, "YOLACT_CUDA=0"
    sources = any((ROOT / "csrc/cuda").glob("*.cu"))
    toolkit = find_cuda()
    if wish == "1":
        if not sources:
            sys.exit("yolact: YOLACT_CUDA=1, but this version has no CUDA sources yet (csrc/cuda)")
        if toolkit is None:
            sys.exit("yolact: YOLACT_CUDA=1, but there is no nvcc with its headers (set CUDACXX, or YOLACT_CUDA=0)")
        return True, f"YOLACT_CUDA=1, nvcc {toolkit[1]}"
    if not sources:
        return False, "this version has no CUDA sources yet"
    if torch_cuda is None:
        return False, "the torch found is a CPU build"
    if toolkit is None:
        return False, "no nvcc with its headers"
    return True, f"nvcc {toolkit[1]}, torch for CUDA {torch_cuda}"


class CMakeBuild(build_ext):
    """Builds both native modules with one CMake configuration."""

    def get_ext_filename(self, fullname: str) -> str:
        # The torch operators use no Python ABI: one file serves every Python version.
        return "yolact/_C.so" if fullname == "yolact._C" else super().get_ext_filename(fullname)

    def run(self) -> None:
        torch = find_torch()
        if torch is None:
            sys.exit(
                "yolact: no torch>=2.11 found beside this Python; install torch first, or name it in YOLACT_TORCH_DIR"
            )
        version, torch_cuda = torch_version(torch)
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_TORCH:
            sys.exit(f"yolact: torch {version} is too old, 2.11 is the oldest that serves")
        cuda, why = decide_cuda(torch_cuda)
        print(f"yolact: torch {version} at {torch}; CUDA kernels: {'yes' if cuda else 'no'} ({why})", flush=True)

        output = ROOT / "yolact" if self.inplace else Path(self.build_lib).resolve() / "yolact"
        output.mkdir(parents=True, exist_ok=True)
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        self.cmake(build, output, torch, cuda)
        info = {"torch": version, "cuda": cuda, "cuda_reason": why, "python": sys.version.split()[0]}
        (output / "_build_info.json").write_text(json.dumps(info, indent=1) + "\n")

    def cmake(self, build: Path, output: Path, torch: Path, cuda: bool) -> None:
        import pybind11

        configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
        # The isolated build's cmake and ninja lie in a folder that is gone at the next call.
        configure += ["--fresh"] if (build / "CMakeCache.txt").exists() else []
        defines = {
            "YOLACT_TORCH_OPS": "ON",
            "YOLACT_PYTHON": "ON",
            "YOLACT_CUDA": "ON" if cuda else "OFF",
            "YOLACT_TORCH_DIR": torch,
            "YOLACT_OUTPUT_DIR": output,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "YOLACT_WERROR": os.environ.get("YOLACT_WERROR", "OFF"),
        }
        subprocess.run(configure + [f"-D{name}={value}" for name, value in defines.items()], check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


if __name__ == "__main__":
    setup(
        ext_modules=[Extension("yolact._C", sources=[]), Extension("yolact._mask", sources=[])],
        cmdclass={"build_ext": CMakeBuild},
        # Only where no torch is found does the build environment fetch one, to compile against its headers.
        setup_requires=[] if find_torch() else ["torch>=2.11"],
    )
