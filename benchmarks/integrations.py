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

import numpy as np
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
    if job.exact:
        np.testing.assert_equal(found, expected)
        return
    if not isinstance(expected, torch.Tensor):
        found, expected = (torch.from_numpy(mask.decode(rles)) for rles in (found, expected))
    if found.shape != expected.shape or not expected.any():
        raise SystemExit(f"{job.name}: {list(found.shape)} and {list(expected.shape)}, or nothing at all")
    if (share := float((found != expected).float().mean())) > MOST_DIFFERENT:
        raise SystemExit(f"{job.name}: {share:.1e} of the pixels differ")


def measure(library: str, seconds: float) -> dict[str, Any]:
    """Time a library's jobs, with one thread and with two where torch runs them."""
    rows: dict[str, dict[str, Any]] = {}
    with torch.inference_mode():
        for job in LIBRARIES[library]():
            check(job)
            row = rows.setdefault(job.name, {"name": job.name})
            for threads in (1, 2) if job.column is None else (1,):
                timings = compare({"ours": job.ours, "theirs": job.theirs}, seconds=seconds, threads=threads)
                row[job.column or str(threads)] = {name: asdict(timing) for name, timing in timings.items()}
            print(line(row, columns_of([row])), flush=True)
    known = {"original": "commit 902073d"}.get(library)
    return {"machine": machine(), "version": known or version(library), "jobs": list(rows.values())}


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row if column != "name"))


def line(row: dict[str, Any], columns: list[str]) -> str:
    """One row of a page's table: in each column milliseconds of theirs and ours, and the ratio."""
    cells = []
    for column in columns:
        if column not in row:
            cells.append("")
            continue
        theirs, ours = (row[column][name]["median"] for name in ("theirs", "ours"))
        cells.append(f"{short(theirs)} → {short(ours)}, {theirs / ours:.1f}×")
    return f"| {row['name']} | {' | '.join(cells)} |"


def short(milliseconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def table(results: dict[str, Any]) -> str:
    """What a page says of one library's results."""
    told = results["machine"]
    head = f"{told['date'][:10]}, {told['cpu']}, torch {told['versions']['torch']}, version {results['version']}"
    columns = columns_of(results["jobs"])
    titles = " | ".join({"1": "1 thread", "2": "2 threads"}.get(column, column) for column in columns)
    rows = "\n".join(line(row, columns) for row in results["jobs"])
    return f"{head}:\n\n| ms, theirs → ours | {titles} |\n|---{'|---' * len(columns)}|\n{rows}\n"


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
