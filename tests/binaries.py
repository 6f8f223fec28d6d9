"""What compiled objects need of others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from conftest import ROOT, skip_or_fail

OPERATORS = ROOT / "yolact/_C.so"
WHEEL = ROOT / "build/wheel"  # as `make wheel` installs it
CUDA_BUILD = WHEEL / "yolact/_C.so"


def told_by(tool: str, *arguments: str | Path) -> str:
    if shutil.which(tool) is None:
        skip_or_fail("binutils", f"{tool} is not here")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def undefined_symbols(path: Path) -> dict[str, str]:
    """Each symbol that the object wants from others, and its kind: U, or w where it can do without."""
    lines = [line.split() for line in told_by("nm", "-D", "--undefined-only", path).splitlines()]
    return {symbol: kind for kind, symbol in lines}


def needs(path: Path) -> list[str]:
    """The libraries that it names."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", told_by("readelf", "-d", path))
