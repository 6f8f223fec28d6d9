"""Imports point one way, `import yolact` is light, and the kernels know nothing of torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "yolact"

# Who may import whom inside the package; `*` below stands for what any module may use.
ANYBODY = {"errors", "files", "signals", "structures", "config", "options", "classes"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "structures": set(),
    "classes": set(),
    "options": set(),
    "config": {"errors", "classes", "options"},
    "mask": set(),
    "pictures": {"errors", "files"},
    "ops": ANYBODY | {"mask"},
    "models": ANYBODY | {"ops"},
    "draw": ANYBODY,
    "instances": ANYBODY | {"ops", "mask", "draw", "pictures"},
    "devices": {"errors", "ops"},
    "distributed": {"errors"},
    "engine": ANYBODY | {"ops", "models", "instances", "pictures"},
    "predictor": ANYBODY | {"ops", "models", "engine", "instances"},
    "loading": ANYBODY | {"models", "predictor", "devices"},
    "pipeline": set(),
    "signals": set(),
    "video": {"errors", "files", "pictures"},
    "look": ANYBODY | {"ops", "instances", "draw"},
    "report": ANYBODY | {"instances", "mask", "draw", "pictures", "data", "evaluation"},
    "run": ANYBODY | {"instances", "predictor", "pictures", "video", "pipeline", "report"},
    "data": ANYBODY | {"mask", "pictures", "draw"},
    "evaluation": ANYBODY | {"ops", "data", "instances", "predictor", "pictures", "video", "mask", "distributed"},
    "train": ANYBODY
    | {"ops", "models", "data", "evaluation", "predictor", "mask", "pictures", "devices", "distributed"},
    "integrations": ANYBODY | {"ops", "models", "instances", "predictor", "mask"},
    "export": ANYBODY | {"ops", "models", "engine", "predictor", "pictures"},
    "doctor": {"errors", "devices"},
    "demo": ANYBODY | {"instances", "loading", "predictor", "pictures", "run"},
    "bench": ANYBODY
    | {"ops", "models", "engine", "export", "instances", "loading", "predictor", "pictures", "mask", "devices", "demo"},
}


def modules() -> list[tuple[str, str, set[str]]]:
    """(path, top-level unit, units it imports), function bodies included."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        unit = relative.parts[0].removesuffix(".py")
        imports: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{relative} imports relatively"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            imports |= {name.split(".")[1] for name in names if name.startswith("yolact.")}
        found.append((str(relative), unit, imports - {unit}))
    return found


@pytest.mark.parametrize(
    ("path", "unit", "imports"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_one_way(path, unit, imports):
    assert "cli" not in imports, "nothing imports the command line"
    if unit in ("__init__", "cli"):
        return
    imports = {name for name in imports if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}
    assert imports <= ALLOWED[unit], f"{path} may not import {sorted(imports - ALLOWED[unit])}"


@pytest.mark.parametrize("folder", ["common", "cpu", "cuda", "simt", "python"])
def test_kernels_include_no_torch_header(folder):
    for path in sorted((ROOT / "csrc" / folder).glob("*")):
        included = re.findall(r'#include\s+[<"](torch|ATen|c10)', path.read_text())
        assert not included, f"{path} includes a header of torch"


def test_kernels_are_launched_with_the_blocks_they_are_compiled_for():
    """A GPU refuses larger ones than __launch_bounds__ says, which csrc/simt does not know."""
    paths = [path for path in sorted((ROOT / "csrc" / "cuda").glob("*.cu*")) if path.name != "launch.cuh"]
    for path in paths:
        source = path.read_text()
        bounds = re.findall(r"__global__ void __launch_bounds__\((\w+)[^)]*\)\s+(\w+)\(", source)
        assert len(bounds) == source.count("__global__"), path
        launches = re.findall(r"LAUNCH\(\(?(\w+).*?,\s*(\w+),\s*[^,]+,\s*stream\b", source, re.S)
        assert len(launches) == source.count("LAUNCH("), path
        assert {(threads, kernel) for kernel, threads in launches} == set(bounds), path


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import yolact", "from yolact import mask", "import yolact.cli"])
def test_import_is_light(statement):
    assert not {"torch", "cv2", "click.testing"} & modules_after(statement)


def test_lazy_attributes_resolve():
    import yolact

    for name in yolact.__all__:
        assert getattr(yolact, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = yolact.nonsense


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= {"__init__.py", "__main__.py"}
