"""How does the cost grow with the number of instances and with the size of the picture? `python -m benchmarks.growth`

The whole way but for the network, whose cost is the same whatever the picture: its stages are timed as in `end_to_end`,
with random weights that find so many instances.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels import write
from yolact.bench.contenders import STAGES
from yolact.bench.end_to_end import lineup_of, photo, picture_files
from yolact.bench.machine import machine
from yolact.bench.measure import measure
from yolact.bench.stand_in import INSTANCES, find, stand_in

CPU = torch.device("cpu")
COUNTS = (1, 3, 10, 30, 100)
SIZE = (640, 426)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160), (8000, 6000))
MOST_PIXELS = 3840 * 2160  # for peers: they hold several bytes a pixel and instance


def points() -> Iterator[tuple[str, int, tuple[int, int]]]:
    """What is varied, how many instances, and the size of the picture."""
    for count in COUNTS:
        yield "instances", count, SIZE
    for size in SIZES:
        yield "size", INSTANCES, size


def grow(config: str, seconds: float, threads: int) -> Iterator[dict[str, Any]]:
    """A scene a point: what varies, and the contenders' rows."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for varied, count, (width, height) in points():
            paths, pictures = picture_files(photo(width, height), 1, Path(folder))
            if (varied, count) == ("instances", COUNTS[0]):
                model = stand_in(config, pictures, CPU)
            find(model, pictures, count)
            lineup = lineup_of(model, 1, threads, Path(folder))
            names = ("yolact",) if width * height > MOST_PIXELS else ("yolact", "eager torch")
            chosen = {name: lineup[name] for name in names if name in lineup}
            rows, left_out = measure(chosen, paths, CPU, seconds=seconds, threads=threads)
            scene: dict[str, Any] = {"varied": varied, "width": width, "height": height, "left_out": left_out}
            yield scene | {"rows": [asdict(row) for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="yolact_resnet50")
    parser.add_argument("--seconds", type=float, default=3.0, help="a point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    scenes = []
    for scene in grow(options.config, options.seconds, options.threads):
        scenes.append(scene)
        print("\n".join([f"{scene['width']} x {scene['height']}", *scene["left_out"]]))
        for row in scene["rows"]:
            told = ", ".join(f"{name} {row['stages'][name]:.1f}" for name in STAGES if name != "network")
            print(f"  {row['contender']:<12} {row['instances']:5.0f} instances, ms: {told}", flush=True)
    told = {"config": options.config, "threads": options.threads}
    write({"machine": machine(), "options": told, "scenes": scenes}, options.json)


if __name__ == "__main__":
    main()
