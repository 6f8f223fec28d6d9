"""How much faster are other people's libraries with ours in? `python -m benchmarks.integrations [LIBRARY ...]`

Wants the environment of `make test-integrations`. Each job calls the installed library as it is and accelerated, in
turn and in one run, after their results were compared; a library that is not here is left out. `--record` writes the
results to `benchmarks/results` and their tables into the pages of `docs/integrations`.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.integration_jobs import LIBRARIES, ROOT, Job
from yolact import mask
from yolact.bench.machine import machine
from yolact.bench.timing import compare
from yolact.errors import UserError

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
MOST_DIFFERENT = 1e-5  # share of pixels: those within rounding of their threshold


def check(job: Job) -> None:
    """Refuse to time what does not agree."""
    found, expected = job.ours(), job.theirs()
    if not isinstance(expected, torch.Tensor):
        found, expected = (torch.from_numpy(mask.decode(rles)) for rles in (found, expected))
    if found.shape != expected.shape or not expected.any():
        raise SystemExit(f"{job.name}: {list(found.shape)} and {list(expected.shape)}, or nothing at all")
    if (share := float((found != expected).float().mean())) > MOST_DIFFERENT:
        raise SystemExit(f"{job.name}: {share:.1e} of the pixels differ")


def measure(library: str, seconds: float) -> dict[str, Any]:
    """Time a library's jobs with one thread and with two."""
    rows = []
    with torch.inference_mode():
        for job in LIBRARIES[library]():
            check(job)
            row: dict[str, Any] = {"name": job.name}
            for threads in (1, 2):
                timings = compare({"ours": job.ours, "theirs": job.theirs}, seconds=seconds, threads=threads)
                row[str(threads)] = {name: asdict(timing) for name, timing in timings.items()}
            rows.append(row)
            print(line(row), flush=True)
    known = {"original": "commit 902073d"}.get(library)
    return {"machine": machine(), "version": known or version(library), "jobs": rows}


def line(row: dict[str, Any]) -> str:
    """One row of a page's table: milliseconds of theirs and ours, and the ratio, with one thread and with two."""
    cells = []
    for threads in ("1", "2"):
        theirs, ours = (row[threads][name]["median"] for name in ("theirs", "ours"))
        cells.append(f"{short(theirs)} → {short(ours)}, {theirs / ours:.1f}×")
    return f"| {row['name']} | {' | '.join(cells)} |"


def short(milliseconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def table(results: dict[str, Any]) -> str:
    """What a page says of one library's results."""
    told = results["machine"]
    head = f"{told['date'][:10]}, {told['cpu']}, torch {told['versions']['torch']}, version {results['version']}"
    rows = "\n".join(line(row) for row in results["jobs"])
    return f"{head}:\n\n| ms, theirs → ours | 1 thread | 2 threads |\n|---|---|---|\n{rows}\n"


def page(library: str) -> Path:
    return ROOT / "docs/integrations" / f"{library}.md"


def insert(text: str, results: dict[str, Any]) -> str:
    """The page with the table in its place."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: BEGIN + table(results) + END, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"by default all: {', '.join(LIBRARIES)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each job and number of threads")
    parser.add_argument("--record", action="store_true", help="write the results, and the tables of the pages")
    arguments = parser.parse_args()
    if unknown := set(arguments.libraries) - set(LIBRARIES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for library in arguments.libraries or LIBRARIES:
        try:
            results = measure(library, arguments.seconds)
        except (ModuleNotFoundError, UserError) as error:
            print(f"{library} is left out: {error}")
            continue
        if arguments.record:
            file = ROOT / "benchmarks/results" / f"{results['machine']['date'][:10]}-{library}.json"
            file.write_text(json.dumps(results, indent=1) + "\n")
            page(library).write_text(insert(page(library).read_text(), results))


if __name__ == "__main__":
    main()
