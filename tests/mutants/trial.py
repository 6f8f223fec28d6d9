"""One mutant: break the file, compile it, link it with the unchanged rest, run the tests that use it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from .candidates import Candidate

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutants"

# An atomic made plain: other threads may run between its read and its write.
TORN = """
template <class P, class Change>
simt::pointee<P> torn(P address, Change change) {
  const simt::pointee<P> old = *address;
  simt::before_atomic();
  *address = change(old);
  return old;
}
"""
for name, change in {
    "Add": "old + value",
    "Max": "std::max(old, value)",
    "Min": "std::min(old, value)",
    "Or": "old | value",
    "And": "old & value",
    "Xor": "old ^ value",
    "Exch": "value",
}.items():
    TORN += f"""
template <class P>
simt::pointee<P> torn_atomic{name}(P address, simt::pointee<P> value) {{
  return torn(address, [=]([[maybe_unused]] simt::pointee<P> old) {{ return {change}; }});
}}
"""
TORN += """
template <class P>
simt::pointee<P> torn_atomicCAS(P address, simt::pointee<P> expected, simt::pointee<P> value) {
  return torn(address, [=](simt::pointee<P> old) { return old == expected ? value : old; });
}
"""


@cache
def included(path: Path) -> frozenset[Path]:
    """The file and all that it includes of this tree."""
    files = {path}
    for name in re.findall(r'^\s*#\s*include "([^"]+)"', path.read_text(), re.MULTILINE):
        found = Path(os.path.normpath(path.parent / name))
        if found.exists() and found not in files:
            files |= included(found)
    return frozenset(files)


@cache
def operator_of(test: Path) -> Path | None:
    """test_cuda_<op>.cpp, and test_cuda_<op>_<more>.cpp, are tests of <op>.cu."""
    name = test.stem.removeprefix("test_cuda_")
    named = [path for path in ROOT.glob("csrc/cuda/*.cu") if f"{name}_".startswith(f"{path.stem}_")]
    return max(named, key=lambda path: len(path.stem), default=None)


def units_of(test: Path, file: Path) -> list[Path]:
    """What a test is made of and the file is part of."""
    return [unit for unit in (test, operator_of(test)) if unit is not None and file in included(unit)]


@cache
def tests_of(file: Path) -> list[Path]:
    tests = [test for test in sorted(ROOT.glob("tests/csrc/test_cuda_*.cpp")) if units_of(test, file)]
    # The file's own first, then those that include it and little else.
    return sorted(tests, key=lambda test: (file.stem not in test.stem, len(included(test))))


@cache
def digest_of(file: Path) -> str:
    """Of the file, its tests and what these include of csrc/cuda and tests/csrc."""
    files = {file}.union(*(included(unit) for test in tests_of(file) for unit in (test, *units_of(test, file))))
    own = sorted(one for one in files if one.parent in (ROOT / "csrc" / "cuda", ROOT / "tests" / "csrc"))
    return hashlib.sha256(b"\0".join(one.read_bytes() for one in own)).hexdigest()[:8]


class Build:
    """Everything unbroken, compiled one way, and the commands that made it."""

    def __init__(self, name: str, options: list[str], jobs: int) -> None:
        self.folder = BUILD / name
        cmake = [sys.executable, "-m", "cmake"]
        options = [*options, "-DYOLACT_TESTS=ON", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
        run_checked([*cmake, "-S", str(ROOT), "-B", str(self.folder), *options])
        targets = [test.stem for test in ROOT.glob("tests/csrc/test_cuda_*.cpp")]
        run_checked([*cmake, "--build", str(self.folder), "--parallel", str(jobs), "--target", *targets])
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        self.commands = {Path(one["file"]): shlex.split(one["command"]) for one in commands}
        self.seconds: dict[Path, float] = {}
        self.lock = threading.Lock()

    def object_of(self, unit: Path) -> Path:
        command = self.commands[unit]
        return self.folder / command[command.index("-o") + 1]

    def compile(self, unit: Path, work: Path, output: Path) -> bool:
        """The unit as it stands in the tree `work`."""
        command = [part for part in self.commands[unit] if part not in ("-MD", "-Werror")]
        for option in ("-MT", "-MF"):
            if option in command:
                at = command.index(option)
                del command[at : at + 2]
        command[command.index("-o") + 1] = str(output)
        command[command.index(str(unit))] = str(work / unit.relative_to(ROOT))
        return subprocess.run([*command, "-w"], capture_output=True, cwd=self.folder).returncode == 0

    def link(self, test: Path, objects: list[Path], output: Path) -> None:
        flags = [part for part in self.commands[test] if part.startswith("-fsanitize")]
        libraries = [str(self.folder / f"libyolact_{name}.a") for name in ("simt", "cpu")]
        run_checked([self.commands[test][0], *flags, *map(str, objects), *libraries, "-o", str(output)])

    def clean_seconds(self, test: Path) -> float:
        """Of the processor: others may use the machine."""
        with self.lock:
            if test not in self.seconds:
                process = subprocess.Popen([str(self.folder / test.stem)], stdout=subprocess.DEVNULL)
                _, process.returncode, usage = os.wait4(process.pid, 0)
                if process.returncode != 0:
                    sys.exit(f"{test.name} fails unbroken")
                self.seconds[test] = usage.ru_utime + usage.ru_stime
            return self.seconds[test]


def run_checked(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}")


FAULTS = {
    "race": "with no barrier between",
    "stuck": "waits at",
    "uninitialised": "which no thread has written",
    "bounds": "but it has",
    "sanitizer": "Sanitizer",
    "sanitizer ": "runtime error",
    "simt": "simt::Error",
    "wrong result": "failed:",
}


def outcome(executable: Path, seconds: float) -> str:
    """What gave the mutant away, or nothing."""
    limit = 10 * seconds + 2

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))

    process = subprocess.Popen(
        [str(executable)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=limits,
    )
    timer = threading.Timer(20 * limit, process.kill)  # for one that sleeps
    timer.start()
    told = []
    assert process.stderr is not None
    for line in process.stderr:
        told.append(line)
        if "failed:" in line or len(told) > 50:  # one is enough
            process.kill()
            break
    process.wait()
    timer.cancel()
    for fault, words in FAULTS.items():
        if any(words in line for line in told):
            return fault.strip()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hang"
    return "crash" if process.returncode != 0 else ""


def mutate(candidate: Candidate, work: Path) -> None:
    source = (ROOT / candidate.file).read_text()
    source = source[: candidate.begin] + candidate.new + source[candidate.end :]
    if candidate.kind == "atomic":
        at = [match.end() for match in re.finditer(r"^#include.*$", source, re.MULTILINE)][-1]
        source = source[:at] + "\n" + TORN + source[at:]
    (work / candidate.file).write_text(source)


def judge(candidate: Candidate, build: Build, work: Path) -> tuple[str, str]:
    """The verdict of one build's tests, and what gave the mutant away."""
    file = ROOT / candidate.file
    mutate(candidate, work)
    try:
        compiled: dict[Path, Path] = {}
        for test in tests_of(file):
            for unit in units_of(test, file):
                output = work / f"{unit.name}.o"
                if unit not in compiled and not build.compile(unit, work, output):
                    return "invalid", "does not compile"
                compiled[unit] = output
            parts = [compiled.get(test, build.object_of(test))]
            operator = operator_of(test)
            if operator is not None and operator in compiled:
                parts.append(compiled[operator])
            build.link(test, parts, work / test.stem)
            if how := outcome(work / test.stem, build.clean_seconds(test)):
                return "caught", how
        return "passed", build.folder.name
    finally:
        shutil.copyfile(file, work / candidate.file)
