"""Prints what every CUDA kernel of a compiled object uses on each architecture; fails on a spill or a stack frame.

python -m tools.kernel_table build/wheel/yolact/_C.so
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Use:
    """What one kernel uses on one architecture: registers a thread, bytes a block of shared memory, bytes a thread."""

    registers: int
    shared: int  # what is declared statically
    local: int  # the stack frame, spilled registers among it, and other local memory


@dataclass
class Binary:
    """What cuobjdump tells of an object: its kernels, and what it holds machine code and PTX for."""

    kernels: dict[str, dict[int, Use]] = field(default_factory=dict)
    machine_code: set[int] = field(default_factory=set)
    ptx: set[int] = field(default_factory=set)


def find_cuobjdump() -> str | None:
    """The program of that name, from its package beside this Python or from the PATH."""
    try:
        files = importlib.metadata.files("nvidia-cuda-cuobjdump") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    packaged = [str(file.locate()) for file in files if file.name == "cuobjdump"]
    return packaged[0] if packaged else shutil.which("cuobjdump")


def read(path: Path) -> Binary:
    """Take a compiled object apart."""
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        sys.exit("cuobjdump is not here: pip install nvidia-cuda-cuobjdump")
    told = subprocess.run([cuobjdump, "--dump-resource-usage", path], capture_output=True, text=True, check=True)
    return parse(told.stdout)


def parse(told: str) -> Binary:
    """Read what `cuobjdump --dump-resource-usage` prints."""
    binary = Binary()
    for section in told.split("\nFatbin ")[1:]:
        arch = int(re.findall(r"^arch = sm_(\d+)", section, re.M)[0])
        (binary.ptx if section.startswith("ptx") else binary.machine_code).add(arch)
        for symbol, numbers in re.findall(r"^ Function (.*):\n(.*)$", section, re.M):
            used = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", numbers)}
            use = Use(used["REG"], used["SHARED"], used["STACK"] + used["LOCAL"])
            binary.kernels.setdefault(readable(symbol), {})[arch] = use
    return binary


@functools.cache
def readable(symbol: str) -> str:
    """`file.cu kernel<arguments>`; nvcc names the file of what stands in an anonymous namespace."""
    file = re.search(r"_GLOBAL__N__[0-9a-f]{8}_\d+_(\w+?)_cu_[0-9a-f]{8}", symbol)
    name = subprocess.run(["c++filt", "-p", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"\(anonymous namespace\)::|\w+::", "", name)
    return f"{file[1]}.cu {name}" if file else name


def table(binary: Binary) -> str:
    """A row a kernel: bytes of shared and of local memory, the most of any architecture; registers on each."""
    heads = {arch: f"  sm_{arch}" for arch in sorted(binary.machine_code)}
    width = max(map(len, binary.kernels), default=0)
    lines = [f"{'kernel':<{width}}  shared  local{''.join(heads.values())}"]
    for name, uses in sorted(binary.kernels.items()):
        shared, local = max(use.shared for use in uses.values()), max(use.local for use in uses.values())
        registers = "".join(f"{uses[arch].registers:>{len(head)}}" for arch, head in heads.items())
        lines.append(f"{name:<{width}}{shared:>8}{local:>7}{registers}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where a kernel uses local memory, or there is none at all."""
    binary = read(Path(sys.argv[1]))
    print("Static shared memory a block and local memory (stack frame, spills) a thread, in bytes; registers a thread:")
    print(table(binary))
    print(f"PTX for {', '.join(map(str, sorted(binary.ptx))) or 'nothing'}")
    spilling = sorted(name for name, uses in binary.kernels.items() if any(use.local for use in uses.values()))
    if spilling:
        print(f"local memory is used by {', '.join(spilling)}", file=sys.stderr)
    return 1 if spilling or not binary.kernels else 0


if __name__ == "__main__":
    sys.exit(main())
