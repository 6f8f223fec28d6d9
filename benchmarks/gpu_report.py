"""Gathers what runs of `benchmarks/gpu.sh` left behind into one file of results and prints a table; fails where a part
did.

`python -m benchmarks.gpu_report RESULTS.json RUN...`: each run a folder of files, or the results that came of one. Of a
part and of a job that several have, the last counts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import gpu_aims

SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
SCENES = ("end_to_end", "mask_loss", "training")  # benchmarks that compare whole scenes, in files of their own
TIMED_OUT = (124, 137)  # how `timeout` says so
NOT_FOUND = 127


def results_of(run: Path) -> dict[str, Any]:
    """What one run found: of its folder, or of the file that was made of it."""
    if run.is_file():
        return json.loads(run.read_text())
    measured = run / "kernels.json"
    results = json.loads(measured.read_text()) if measured.exists() else {}
    for name in SCENES:
        if (run / f"{name}.json").exists():
            scenes = json.loads((run / f"{name}.json").read_text())
            results = {key: scenes[key] for key in ("machine", "gpu") if key in scenes} | results | {name: scenes}
    return results | {"parts": parts_of(run)}


def merged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One run's results of several on the same GPU.

    Raises:
        ValueError: they are of different GPUs.
    """
    names = {run["gpu"]["name"] for run in runs if "gpu" in run}
    if len(names) > 1:
        raise ValueError(f"runs must be of one GPU, got {', '.join(sorted(names))}")
    whole: dict[str, Any] = {}
    for run in runs:
        whole |= {name: run[name] for name in ("machine", "gpu", *SCENES) if name in run}
        for name in ("parts", "host_milliseconds"):
            whole[name] = whole.get(name, {}) | run.get(name, {})
        again = {row["job"] for row in run.get("milliseconds", [])}
        kept = [row for row in whole.get("milliseconds", []) if row["job"] not in again]
        whole["milliseconds"] = kept + run.get("milliseconds", [])
        whole["failed"] = whole.get("failed", []) + run.get("failed", [])
    measured = {row["job"] for row in whole["milliseconds"]}
    failed = {failure["job"]: failure for failure in whole["failed"] if failure["job"] not in measured}
    return whole | {"failed": list(failed.values()), "aims": gpu_aims.verdicts(whole)}


def parts_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Each part of the run: whether it went well, its exit status and seconds, and what is known of it beside."""
    parts = {}
    for line in (folder / "parts").read_text().splitlines():
        name, status, seconds = line.split("\t")
        part: dict[str, Any] = {"ok": status == "0", "status": int(status), "seconds": int(seconds)}
        if part["status"] in TIMED_OUT:
            part["message"] = "ran out of time"
        if (folder / f"{name}.xml").exists():
            part |= counts_of(folder / f"{name}.xml")
        if name in SANITIZERS:
            part |= verdict_of((folder / f"{name}.log").read_text(errors="replace"), part["status"])
        parts[name] = part
    return parts


def counts_of(junit: Path) -> dict[str, Any]:
    """Of a run of tests: how many passed, failed and were skipped, which failed and why some were skipped."""
    cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [skip for case in cases if (skip := case.find("skipped")) is not None]
    return {
        "passed": len(cases) - len(failed) - len(skips),
        "failed": len(failed),
        "skipped": len(skips),
        "failures": [f"{case.get('classname')}::{case.get('name')}" for case in failed],
        "reasons": sorted({skip.get("message", "") for skip in skips}),
    }


def verdict_of(log: str, status: int) -> dict[str, Any]:
    """What a sanitizer found. One that is not here, or that the machine does not support, is no failure of ours."""
    if status == NOT_FOUND or "No such file or directory" in log.partition("\n")[0]:
        return {"ok": True, "message": "not run: compute-sanitizer is not installed"}
    if "Device not supported" in log:
        return {"ok": True, "message": "not run: compute-sanitizer does not support this machine"}
    summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", log)
    tests = re.findall(r"\d+ (?:passed|failed|skipped).*", log)
    return {"message": "; ".join([*summary[-1:], *tests[-1:]]) or "no verdict"}


def lines_of(results: dict[str, Any]) -> list[str]:
    """A line a part and a line a job: ours, and the fastest of its peers."""
    lines = []
    for name, part in results["parts"].items():
        told = [f"{part[key]} {key}" for key in ("passed", "failed", "skipped") if key in part]
        told += [part["message"]] if "message" in part else []
        lines.append(f"{'ok' if part['ok'] else 'FAILED':<7}{name:<12}{part['seconds']:4d} s  {', '.join(told)}")
        lines += [f"       {failure}" for failure in part.get("failures", [])[:10]]
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in results.get("milliseconds", []):
        jobs.setdefault(row["job"], []).append(row)
    for job, (ours, *others) in jobs.items():
        mine = best_of(ours)
        peers = [(best, row["contender"]) for row in others if not is_ours(row) and (best := best_of(row))]
        told = f"{mine * 1e3:9.2f} us" if mine else "; ".join(ours["notes"])
        share = f"{ours['share_of_copy']:5.0%}" if ours["share_of_copy"] else "     "
        fastest = f"{min(peers)[0] / mine:8.1f}x {min(peers)[1]}" if mine and peers else ""
        lines.append(f"{job:<68}{told} {share}{fastest}")
    for name in SCENES:
        for row in results.get(name, {}).get("rows", []):
            told = f"{row['milliseconds']['median']:9.2f} ms {row['peak_bytes'] / 1e6:9.1f} MB"
            lines.append(f"{name} {row['scene']}, {row['contender']}".ljust(68) + told)
    lines += [f"FAILED {failure['job']}: {failure['message']}" for failure in results.get("failed", [])]
    return lines + [gpu_aims.told(row) for row in results["aims"]]


def best_of(row: dict[str, Any]) -> float | None:
    """Milliseconds as a graph where it can be one, else call by call."""
    timing = row["graph"] or row["eager"]
    return timing["median"] if timing else None


def is_ours(row: dict[str, Any]) -> bool:
    return row["contender"].startswith("yolact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    results = merged([results_of(run) for run in options.runs])
    options.results.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(lines_of(results)))
    sys.exit(not all(part["ok"] for part in results["parts"].values()))


if __name__ == "__main__":
    main()
