"""What the operators aim at on an H200, by CUDA events as replays of a graph, and whether results meet it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Aim:
    """At most so many microseconds of ours, or at least so many times as fast as a peer."""

    what: str
    jobs: str  # a regular expression of their names
    microseconds: float | None = None
    ratio: float | None = None
    peer: str | None = None  # of the ratio


SMALL, LARGE = "(550 x 550|480 x 640)", "1080 x 1920"
AIMS = (
    Aim("detect, batch 1", "detect 1 x ", 10),
    Aim("detect, batch 8", "detect 8 x ", 18),
    Aim("100 dense masks", f"assemble_masks 1 x 100 of {SMALL} .*boxes of 4 %", 11),
    Aim("100 dense masks, large", f"assemble_masks 1 x 100 of {LARGE} .*boxes of 4 %", 58),
    Aim("dense masks to strings", f"encode_run_lengths 100 ellipses of 4%, {SMALL}$", 10),
    Aim("dense masks to strings, large", f"encode_run_lengths 100 ellipses of 4%, {LARGE}$", 54),
    Aim("prototypes to strings", "prototypes_to_rles 1 x 100 of .*boxes of 4 %", 7),
    Aim("detect beside the original's", "detect 1 x .*float32", ratio=100, peer="torch eager, as the original"),
    Aim(
        "prototypes to strings beside the original's",
        "prototypes_to_rles 1 x 100 of .*float32, boxes of 4 %",
        ratio=1500,
        peer="torch eager, copied, pycocotools",
    ),
)
HOST_MICROSECONDS = 30.0  # of a call outside a graph


def is_aimed_at(job: str) -> bool:
    return any(re.match(aim.jobs, job) for aim in AIMS)


def verdicts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each aim and job that it is for, with what was measured; one without a job where none of them was."""
    medians: dict[str, dict[str, float]] = {}
    for row in results.get("milliseconds", []):
        if timing := row["graph"] or row["eager"]:
            medians.setdefault(row["job"], {})[row["contender"]] = timing["median"]
    rows = []
    for aim in AIMS:
        found = [
            _verdict(aim.what, job, 1e3 * taken["yolact"], at_most=aim.microseconds)
            if aim.microseconds is not None
            else _verdict(aim.what, job, taken[str(aim.peer)] / taken["yolact"], at_least=aim.ratio)
            for job, taken in medians.items()
            if re.match(aim.jobs, job) and {"yolact", aim.peer or "yolact"} <= taken.keys()
        ]
        rows += found or [_verdict(aim.what, None, None, at_most=aim.microseconds, at_least=aim.ratio)]
    times = results.get("host_milliseconds", {})
    host = [_verdict("host time", name, 1e3 * t["median"], at_most=HOST_MICROSECONDS) for name, t in times.items()]
    return rows + (host or [_verdict("host time", None, None, at_most=HOST_MICROSECONDS)])


def _verdict(
    what: str, job: str | None, measured: float | None, *, at_most: float | None = None, at_least: float | None = None
) -> dict[str, Any]:
    met = None
    if measured is not None:
        met = measured <= at_most if at_most is not None else measured >= (at_least or 0.0)
    return {"aim": what, "job": job, "measured": measured, "at_most": at_most, "at_least": at_least, "met": met}


def told(row: dict[str, Any]) -> str:
    """Microseconds where there is a most, and times as fast as the peer where there is a least."""
    verdict = {True: "met", False: "MISSED", None: "not measured"}[row["met"]]
    wanted, unit = (row["at_most"], "us") if row["at_most"] is not None else (row["at_least"], "x")
    limit = "at most" if unit == "us" else "at least"
    measured = "" if row["measured"] is None else f" {row['measured']:.1f}{unit}"
    return f"{verdict:<13}{row['aim']}, {limit} {wanted:g}{unit}:{measured} {row['job'] or ''}".rstrip()
