"""How does cost grow with size? `python -m benchmarks.scale [OPERATOR ...] [--json FILE]`

Every operator, predict, its results, run lengths and the evaluation, with one size growing at a time: detections,
classes, pictures, batch, channels. Times are medians on one thread; memory is what is needed at the peak beyond the
inputs, results included, but for Python's own small objects. `grows` is the power of the size that time grows with at
the end: 1 is in proportion, 2 is quadratic. It is marked where it is nearer to the next power than to that of the work.
"""

from __future__ import annotations

import argparse
import ctypes
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels import machine, write
from benchmarks.mask_loss import resident_at_most
from benchmarks.scale_jobs import SWEEPS, Run, Size, Sweep
from yolact.bench.timing import compare

SLACK = 0.5  # of a power: caches are left behind, and memory is touched for the first time
ENOUGH = 5.0  # milliseconds: below it, what grows is hidden by what does not
Row = dict[str, Any]


def number_of(value: int | Size) -> int:
    """A picture counts by its pixels."""
    return value if isinstance(value, int) else value[0] * value[1]


def text_of(value: int | Size) -> str:
    return str(value) if isinstance(value, int) else f"{value[0]} x {value[1]}"


def growth(before: Row, after: Row) -> float:
    """The power of the value that time grew with, by the runs least disturbed."""
    return math.log(after["fastest"] / before["fastest"]) / math.log(after["value"] / before["value"])


def peak(run: Run) -> int:
    """The bytes that a run needs at its peak beyond what is there; it must not be the first."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system, and counts when it is needed again
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew from what is resident now
    before = resident_at_most()
    run()
    return resident_at_most() - before


def measure(sweep: Sweep, seconds: float) -> Iterator[Row]:
    for value in sweep.values:
        runs = sweep.make(value)
        for name, timing in compare(runs, seconds=seconds, least=2, threads=1).items():
            yield {
                "operator": sweep.operator,
                "contender": name,
                "varied": sweep.varied,
                "value": number_of(value),
                "label": text_of(value),
                "milliseconds": timing.median,
                "fastest": timing.low,
                "bytes": peak(runs[name]),
            }


def growths(rows: list[Row]) -> dict[str, float]:
    """Of each contender in the rows of a sweep, the power at the end; none where that took next to no time."""
    found = {}
    for name in dict.fromkeys(row["contender"] for row in rows):
        last_two = [row for row in rows if row["contender"] == name][-2:]
        if len(last_two) == 2 and last_two[1]["fastest"] >= ENOUGH:
            found[name] = growth(*last_two)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(sweep.operator for sweep in SWEEPS))
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each value")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    if unknown := set(options.operators) - set(names):
        parser.error(f"no such operator: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for sweep in SWEEPS:
        if options.operators and sweep.operator not in options.operators:
            continue
        print(f"\n{sweep.operator}, by {sweep.varied}", flush=True)
        own = []
        for row in measure(sweep, options.seconds):
            own.append(row)
            told = f"{row['milliseconds']:>12.2f} ms{row['bytes'] / 1e6:>12.1f} MB"
            print(f"{row['label']:>14}  {row['contender']:<30}{told}", flush=True)
        for name, power in growths(own).items():
            mark = "  more than the work" if name == "yolact" and power > sweep.grows + SLACK else ""
            print(f"{'grows':>14}  {name:<30}{power:>12.2f}{mark}", flush=True)
        rows += own
    write({"machine": machine(), "threads": 1, "rows": rows}, options.json)


if __name__ == "__main__":
    main()
