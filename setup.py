"""Finds torch's headers without importing torch, and drives CMake. Everything else is in pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
OLDEST_TORCH = (2, 11)
OLDEST_GPU = 75


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


class Nvcc(NamedTuple):
    path: str
    version: str
    archs: set[str]  # that it compiles for


def find_nvcc() -> Nvcc | None:
    """nvcc where its headers are too: CUDACXX where that is set, else the PATH's, else CUDA_HOME's."""
    named, home = os.environ.get("CUDACXX"), os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which(named or "nvcc") or (None if named else shutil.which("nvcc", path=f"{home}/bin"))
    nvcc = examine_nvcc(found) if found else None
    if named and nvcc is None:
        sys.exit(f"yolact: CUDACXX={named} is no nvcc with its headers")
    return nvcc


def examine_nvcc(path: str) -> Nvcc | None:
    """nvcc may be a wrapper script, so it is asked where its parts are."""

    def ask(*question: str) -> str:
        done = subprocess.run([path, *question], capture_output=True, text=True)
        return done.stdout + done.stderr

    top = re.search(r"^#\$ TOP=(.*)$", ask("--dryrun", "-x", "cu", "/dev/null"), re.M)
    release = re.search(r"release ([\d.]+)", ask("--version"))
    if not top or not release or not (Path(top.group(1)) / "include/cuda_runtime.h").exists():
        return None
    return Nvcc(path, release.group(1), set(re.findall(r"^compute_(\d+)$", ask("--list-gpu-arch"), re.M)))


def decide_cuda(torch_cuda: str | None) -> tuple[Nvcc | None, str]:
    """The nvcc to build the CUDA kernels with, if at all, and why: YOLACT_CUDA=auto|1|0."""
    wish = os.environ.get("YOLACT_CUDA") or "auto"
    if wish not in ("auto", "1", "0"):
        sys.exit(f"yolact: YOLACT_CUDA must be auto, 1 or 0, got {wish!r}")
    if wish == "0":
        return None, "YOLACT_CUDA=0"
    if wish == "auto" and torch_cuda is None:
        return None, "the torch found is a CPU build"
    nvcc = find_nvcc()
    if nvcc is None and wish == "1":
        sys.exit("yolact: YOLACT_CUDA=1, but there is no nvcc with its headers (set CUDACXX, or YOLACT_CUDA=0)")
    if nvcc is None:
        return None, "no nvcc with its headers"
    return nvcc, f"nvcc {nvcc.version}, {'YOLACT_CUDA=1' if wish == '1' else f'torch for CUDA {torch_cuda}'}"


def decide_archs(nvcc: Nvcc) -> tuple[list[str], str]:
    """The GPU architectures to build for, none for all, and why: YOLACT_CUDA_ARCHS, else the GPUs that are present."""
    wish = os.environ.get("YOLACT_CUDA_ARCHS", "")
    served = {arch for arch in nvcc.archs if int(arch) >= OLDEST_GPU}
    if archs := re.split(r"[\s,;]+", wish.strip()) if wish.strip() else []:
        if archs != ["all"] and not all(re.fullmatch(r"\d{2,3}(-real|-virtual)?", arch) for arch in archs):
            sys.exit(f"yolact: YOLACT_CUDA_ARCHS must be all, or numbers such as '80 90', got {wish!r}")
        if unknown := {arch.split("-")[0] for arch in archs} - served - {"all"}:
            sys.exit(
                f"yolact: YOLACT_CUDA_ARCHS names {' '.join(sorted(unknown))}; nvcc {nvcc.version} compiles the kernels"
                f" for {' '.join(sorted(served, key=int))}"
            )
        return ([] if archs == ["all"] else archs), "YOLACT_CUDA_ARCHS"
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True).stdout
    except OSError:
        told = ""
    found = {int(major + minor) for major, minor in re.findall(r"^(\d+)\.(\d)$", told, re.M)}
    archs = [str(arch) for arch in sorted(found) if arch >= OLDEST_GPU]
    if unknown := [arch for arch in archs if arch not in served]:
        return [], f"a GPU of sm_{unknown[0]} is present, newer than nvcc {nvcc.version}: it runs the PTX"
    return archs, "the GPUs present" if archs else "no GPU is present"


class CleanBuild(build_py):
    """Begins with an empty folder: a wheel holds nothing that an earlier one left behind."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


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
        nvcc, why = decide_cuda(torch_cuda)
        archs: list[str] = []
        if nvcc:
            archs, which = decide_archs(nvcc)
            why += f"; {which}"
        decided = f"yes, for {' '.join(archs) or 'all'}" if nvcc else "no"
        print(f"yolact: torch {version} at {torch}; CUDA kernels: {decided} ({why})", flush=True)

        output = ROOT / "yolact" if self.inplace else Path(self.build_lib).resolve() / "yolact"
        output.mkdir(parents=True, exist_ok=True)
        build = ROOT / "build/cmake"  # one for every Python: of the objects, few ask which it is
        self.cmake(build, output, torch, nvcc, archs)
        built_for = re.search(r"^YOLACT_CUDA_ARCHS:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)
        info = {
            "torch": version,
            "cuda": nvcc is not None,
            "cuda_reason": why,
            "cuda_archs": built_for.group(1).split(";") if built_for else [],
            "nvcc": nvcc.version if nvcc else None,
            "python": sys.version.split()[0],
        }
        (output / "_build_info.json").write_text(json.dumps(info, indent=1) + "\n")

    def cmake(self, build: Path, output: Path, torch: Path, nvcc: Nvcc | None, archs: list[str]) -> None:
        import pybind11

        configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
        # The isolated build's cmake and ninja lie in a folder that is gone at the next call, and compilers change: what
        # CMake remembers of them goes. The objects stay (--fresh would remove them), so that little is compiled again.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        for compilers in build.glob("CMakeFiles/[0-9]*"):
            shutil.rmtree(compilers)
        defines = {
            "YOLACT_TORCH_OPS": "ON",
            "YOLACT_PYTHON": "ON",
            "YOLACT_CUDA": "ON" if nvcc else "OFF",
            "YOLACT_TORCH_DIR": torch,
            "YOLACT_OUTPUT_DIR": output,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "YOLACT_WERROR": os.environ.get("YOLACT_WERROR", "OFF"),
        }
        if nvcc:
            defines |= {"CMAKE_CUDA_COMPILER": nvcc.path, "YOLACT_CUDA_ARCHS": ";".join(archs)}
        # Without pip's isolation, cmake and ninja may lie beside a Python that is not on the PATH.
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{sysconfig.get_path('scripts')}"}
        for command in (
            configure + [f"-D{name}={value}" for name, value in defines.items()],
            ["cmake", "--build", str(build)],
        ):
            subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    setup(
        ext_modules=[Extension("yolact._C", sources=[]), Extension("yolact._mask", sources=[])],
        cmdclass={"build_ext": CMakeBuild, "build_py": CleanBuild},
        # Only where no torch is found does the build environment fetch one, to compile against its headers.
        setup_requires=[] if find_torch() else ["torch>=2.11"],
    )
