"""Writes the README's tables from a file of results: `python -m benchmarks.readme benchmarks/results/FILE.json`

So no figure in the README is typed by hand; a test holds it against the newest file.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
OURS = ("yolact, to dictionaries", "yolact, row-major", "yolact.mask", "yolact")  # the first that a job has
PEERS = (  # the columns: a heading, and the contender of that column
    ("eager torch", ("torch eager, then pycocotools", "torch eager, as the original", "torch eager")),
    ("pycocotools", ("pycocotools, asfortranarray", "pycocotools")),
    ("hotcoco", ("hotcoco, column-major", "hotcoco")),
    ("floor", ("a read of the logits", "a write of the masks", "a read of the masks")),
)


def newest() -> Path:
    """The latest file of results; their names begin with the date."""
    return max((ROOT / "benchmarks" / "results").glob("*-kernels.json"))


def table(results: dict[str, Any]) -> str:
    """The section: what it was measured on, and a line a job."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"Measured on {machine['date'][:10]} on {machine['cores']} cores of {machine['cpu']}, Python "
        f"{machine['python']}, {versions}: medians of alternating runs, results compared first. A column tells how "
        "many times as long the peer takes, with one thread / with two; *eager torch* is the original's formulation, "
        "with pycocotools after it where strings come out; *floor* is a plain read of the input or write "
        "of the output.",
        "",
        f"| CPU, batch of one unless told | ms, 1 / 2 threads | {' | '.join(heading for heading, _ in PEERS)} |",
        f"|---|---|{'---|' * len(PEERS)}",
    ]
    jobs: dict[str, dict[int, dict[str, float]]] = {}
    for row in results["milliseconds"]:
        jobs.setdefault(row["job"], {}).setdefault(row["threads"], {})[row["contender"]] = row["median"]
    for job, by_threads in jobs.items():
        if job.startswith("mask."):  # yolact.mask's functions one by one: in the file of results
            continue
        ours = next(name for name in OURS if name in by_threads[1])
        times = " / ".join(_short(taken[ours]) for taken in by_threads.values())
        cells = []
        for _, names in PEERS:
            peer = next((name for name in names if name in by_threads[1]), None)
            ratios = [taken[peer] / taken[ours] for taken in by_threads.values()] if peer else []
            cells.append(" / ".join(f"{_short(ratio)}×" for ratio in ratios))
        lines.append(f"| {job} | {times} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def insert(readme: str, section: str) -> str:
    """The README with `section` between its two marks."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{section}\n{END}", readme, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", help="the newest by default")
    results = json.loads((parser.parse_args().results or newest()).read_text())
    readme = ROOT / "README.md"
    readme.write_text(insert(readme.read_text(), table(results)))


if __name__ == "__main__":
    main()
