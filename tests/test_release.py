"""`make release-check` finds every fault that it looks for."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from tools import release as tool
from tools import wheels
from tools.release import NotOk, Release

METADATA = (
    "Metadata-Version: 2.1\nName: yolact\nVersion: 1.2.3\nSummary: s\nDescription-Content-Type: text/markdown\n\nText\n"
)
SETUP = "from setuptools import setup\nsetup(name='yolact', version='1.2.3')\n"
RUNS_ANYWHERE = 'extern "C" int works() { return 1; }'
STREAM = "aoti_torch_get_current_cuda_stream"


def compiled(source: str, folder: Path) -> bytes:
    """A loadable module of that source."""
    (folder / "module.cpp").write_text(source)
    command = ["c++", "-shared", "-fPIC", "-nostdlib", "module.cpp", "-lc", "-o", "module.so"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "module.so").read_bytes()


def digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def write_wheel(path: Path, module: bytes, licence: str = "MIT\n", metadata: str = METADATA) -> None:
    """A wheel with nothing in it but the module and what every wheel has."""
    tag = path.stem.split("-", 2)[2]
    info = "yolact-1.2.3.dist-info"
    files = {
        "yolact/__init__.py": b'__version__ = "1.2.3"\n',
        "yolact/_C.so": module,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
        f"{info}/licenses/LICENSE": licence.encode(),
    }
    digests = {
        name: urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=") for name, data in files.items()
    }
    record = "".join(f"{name},sha256={digests[name]},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_sdist(
    path: Path, setup: str = "from setuptools import setup\nsetup(name='yolact', version='1.2.3')\n"
) -> None:
    """An sdist with the package, its metadata and that setup.py."""
    files = {"setup.py": setup, "PKG-INFO": METADATA, "yolact/__init__.py": '__version__ = "1.2.3"\n'}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"yolact-1.2.3/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def git(release: Release, *command: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *command], cwd=release.root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Objects by what they need."""
    folder = tmp_path_factory.mktemp("modules")
    newer = 'extern "C" { void* dlopen(const char*, int); void* works() { return dlopen("", 0); } }'
    cuda = 'extern "C" { int cudaMalloc(); int works() { return cudaMalloc(); } }'
    strong = f'extern "C" {{ int {STREAM}(); int works() {{ return {STREAM}(); }} }}'
    sources = {"nothing": RUNS_ANYWHERE, "a newer glibc": newer, "cudart": cuda, "torch's CUDA part": strong}
    return {need: compiled(source, folder) for need, source in sources.items()}


@pytest.fixture
def release(tmp_path: Path, modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Release:
    """A small release that has nothing against it."""
    for name, text in {
        "yolact/__init__.py": '__version__ = "1.2.3"\n',
        "pyproject.toml": '"Programming Language :: Python :: 3.11",\n"Programming Language :: Python :: 3.12",\n',
        "CHANGELOG.md": "# Changes\n\n## 1.2.3 (2026-01-31)\n\n## 1.2.2 (2025-12-31)\n",
        "LICENSE": "MIT\n",
        "README.md": (ROOT / "README.md").read_text(),
        ".gitignore": "/dist/\n",
        "benchmarks/results/2026-01-30-gpu.json": '{"parts": {"memcheck": {"ok": true}}}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    made = Release(tmp_path)
    made.dist.mkdir()
    write_sdist(made.sdist)
    for wheel in made.wheels:
        write_wheel(wheel, modules["nothing"])
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-qm", "1.2.3")
    kernels = tool.kernel_table.Binary(machine_code=set(tool.ARCHITECTURES), ptx={90, 120})
    monkeypatch.setattr(tool.kernel_table, "read", lambda path: kernels)
    return made


def test_a_sound_release_passes(release, capsys):
    assert tool.main(release) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(tool.CHECKS)
    assert all(line.startswith("    ok  ") for line in lines)


def append(name: str, text: str) -> Callable[[Release, dict[str, bytes]], None]:
    return lambda release, modules: (release.root / name).write_text((release.root / name).read_text() + text)


def replace(name: str, old: str, new: str) -> Callable[[Release, dict[str, bytes]], None]:
    def change(release: Release, modules: dict[str, bytes]) -> None:
        text = (release.root / name).read_text()
        assert old in text
        (release.root / name).write_text(text.replace(old, new))

    return change


def track(name: str) -> Callable[[Release, dict[str, bytes]], None]:
    def change(release: Release, modules: dict[str, bytes]) -> None:
        (release.root / name).touch()
        git(release, "add", name)

    return change


def wheels_needing(need: str, count: int = 2) -> Callable[[Release, dict[str, bytes]], None]:
    return lambda release, modules: [write_wheel(wheel, modules[need]) for wheel in release.wheels[:count]]


def last_wheel(**changed: str) -> Callable[[Release, dict[str, bytes]], None]:
    return lambda release, modules: write_wheel(release.wheels[-1], modules["nothing"], **changed)


FAULTS = {
    "clean tree": [
        (append("LICENSE", "And more.\n"), "not committed: LICENSE"),
        (lambda release, modules: (release.root / "notes.txt").touch(), "not committed: notes.txt"),
    ],
    "new version": [(lambda release, modules: git(release, "tag", "v1.2.3"), "v1.2.3 is tagged already")],
    "change log": [
        (replace("CHANGELOG.md", "2026-01-31", "unreleased"), r"begins with '1.2.3 \(unreleased\)'"),
        (replace("yolact/__init__.py", "1.2.3", "1.2.4"), r"in place of '1.2.4 \(<date>\)'"),
    ],
    "dist": [
        (
            lambda release, modules: release.wheels[1].unlink(),
            "^missing: yolact-1.2.3-cp312-cp312-manylinux_2_28_x86_64.whl$",
        ),
        (
            lambda release, modules: release.sdist.rename(release.dist / "yolact-1.2.2.tar.gz"),
            "^missing: yolact-1.2.3.tar.gz; not of this version: yolact-1.2.2.tar.gz$",
        ),
        (
            lambda release, modules: release.wheels[0].rename(
                release.dist / "yolact-1.2.3-cp311-cp311-linux_x86_64.whl"
            ),
            "not of this version: yolact-1.2.3-cp311-cp311-linux_x86_64.whl",
        ),
    ],
    "contents": [
        (append("yolact/__init__.py", "late = True\n"), "yolact-1.2.3.tar.gz holds another yolact/__init__.py"),
        (track("yolact/late.py"), "yolact-1.2.3.tar.gz holds no yolact/late.py: build it again"),
    ],
    "old systems": [
        (wheels_needing("a newer glibc"), "failed: .*too-recent versioned symbols"),
        (lambda release, modules: shutil.rmtree(release.dist), "there is no wheel"),
    ],
    "operators": [
        (wheels_needing("cudart"), "no CPU build of torch has cudaMalloc"),
        (wheels_needing("torch's CUDA part"), f"no CPU build of torch has {STREAM}"),
        (wheels_needing("a newer glibc", 1), "not of one build: yolact-1.2.3-cp311.* and yolact-1.2.3-cp312"),
    ],
    "licence": [
        (last_wheel(licence="GPL\n"), "cp312.* lacks it"),
        (append("LICENSE", "And more.\n"), "cp312.* lacks it|cp311.* lacks it"),
    ],
    "metadata": [(last_wheel(metadata=METADATA.replace("\n\nText\n", "\n")), "twine check --strict .* failed")],
    "README": [
        (replace("README.md", "<!-- benchmarks: begin -->\n", "<!-- benchmarks: begin -->\n999 times "), "its tables")
    ],
    "run on a GPU": [
        (replace("benchmarks/results/2026-01-30-gpu.json", "true", "false"), "2026-01-30-gpu.json: memcheck failed"),
    ],
    "sdist builds": [
        (lambda release, modules: write_sdist(release.sdist, "raise SystemExit('no csrc')\n"), "pip wheel .* failed"),
    ],
}


def test_every_check_has_its_faults():
    assert FAULTS.keys() == tool.CHECKS.keys()


@pytest.mark.parametrize(
    ("name", "break_it", "told"),
    [pytest.param(name, *fault, id=f"{name} {i}") for name, faults in FAULTS.items() for i, fault in enumerate(faults)],
)
def test_a_fault_is_found(release, modules, name, break_it, told):
    break_it(release, modules)
    with pytest.raises(NotOk, match=told):
        tool.CHECKS[name](release)


def test_kernels_for_too_few_architectures_are_found(release, monkeypatch):
    binary = tool.kernel_table.Binary(machine_code={75, 90}, ptx={90})
    monkeypatch.setattr(tool.kernel_table, "read", lambda path: binary)
    with pytest.raises(NotOk, match=r"the kernels are for sm \[75, 90\], not \[75, 80"):
        tool.same_operators(release)


def test_files_that_cannot_be_read_are_told(release, capsys):
    release.sdist.unlink()
    release.wheels[0].write_bytes(b"PK")
    assert tool.main(release) == 1
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "yolact-1.2.3.tar.gz" in told["not ok  contents"]
    assert told["not ok  licence"] == "File is not a zip file"
    assert "    ok  clean tree" in told


def test_want_of_a_gpu_is_told_and_the_status_tells_of_faults(release, capsys, monkeypatch):
    (release.root / "benchmarks/results/2026-01-30-gpu.json").unlink()
    monkeypatch.setattr(tool, "CHECKS", {name: tool.CHECKS[name] for name in ("clean tree", "run on a GPU")})
    assert tool.main(release) == 1
    tree, gpu = capsys.readouterr().out.splitlines()
    assert tree == "not ok  clean tree: not committed: benchmarks/results/2026-01-30-gpu.json"
    assert gpu == "    ok  run on a GPU: none: no GPU has run this version, and its notes have to say so"


def test_every_version_is_the_one(tmp_path):
    version = Release(wheels.ROOT).version
    cmake = subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path], capture_output=True, text=True, check=True)
    assert cmake.returncode == 0
    cache = (tmp_path / "CMakeCache.txt").read_text()
    assert f"CMAKE_PROJECT_VERSION:STATIC={version}\n" in cache
