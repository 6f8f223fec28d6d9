"""Counts the instructions of the CPU kernels on small fixed inputs, which say what times cannot on a busy machine.

callgrind runs each job and counts what the kernel executes. counts.tsv holds what was counted, and by what
build: counts of another compiler, C library or level of the kernels say nothing of these. The level is AVX2, which is
what valgrind's processor has at most.

    python -m tests.instructions             what differs from the record; exit status 1 where a count left the margin
    python -m tests.instructions --record    write the record anew
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "instructions"
RECORD = Path(__file__).with_name("counts.tsv")

# Of the recorded count, up and down. A count repeats to the instruction, so this is all for changes that do no harm;
# whoever makes a kernel faster than this records that, or the next could lose it unseen.
MARGIN = 0.02


class Count(NamedTuple):
    instructions: int
    build: str  # compiler, C library and level


def missing() -> str | None:
    """What the machine lacks, or None."""
    lacking = [name for name in ("valgrind", "c++") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} to count instructions with" if lacking else None


def build() -> Path:
    """Compile the kernels as they are shipped, with the jobs, and return the program."""
    cmake = [sys.executable, "-m", "cmake"]
    configure = ["-S", str(ROOT), "-B", str(BUILD), "-DYOLACT_TESTS=ON", "-DYOLACT_WERROR=OFF"]
    for command in (configure, ["--build", str(BUILD), "--target", "kernel_jobs", "--parallel"]):
        done = subprocess.run(cmake + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"the kernels do not compile:\n{done.stdout}")
    return BUILD / "kernel_jobs"


def jobs(program: Path) -> list[str]:
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


def count(program: Path, job: str) -> Count:
    """Run one job under callgrind; nothing of the caller's environment reaches it."""
    callgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=counted", "--callgrind-out-file=/dev/null"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LD_BIND_NOW": "1", "YOLACT_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([*callgrind, program, job], capture_output=True, text=True, env=environment)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or collected is None:
        raise RuntimeError(f"the job {job!r} failed under callgrind:\n{done.stderr}")
    return Count(int(collected[1]), done.stdout.strip())


def recorded() -> dict[str, Count]:
    rows = [line.split("\t") for line in RECORD.read_text().splitlines()[1:]]
    return {job: Count(int(instructions), build) for job, instructions, build in rows}


def record(counts: dict[str, Count]) -> None:
    rows = [("job", "instructions", "build"), *((job, *found) for job, found in counts.items())]
    RECORD.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def complaint(job: str, found: Count, expected: Count) -> str | None:
    """What is wrong with a count by the recorded build, or None."""
    change = found.instructions / expected.instructions - 1
    if abs(change) <= MARGIN:
        return None
    advice = "make it as fast again, or record it" if change > 0 else "record what was won"
    return (
        f"{job}: {found.instructions:,} instructions, {change:+.1%} of the recorded {expected.instructions:,}; the "
        f"margin is {MARGIN:.0%}: {advice} (python -m tests.instructions --record)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="write what is counted to counts.tsv")
    arguments = parser.parse_args()
    if lacking := missing():
        parser.error(lacking)
    program, before = build(), recorded() if RECORD.exists() else {}
    counts, complaints = {}, []
    for job in jobs(program):
        counts[job] = found = count(program, job)
        expected = before.get(job, found)
        print(f"{job:40}{found.instructions:>12,}{found.instructions / expected.instructions - 1:+8.2%}", flush=True)
        if expected.build != found.build:
            complaints.append(f"{job}: the record is of {expected.build}, this is {found.build}: no comparison")
        elif told := complaint(job, found, expected):
            complaints.append(told)
    if arguments.record:
        record(counts)
    elif complaints:
        print(*complaints, sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
