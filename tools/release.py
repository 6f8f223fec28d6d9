"""Says whether what is in dist/ may be released: a line a check, exit status 1 where one is not ok. See RELEASING.md.

python -m tools.release
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import readme
from tools import kernel_table, wheels

ARCHITECTURES = {75, 80, 86, 87, 89, 90, 100, 120}


class NotOk(Exception):
    """What stands against a release."""


@dataclass(frozen=True)
class Release:
    """A tree, and what was built of it."""

    root: Path = wheels.ROOT

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def version(self) -> str:
        """As the one place has it that everything else takes it from."""
        return re.findall(r'^__version__ = "(.+)"$', (self.root / "yolact/__init__.py").read_text(), re.M)[0]

    @property
    def sdist(self) -> Path:
        return self.dist / f"yolact-{self.version}.tar.gz"

    @property
    def wheels(self) -> list[Path]:
        """One for every Python that pyproject.toml names, whether it is there or not."""
        named = re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', (self.root / "pyproject.toml").read_text())
        tags = [f"cp3{minor}-cp3{minor}-{wheels.POLICY}" for minor in named]
        return [self.dist / f"yolact-{self.version}-{tag}.whl" for tag in tags]

    @property
    def built(self) -> list[Path]:
        """Those that are there; without any, there is nothing to look at."""
        if not (found := [wheel for wheel in self.wheels if wheel.exists()]):
            raise NotOk("there is no wheel")
        return found


def told_by(*command: str | Path, cwd: Path = wheels.ROOT, **environment: str) -> str:
    """What a command prints; where it fails, its last line stands against the release."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **wheels.SEARCH, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["without a word"]
        raise NotOk(f"{' '.join(map(str, command))} failed: {said[-1]}")
    return done.stdout


def clean_tree(release: Release) -> str:
    changed = told_by("git", "status", "--porcelain", cwd=release.root).splitlines()
    if changed:
        raise NotOk(f"not committed: {', '.join(line[3:] for line in changed)}")
    return told_by("git", "rev-parse", "--short", "HEAD", cwd=release.root).strip()


def new_version(release: Release) -> str:
    tag = f"v{release.version}"
    if told_by("git", "tag", "--list", tag, cwd=release.root):
        raise NotOk(f"{tag} is tagged already")
    return f"{tag} is not tagged yet"


def dated_changes(release: Release) -> str:
    heading = re.findall(r"^## (.*)$", (release.root / "CHANGELOG.md").read_text(), re.M)[0]
    if not re.fullmatch(rf"{re.escape(release.version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        raise NotOk(f"CHANGELOG.md begins with {heading!r} in place of '{release.version} (<date>)'")
    return heading


def complete_dist(release: Release) -> str:
    wanted = {path.name for path in [release.sdist, *release.wheels]}
    found = {path.name for path in release.dist.glob("*")}
    if found != wanted:
        faults = {"missing": wanted - found, "not of this version": found - wanted}
        raise NotOk("; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in faults.items() if names))
    return f"the sdist and {len(release.wheels)} wheels"


def of_this_tree(release: Release) -> str:
    """Of the sdist all that git tracks too, of wheels the package: what is compiled in them comes from the sdist."""
    tracked = told_by("git", "ls-files", cwd=release.root).splitlines()
    for path in [release.sdist, *release.built]:
        held = contents(path)
        for name in tracked:
            missing = name.startswith("yolact/") and name not in held
            if missing or (name in held and held[name] != (release.root / name).read_bytes()):
                raise NotOk(f"{path.name} holds {'no' if missing else 'another'} {name}: build it again")
    return "as committed"


def contents(path: Path) -> dict[str, bytes]:
    """The files of a wheel or an sdist, by their names in the tree."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(path) as sdist:
        files = [(member.name, sdist.extractfile(member)) for member in sdist if member.isfile()]
        return {name.partition("/")[2]: file.read() for name, file in files if file}


def buildable_sdist(release: Release) -> str:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
        told_by(*pip, release.sdist, YOLACT_CUDA="0")
        (wheel,) = Path(folder).glob("*.whl")
        return f"gives {wheel.name}"


def fit_for_old_systems(release: Release) -> str:
    with tempfile.TemporaryDirectory() as folder:
        for wheel in release.built:
            told_by(*wheels.REPAIR, "--wheel-dir", folder, wheel)
    return f"auditwheel finds {wheels.POLICY} in {len(release.built)} wheels"


def same_operators(release: Release) -> str:
    """One binary serves every Python, so it is looked at once: its symbols and its kernels."""
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for wheel in release.built:
            path = Path(folder) / "_C.so"
            path.write_bytes(contents(wheel)["yolact/_C.so"])
            digests[hashlib.sha256(path.read_bytes()).hexdigest()] = wheel.name
        if len(digests) > 1:
            raise NotOk(f"not of one build: {' and '.join(sorted(digests.values()))}")
        symbols = [line.split() for line in told_by("nm", "-D", "--undefined-only", path).splitlines()]
        cuda = {(kind, name) for kind, name in symbols if name.startswith("cu") or "_cuda" in name}
        cuda -= {("U", "aoti_torch_device_type_cuda"), ("w", "aoti_torch_get_current_cuda_stream")}
        if cuda:
            raise NotOk(f"no CPU build of torch has {' '.join(sorted(name for _, name in cuda))}")
        binary = kernel_table.read(path)
        if binary.machine_code != ARCHITECTURES:
            raise NotOk(f"the kernels are for sm {sorted(binary.machine_code)}, not {sorted(ARCHITECTURES)}")
    return f"{len(binary.kernels)} kernels for sm {sorted(binary.machine_code)}, PTX for {sorted(binary.ptx)}"


def licence_in_wheels(release: Release) -> str:
    text = (release.root / "LICENSE").read_bytes()
    for wheel in release.built:
        if contents(wheel).get(f"yolact-{release.version}.dist-info/licenses/LICENSE") != text:
            raise NotOk(f"{wheel.name} lacks it")
    return text.decode().splitlines()[0]


def sound_metadata(release: Release) -> str:
    told_by(sys.executable, "-m", "twine", "check", "--strict", release.sdist, *release.built)
    return "twine finds no fault"


def fresh_readme(release: Release) -> str:
    text = (release.root / "README.md").read_text()
    cpu = readme.newest("kernels")
    if cpu is None or readme.insert(text, readme.section(cpu, readme.newest("gpu"))) != text:
        raise NotOk("its tables are not those of benchmarks/results: python -m benchmarks.readme")
    return "its tables are those of benchmarks/results"


def run_on_gpu(release: Release) -> str:
    results = sorted((release.root / "benchmarks/results").glob("*-gpu.json"))
    if not results:
        return "none: no GPU has run this version, and its notes have to say so"
    parts = json.loads(results[-1].read_text())["parts"]
    if failed := [name for name, part in parts.items() if not part["ok"]]:
        raise NotOk(f"{results[-1].name}: {', '.join(failed)} failed")
    return f"{results[-1].name}: {len(parts)} parts went well"


CHECKS: dict[str, Callable[[Release], str]] = {
    "clean tree": clean_tree,
    "new version": new_version,
    "change log": dated_changes,
    "dist": complete_dist,
    "contents": of_this_tree,
    "old systems": fit_for_old_systems,
    "operators": same_operators,
    "licence": licence_in_wheels,
    "metadata": sound_metadata,
    "README": fresh_readme,
    "run on a GPU": run_on_gpu,
    "sdist builds": buildable_sdist,
}


def main(release: Release) -> int:
    """Print what each check finds; 1 where something stands against a release."""
    state = 0
    for name, check in CHECKS.items():
        try:
            print(f"    ok  {name}: {check(release)}", flush=True)
        except Exception as fault:  # whatever it is that a check stumbles over
            print(f"not ok  {name}: {fault}", flush=True)
            state = 1
    return state


if __name__ == "__main__":
    sys.exit(main(Release()))
