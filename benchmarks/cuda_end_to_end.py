"""How fast is it from pictures in a GPU's memory to run lengths on the host? `python -m benchmarks.cuda_end_to_end`

Ours as `Model.predict` has it and call by call, in float16 and float32, beside the original's formulation in eager
torch in both, as published and converted; results are compared first, for which float32 is not TF32. `--device toy` is
the same, tiny and on the CPU.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels import gpu, write
from yolact import ops
from yolact.bench import contenders as peers
from yolact.bench.contenders import SCORE_THRESHOLD, Contender
from yolact.bench.end_to_end import HEIGHT, WIDTH, photo, picture_files
from yolact.bench.machine import machine
from yolact.bench.measure import measure
from yolact.bench.stand_in import stand_in
from yolact.instances import Instances
from yolact.predictor import Model

STAGES = ("preprocess", "network", "detect", "masks to RLE")
CONFIGS, BATCHES = ("yolact_resnet50", "yolact_base"), (1, 32)
TOY_CONFIGS, TOY_BATCHES = ("yolact_lite0",), (1, 2)


def ours(model: Model, precision: str) -> Contender:
    """`Model.predict` on tensors, and the operators one by one."""
    network, how, size = model.network(precision), model.config.preprocessing, model.config.size

    def masks(given: Any) -> list[list[dict[str, Any]]]:
        pictures, raw, found = given
        rows = found.prior.clamp(min=0)[..., None].expand(-1, -1, raw.mask_coefficients.shape[2])
        coefficients = raw.mask_coefficients.gather(1, rows)
        count = (found.score > SCORE_THRESHOLD).sum(1)
        sizes = [tuple(pictures.shape[1:3])] * len(pictures)
        return ops.prototypes_to_rles(raw.prototypes, coefficients, found.boxes, sizes, count=count)

    def whole(pictures: Tensor) -> list[Instances]:
        options = {"batch_size": len(pictures), "precision": precision}
        instances = model.predict(pictures.unbind(), score_threshold=SCORE_THRESHOLD, **options)
        for found in instances:
            _ = found.rles
        return instances

    stages: dict[str, peers.Stage] = {
        "preprocess": lambda pictures: (pictures, ops.preprocess(pictures, size, how.mean, how.std)),
        "network": lambda given: (given[0], network(given[1])),
        "detect": lambda given: (*given, model.detect(given[1])),
        "masks to RLE": masks,
    }
    return Contender(f"yolact, {precision}", stages, whole, peers.json_of, half=precision == "fp16")


def eager(model: Model, precision: str, bgr: Tensor) -> Contender:
    """The original's formulation between the same ends, on the same pictures as OpenCV reads them."""
    network: Callable[[Tensor], tuple[Tensor, ...]] = peers.Tensors(model)
    if precision == "fp16":
        halved = peers.Tensors(copy.deepcopy(model).half())

        def network(images: Tensor) -> tuple[Tensor, ...]:
            return tuple(tensor.float() for tensor in halved(images.half()))

    whole = peers.original(f"eager torch, {precision}", model, network)
    stages = {name: whole.stages[name] for name in STAGES}
    preprocess = stages["preprocess"]
    stages["preprocess"] = lambda _: preprocess(bgr)
    return replace(whole, stages=stages, to_json=whole.stages["to JSON"], half=precision == "fp16")


def compare(
    config: str, batch: int, device: torch.device, precisions: tuple[str, ...], seconds: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row a contender, the whole way in `milliseconds` and what it spends in each stage."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        _, pixels = picture_files(photo(WIDTH, HEIGHT), batch, Path(folder))
        model = stand_in(config, pixels[:8], device)
        pictures = torch.stack([torch.from_numpy(picture) for picture in pixels]).to(device)
        bgr = pictures.flip(-1)
        lineup = {f"yolact, {p}": lambda p=p: ours(model, p) for p in precisions}
        lineup |= {f"eager torch, {p}": lambda p=p: eager(model, p, bgr) for p in precisions}
        threads = torch.get_num_threads()
        rows, left_out = measure(lineup, pictures, device, seconds=seconds, threads=threads)
    scene = f"{config}, batch {batch}, {rows[0].instances:.0f} instances a picture"
    return [{"scene": scene, "batch": batch, **asdict(row)} for row in rows], [f"{scene}: {line}" for line in left_out]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "toy"), default="cuda")
    parser.add_argument("--seconds", type=float, default=4.0, help="a network and batch size")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    toy = options.device == "toy"
    if not toy and not torch.cuda.is_available():
        parser.error("no GPU is here")
    device = torch.device("cpu" if toy else "cuda")
    torch.backends.cudnn.allow_tf32 = False
    results: dict[str, Any] = {"machine": machine(), "gpu": gpu(device), "rows": [], "left_out": []}
    for config in TOY_CONFIGS if toy else CONFIGS:
        for batch in TOY_BATCHES if toy else BATCHES:
            precisions = ("fp32",) if toy else ("fp32", "fp16")
            rows, left_out = compare(config, batch, device, precisions, 0.0 if toy else options.seconds)
            results["rows"] += rows
            results["left_out"] += left_out
            write(results, options.json)
            print("\n".join([rows[0]["scene"], *map(told, rows), *left_out]), flush=True)
    if results["left_out"]:
        raise SystemExit(1)


def told(row: dict[str, Any]) -> str:
    stages = ", ".join(f"{name} {taken:.2f}" for name, taken in row["stages"].items())
    whole = row["milliseconds"]["median"]
    return f"  {row['contender']:<18} {whole:9.2f} ms, {1e3 * row['batch'] / whole:7.1f} pictures/s; {stages}"


if __name__ == "__main__":
    main()
