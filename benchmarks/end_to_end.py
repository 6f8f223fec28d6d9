"""From picture files to COCO results, beside what else a user could pick: `python -m benchmarks.end_to_end`

What `yolact bench` times on one machine, for every size of network and batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yolact.bench.end_to_end import Subject, run, save, table
from yolact.engine.memory import keep_freed_memory

SUBJECTS = {
    "lite0": Subject(None, "yolact_lite0_dogcat"),
    "resnet50": Subject("yolact_resnet50"),
    "resnet101": Subject("yolact_base"),
}
CASES = ((1, 1), (1, 2), (8, 2), (32, 2))  # batch, threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", choices=[*SUBJECTS, []], default=[], help="all by default")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=sorted({batch for batch, _ in CASES}))
    parser.add_argument("--seconds", type=float, default=10.0, help="a network, batch size and number of threads")
    parser.add_argument("--compile", action="store_true", help="with torch.compile, which takes minutes")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    keep_freed_memory()
    report = run(
        [SUBJECTS[name] for name in options.networks or SUBJECTS],
        [(batch, threads) for batch, threads in CASES if batch in options.batch_sizes],
        device="cpu",
        seconds=options.seconds,
        compiled=options.compile,
        starts=lambda text: print(text, flush=True),
        done=lambda scene: print("\n".join(table(scene)), flush=True),
    )
    print("\n".join([report.picture, *report.left_out]))
    if options.json:
        save(options.json, report)


if __name__ == "__main__":
    main()
