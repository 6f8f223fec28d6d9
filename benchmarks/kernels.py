"""How fast are the operators beside their peers? `python -m benchmarks.kernels [--device cpu|cuda] [OPERATOR ...]`

Each job checks that the contenders agree before it times them, in turn and in one run. Ratios are to ours: 20x means
that ours takes a twentieth of the time. On a shared machine only the ratios within one job mean anything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import cpu_jobs, cuda_deform_jobs, cuda_jobs, cuda_mask_jobs, cuda_timing, gpu_aims, rescoring_jobs
from benchmarks.gpu_report import best_of
from yolact.bench.machine import machine
from yolact.bench.timing import Timing, compare

CPU_JOBS: dict[str, Callable[[], Any]] = {**cpu_jobs.JOBS, "rescore": rescoring_jobs.on_cpu}
CUDA_JOBS: dict[str, Callable[[torch.device, cuda_jobs.Sizes], Any]] = {
    "detect": cuda_jobs.detect,
    "fast_nms": cuda_jobs.fast_nms,
    "assemble_masks": cuda_mask_jobs.assemble_masks,
    "assemble_run_lengths": cuda_mask_jobs.assemble_run_lengths,
    "resize_masks": cuda_mask_jobs.resize_masks,
    "encode_run_lengths": cuda_mask_jobs.encode_run_lengths,
    "decode_run_lengths": cuda_mask_jobs.decode_run_lengths,
    "preprocess": cuda_jobs.preprocess,
    "postprocess": cuda_mask_jobs.postprocess,
    "rescore": rescoring_jobs.on_gpu,
    "deform_conv2d": cuda_deform_jobs.jobs,
}


def gpu(device: torch.device) -> dict[str, Any]:
    """The same about a GPU, with the bandwidth that a copy on it reaches."""
    bandwidth = cuda_timing.copy_bandwidth(device, **({} if device.type == "cuda" else {"size": 1 << 20}))
    if device.type != "cuda":
        return {"name": "none: toy sizes on the CPU", "copy_bytes_per_second": bandwidth}
    properties = torch.cuda.get_device_properties(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        driver = "unknown"
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "driver": driver,
        "cuda": torch.version.cuda,
        "copy_bytes_per_second": bandwidth,
    }


def on_cpu(options: argparse.Namespace) -> dict[str, Any]:
    """Run the CPU's jobs with each number of threads."""
    rows = []
    for operator in options.operators or CPU_JOBS:
        for job in CPU_JOBS[operator]():
            job.check()
            for threads in options.threads:
                timings = compare(job.contenders, seconds=options.seconds, threads=threads)
                ours = next(iter(timings.values()))
                print(f"\n{job.name}, threads: {threads}")
                for name, timing in timings.items():
                    spread = f"{timing.low:.3f} to {timing.high:.3f}"
                    print(f"  {name:<32} {timing.median:9.3f} ms  ({spread:>20})  {ours.times(timing):7.2f}x")
                    rows.append({"job": job.name, "threads": threads, "contender": name, **asdict(timing)})
    return {"machine": machine(), "milliseconds": rows, "host_milliseconds": host_times(torch.device("cpu"))}


def on_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Run the GPU's jobs within a number of minutes; a job that fails is a result too, and the next one goes on.

    Those that something is aimed at come first. Convolutions in float32 are of all its bits, so that results agree.
    """
    torch.backends.cudnn.allow_tf32 = False
    toy = options.device == "toy"
    device, sizes = torch.device("cpu" if toy else "cuda"), cuda_jobs.TOY if toy else cuda_jobs.Sizes()
    end = time.monotonic() + 60 * options.minutes
    results: dict[str, Any] = {"machine": machine(), "gpu": gpu(device), "milliseconds": [], "failed": []}
    try:
        results["host_milliseconds"] = host_times(device)
    except Exception as error:
        results["failed"].append({"job": "host times", "message": cuda_timing.message_of(error)})
    jobs = []
    for operator in options.operators or CUDA_JOBS:
        try:
            jobs += list(CUDA_JOBS[operator](device, sizes))
        except Exception as error:
            results["failed"].append({"job": operator, "message": cuda_timing.message_of(error)})
    jobs.sort(key=lambda job: not gpu_aims.is_aimed_at(job.name))
    for number, job in enumerate(jobs):
        left = end - time.monotonic()
        try:
            if left < 0:
                raise TimeoutError("the minutes were spent")
            job.check(*job.draw(0))
            sets = cuda_timing.input_sets(job.draw, next(iter(job.contenders.values())).moved, device)
            seconds = 0.0 if toy else min(options.seconds, left / (len(jobs) - number) / 2)
            measured = cuda_timing.compare(job.contenders, sets, device, seconds=seconds, least=1 if toy else 5)
        except Exception as error:
            results["failed"].append({"job": job.name, "message": cuda_timing.message_of(error)})
        else:
            results["milliseconds"] += rows_of(job, measured, results["gpu"]["copy_bytes_per_second"])
            print_rows(results["milliseconds"][-len(measured) :])
        finally:
            sets = measured = None  # their memory is the next job's
            write(results, options.json)
    for failure in results["failed"]:
        print(f"{failure['job']}: {failure['message']}")
    return results


def rows_of(job: cuda_jobs.Job, measured: dict[str, cuda_timing.Measured], bandwidth: float) -> list[dict[str, Any]]:
    """A row a contender: times, and which share of a copy's bandwidth the bytes that it must move make of them."""
    rows = []
    for name, taken in measured.items():
        best, moved = taken.graph or taken.eager, job.contenders[name].moved
        share = moved / (best.median / 1e3) / bandwidth if best and moved else None
        rows.append({"job": job.name, "contender": name, "bytes": moved, "share_of_copy": share, **asdict(taken)})
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    print(f"\n{rows[0]['job']}", flush=True)
    ours = best_of(rows[0])
    for row in rows:
        graph, eager = (f"{row[kind]['median'] * 1e3:11.2f}" if row[kind] else " " * 11 for kind in ("graph", "eager"))
        share = f"{row['share_of_copy']:6.0%}" if row["share_of_copy"] else " " * 6
        ratio = f"{best / ours:8.2f}x" if ours and (best := best_of(row)) else " " * 9
        print(f"  {row['contender']:<40} graph {graph} us  eager {eager} us {share} {ratio}  {'; '.join(row['notes'])}")


def host_times(device: torch.device) -> dict[str, dict[str, float]]:
    """What a call of each operator costs the host, on the smallest of inputs."""
    times: dict[str, Timing] = {}
    for name, run in cuda_jobs.host(device).items():
        times[name] = cuda_timing.host_time(run, device)
        print(f"host time of {name:<24} {times[name].median * 1e3:8.1f} us")
    return {name: asdict(timing) for name, timing in times.items()}


def write(results: dict[str, Any], path: Path | None) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help=f"of {', '.join(CPU_JOBS)}; all by default")
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "toy"), default="cpu", help="toy: the GPU's jobs, tiny and on the CPU"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="on the CPU")
    parser.add_argument("--seconds", type=float, default=3.0, help="a job, and on the CPU a number of threads")
    parser.add_argument("--minutes", type=float, default=60.0, help="on a GPU for all, after which jobs fail")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    unknown = set(options.operators) - set(CPU_JOBS if options.device == "cpu" else CUDA_JOBS)
    if unknown:
        parser.error(f"no such operator: {', '.join(sorted(unknown))}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU is here")
    results = on_cpu(options) if options.device == "cpu" else on_gpu(options)
    write(results, options.json)
    sys.exit(bool(results.get("failed")))


if __name__ == "__main__":
    main()
