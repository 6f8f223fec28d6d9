"""How fast are the operators beside their peers? `python -m benchmarks.kernels [OPERATOR ...]`

Each job checks that the contenders agree before it times them. Ratios are to ours: 20x means that ours takes a
twentieth of the time. On a shared machine only the ratios within one job mean anything.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks import inputs, peers
from benchmarks.timing import compare
from yolact import ops


@dataclass(frozen=True)
class Job:
    """One question: the same work by several contenders, ours first."""

    name: str
    contenders: dict[str, Callable[[], object]]
    check: Callable[[], None]  # raises AssertionError where they disagree


def detect() -> Iterator[Job]:
    """Beside the original's formulation, and a read of the logits, which nothing can beat."""
    for batch in (1, 8):
        for name, crowd in (
            ("1200 survivors", {"survivors": 1200, "clusters": 60}),
            ("40 survivors", {"survivors": 40, "clusters": 4}),
        ):
            given = inputs.clustered_detections(batch, **crowd)
            arguments = (given.box_deltas, given.class_logits, given.priors)

            def check(arguments: tuple[torch.Tensor, ...] = arguments) -> None:
                ours = ops.detect(*arguments)
                for b, (boxes, label, score) in enumerate(peers.eager_detect(*arguments)):
                    assert ours.count[b] == len(label)
                    torch.testing.assert_close(ours.score[b, : len(score)], score)
                    torch.testing.assert_close(ours.boxes[b, : len(score)], boxes)
                    assert torch.equal(ours.label[b, : len(score)], label)

            yield Job(
                f"detect {batch} x 19248 x 81, {name}",
                {
                    "yolact": lambda arguments=arguments: ops.detect(*arguments),
                    "torch eager, as the original": lambda arguments=arguments: peers.eager_detect(*arguments),
                    "a read of the logits": lambda logits=given.class_logits: logits.sum(),
                },
                check,
            )


def fast_nms() -> Iterator[Job]:
    """What the original does after its threshold, given 1200 boxes that passed it."""
    given = inputs.clustered_detections()
    scores = given.class_logits.softmax(-1)[0, :, 1:]
    keep = scores.amax(-1) > 0.05
    every = ops.detect(given.box_deltas, given.class_logits, given.priors, iou_threshold=1.0, max_detections=None)
    boxes = torch.zeros(len(given.priors), 4)
    boxes[every.prior[0, : every.count[0]]] = every.boxes[0, : every.count[0]]
    boxes, scores = boxes[keep], scores[keep].T.contiguous()

    def check() -> None:
        ours = ops.fast_nms(boxes[None], scores[None])
        _, label, score = peers.eager_fast_nms(boxes, scores)
        assert torch.equal(ours.score[0], score)
        assert torch.equal(ours.label[0], label)

    yield Job(
        f"fast_nms {boxes.shape[0]} boxes x 80",
        {
            "yolact": lambda: ops.fast_nms(boxes[None], scores[None]),
            "torch eager, as the original": lambda: peers.eager_fast_nms(boxes, scores),
        },
        check,
    )


OPERATORS: dict[str, Callable[[], Iterator[Job]]] = {"detect": detect, "fast_nms": fast_nms}


def machine() -> dict[str, object]:
    """What a result must be read with."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    versions = {}
    for package in ("torch", "numpy", "pycocotools", "hotcoco"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu.partition(":")[2].strip() or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help=f"of {', '.join(OPERATORS)}; all by default")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="a job and number of threads")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    unknown = set(options.operators) - set(OPERATORS)
    if unknown:
        parser.error(f"no such operator: {', '.join(sorted(unknown))}")

    rows = []
    for operator in options.operators or OPERATORS:
        for job in OPERATORS[operator]():
            job.check()
            for threads in options.threads:
                timings = compare(job.contenders, seconds=options.seconds, threads=threads)
                ours = next(iter(timings.values()))
                print(f"\n{job.name}, threads: {threads}")
                for name, timing in timings.items():
                    spread = f"{timing.low:.3f} to {timing.high:.3f}"
                    print(f"  {name:<32} {timing.median:9.3f} ms  ({spread:>20})  {ours.times(timing):7.2f}x")
                    rows.append({"job": job.name, "threads": threads, "contender": name, **asdict(timing)})
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine(), "milliseconds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
