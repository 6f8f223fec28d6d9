"""Proves the tests of the CUDA kernels: breaks the kernels in many small ways and sees that the tests notice.

Each mutant is one change of candidates.py in one file of csrc/cuda. That file is compiled by the host compiler against
csrc/simt and linked with the unchanged rest, and the C++ tests that use it are run: a failure, a crash or a hang is a
catch. What passes is tried again under AddressSanitizer and UBSan, as `make test` runs these tests. A mutant that does
not compile counts for nothing.

mutants.tsv holds what was drawn and what came of it, equivalent.tsv the survivors that change no result, each with its
proof. A run goes on where the last one was stopped; what it finds is of the file and its tests as they are (`digest`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .candidates import KINDS, Candidate, candidates_of
from .trial import BUILD, ROOT, Build, digest_of, judge, tests_of

HERE = Path(__file__).resolve().parent
RESULTS, EQUIVALENT = HERE / "mutants.tsv", HERE / "equivalent.tsv"
KEY = ("file", "function", "kind", "change", "ordinal")
COLUMNS = ("verdict", "how", "file", "line", "function", "kind", "change", "ordinal", "digest")

SEED = 1
SHARE = 0.02  # of a function's candidates
AT_LEAST = 2  # of each function
ALWAYS = ("barrier", "atomic")  # few, and what this is about

MUTANTS, CAUGHT, EQUIVALENTS = 150, 0.90, 0.05  # at least, at least, at most

Row = dict[str, str]


def cuda_files() -> list[Path]:
    return sorted(path for path in ROOT.glob("csrc/cuda/*") if path.suffix in (".cu", ".cuh", ".h"))


def chance(candidate: Candidate) -> float:
    """Of being drawn, by what the candidate is: an edit elsewhere changes nothing."""
    digest = hashlib.sha256("\t".join((str(SEED), *candidate.key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def draw() -> list[Candidate]:
    drawn = []
    for path in cuda_files():
        functions: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates_of(path, ROOT):
            functions[candidate.function].append(candidate)
        for ranked in functions.values():
            ranked.sort(key=chance)
            for i, candidate in enumerate(ranked):
                if i < AT_LEAST or chance(candidate) < SHARE or candidate.kind in ALWAYS:
                    drawn.append(candidate)
    return sorted(drawn, key=lambda one: (one.file, one.begin, one.kind, one.new))


def key_of(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def read(path: Path) -> dict[tuple[str, ...], Row]:
    if not path.exists():
        return {}
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return {key_of(row): row for row in (dict(zip(lines[0], line, strict=True)) for line in lines[1:])}


def write(rows: list[Row]) -> None:
    partial = RESULTS.with_suffix(".partial")
    partial.write_text("".join("\t".join(line) + "\n" for line in [COLUMNS, *([r[c] for c in COLUMNS] for r in rows)]))
    partial.replace(RESULTS)


class Verdicts:
    """Those of the drawn mutants, beside the rows of files that this run leaves alone.

    One that was judged before its file or a test changed keeps its row, with the digest of then, until it is judged
    anew.
    """

    def __init__(self, drawn: list[Candidate], again: bool) -> None:
        known = read(RESULTS)
        files = {one.file for one in drawn}
        self.proofs = {key: row["proof"] for key, row in read(EQUIVALENT).items()}
        self.others = [row for row in known.values() if row["file"] not in files and (ROOT / row["file"]).exists()]
        self.gone = len(known) - len(self.others) - sum(one.key in known for one in drawn)
        self.found: dict[Candidate, tuple[str, str, str]] = {}  # verdict, how, digest
        self.stale: set[Candidate] = set()
        for one in drawn:
            if row := known.get(one.key):
                verdict = "survived" if row["verdict"] == "equivalent" else row["verdict"]
                self.found[one] = (verdict, row["how"], row["digest"])
                if row["digest"] != digest_of(ROOT / one.file) or (again and verdict != "caught"):
                    self.stale.add(one)
        # To judge: first what never was, some of every file, then what was not caught.
        self.drawn = sorted(drawn, key=chance)
        self.drawn.sort(key=lambda one: one in self.found and 1 + (self.found[one][0] == "caught"))

    def judged(self, one: Candidate, verdict: str, how: str) -> None:
        self.found[one] = (verdict, how, digest_of(ROOT / one.file))
        self.stale.discard(one)

    def left(self, passed: bool = False) -> list[Candidate]:
        """Those without a verdict of today, or with none but that they pass plain tests."""
        if passed:
            return [one for one, (verdict, *_) in self.found.items() if verdict == "passed"]
        return [one for one in self.drawn if one not in self.found or one in self.stale]

    def rows(self) -> list[Row]:
        rows = list(self.others)
        for one, (verdict, how, digest) in self.found.items():
            if verdict in ("passed", "survived") and one.key in self.proofs:
                verdict = "equivalent"
            values = (verdict, how, one.file, str(one.line), one.function, one.kind, one.change, str(one.ordinal))
            rows.append(dict(zip(COLUMNS, (*values, digest), strict=True)))
        return sorted(rows, key=lambda row: (row["file"], int(row["line"]), row["change"], row["ordinal"]))

    def disproved(self) -> list[Candidate]:
        return [one for one, (verdict, *_) in self.found.items() if verdict == "caught" and one.key in self.proofs]


def judge_all(verdicts: Verdicts, jobs: int) -> None:
    """All by a plain build; then, under the sanitizers, which take ten times as long, what passed there."""
    free = [BUILD / f"work{i}" for i in range(jobs)]
    for work in free:
        shutil.rmtree(work, ignore_errors=True)
        for folder in ("csrc", "tests/csrc"):
            shutil.copytree(ROOT / folder, work / folder)
    lock = threading.Lock()

    def judge_by(build: Build, left: list[Candidate], last: bool) -> None:
        begin, done = time.monotonic(), 0

        def judge_one(one: Candidate) -> None:
            nonlocal done
            with lock:
                work = free.pop()
            verdict, how = judge(one, build, work)
            if verdict == "passed" and last:
                verdict, how = "survived", ""
            with lock:
                free.append(work)
                verdicts.judged(one, verdict, how)
                write(verdicts.rows())
                done += 1
                minutes = (time.monotonic() - begin) / done * (len(left) - done) / 60
                place = f"{one.file}:{one.line}"
                print(f"{done}/{len(left)}, {minutes:.0f} min left\t{verdict} {how}\t{place}\t{one.change}", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(judge_one, left))

    if left := verdicts.left():
        judge_by(Build("plain", ["-DCMAKE_CXX_FLAGS_RELEASE=-O1"], jobs), left, last=False)
    if left := verdicts.left(passed=True):
        judge_by(Build("sanitized", ["-DYOLACT_SANITIZE=ON"], jobs), left, last=True)


def table(rows: list[Row], column: str, names: list[str]) -> str:
    lines = [f"{column:<40}{'caught':>8}{'survived':>10}{'equivalent':>12}{'invalid':>9}"]
    for name in names:
        counts = Counter(row["verdict"] for row in rows if row[column] == name)
        cells = f"{counts['caught']:>8}{counts['survived']:>10}{counts['equivalent']:>12}{counts['invalid']:>9}"
        lines.append(f"{name:<40}{cells}")
    return "\n".join(lines)


def failings(rows: list[Row]) -> list[str]:
    """What is short of the aims."""
    counts = Counter(row["verdict"] for row in rows)
    valid = counts.total() - counts["invalid"]
    found = []
    if valid < MUTANTS:
        found.append(f"{valid} mutants, of at least {MUTANTS}")
    if counts["caught"] < CAUGHT * valid:
        found.append(f"{counts['caught']} of {valid} caught, of at least {CAUGHT:.0%}")
    if counts["equivalent"] > EQUIVALENTS * valid:
        found.append(f"{counts['equivalent']} of {valid} called equivalent, of at most {EQUIVALENTS:.0%}")
    return found


def summary(rows: list[Row]) -> str:
    places = [{**row, "function": f"{Path(row['file']).name} {row['function']}"} for row in rows]
    counts = Counter(row["verdict"] for row in rows)
    valid = max(counts.total() - counts["invalid"], 1)
    how = Counter(row["how"] for row in rows if row["verdict"] == "caught")
    shares = ", ".join(f"{counts[name] / valid:.1%} {name}" for name in ("caught", "equivalent", "survived"))
    if counts["passed"]:
        shares += f", {counts['passed']} that plain tests pass still to go under the sanitizers"
    return "\n\n".join(
        [
            table(places, "function", sorted({row["function"] for row in places})),
            table(rows, "kind", [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]),
            "caught by " + ", ".join(f"{name} {count}" for name, count in how.most_common()),
            f"{counts.total() - counts['invalid']} mutants: {shares}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--check", action="store_true", help="only tell whether mutants.tsv is of what stands here")
    parser.add_argument("--again", action="store_true", help="judge anew what was not caught")
    parser.add_argument("files", nargs="*", help="only of these files of csrc/cuda")
    arguments = parser.parse_args()

    only = {Path(name).name for name in arguments.files}
    if unknown := only - {path.name for path in cuda_files()}:
        parser.error(f"not in csrc/cuda: {', '.join(sorted(unknown))}")
    drawn = [one for one in draw() if not only or Path(one.file).name in only]
    untested = sorted({one.file for one in drawn if not tests_of(ROOT / one.file)})
    if untested:
        sys.exit(f"no tests/csrc/test_cuda_*.cpp uses {', '.join(untested)}")
    verdicts = Verdicts(drawn, arguments.again)
    if arguments.check:
        left = len(verdicts.left()) + len(verdicts.left(passed=True))
        if left or verdicts.gone:
            sys.exit(f"mutants.tsv is stale: {left} to judge, {verdicts.gone} that are no more")
    else:
        judge_all(verdicts, arguments.jobs)
        write(verdicts.rows())
    rows = verdicts.rows()
    for row in rows:
        if row["verdict"] == "survived":
            print(f"survived: {row['file']}:{row['line']} in {row['function']}, {row['kind']}: {row['change']}")
    print(summary(rows))
    wrong = [f"equivalent.tsv: {one.change} was caught" for one in verdicts.disproved()] + failings(rows)
    if wrong:
        sys.exit("short of the aims: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
