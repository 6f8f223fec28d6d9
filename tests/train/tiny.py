"""A network, a recipe and a data set small enough to train in seconds; also a program that runs command lines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import nn

from yolact.config import CONFIGS, get_config
from yolact.data.augment import Augmentation
from yolact.models.resnet import Bottleneck, ResNet
from yolact.options import AnchorOptions, DeformableOptions, FPNOptions, TrainOptions
from yolact.train.recipe import RECIPES, Recipe

ROOT = Path(__file__).resolve().parents[2]
END = "\n=== end of a run ===\n"

TINY = replace(
    get_config("yolact_lite0"),
    name="tiny",
    size=64,
    fpn=FPNOptions(channels=16),
    anchors=AnchorOptions(scales=(8, 16, 32, 48, 64)),
    prototypes=8,
    protonet_channels=16,
    head_channels=16,
    train=TrainOptions(
        batch_size=2, length=6, warmup_iterations=2, steps=(4,), learning_rate=2e-3, warmup_rate=1e-3, max_masks=3
    ),
)
# YOLACT++ as small as it gets: the mask-IoU net takes masks of no less than 63 pixels a side.
PLUS = replace(
    TINY,
    name="plus",
    backbone="resnet50",
    size=252,
    anchors=AnchorOptions(scales=(32, 64, 96, 128, 192), scales_per_octave=(1, 1.4)),
    deformable=DeformableOptions((0, 1, 1, 1)),
    mask_rescoring=True,
)
LARGE_ONLY = replace(PLUS, name="large-only", train=replace(PLUS.train, min_mask_iou_area=PLUS.size**2))
STRONG = Recipe(Augmentation(rotation=10.0, mosaic=0.5, copy_paste=0.5), ema_decay=0.9, freeze_batch_norm=True)


def narrow_resnet(deformable: DeformableOptions | None = None) -> ResNet:
    """A ResNet of one block a stage and an eighth of the channels."""
    backbone = ResNet((0, 0, 0, 0))
    backbone.channels = (64, 128, 256)
    backbone.conv1, backbone.bn1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8)
    channels = 8
    for stage, layer in enumerate(backbone.layers):
        width = 8 * 2**stage
        deforms = deformable is not None and deformable.includes(stage, 0, 1)
        layer.append(Bottleneck(channels, width, 2 if stage else 1, deformable=deforms))
        channels = width * Bottleneck.expansion
    return backbone


def write_squares(folder: Path) -> None:
    """Five pictures of one light square each, the last of none; `truth.json` beside them."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(5):
        pixels = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        if i < 4:
            x, y, side = int(rng.integers(2, 30)), int(rng.integers(2, 16)), int(rng.integers(20, 30))
            pixels[y : y + side, x : x + side] = (200, 220, 240)
            annotations.append(
                {
                    "id": i + 1,
                    "image_id": i,
                    "category_id": 5,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
                }
            )
        cv2.imwrite(str(folder / f"{i}.png"), pixels)
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 48})
    categories = [{"id": 5, "name": "square"}, {"id": 9, "name": "circle"}]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


@contextmanager
def small_runs() -> Iterator[None]:
    """Random initial weights, narrow ResNets, the names of small configurations and of "strong" for the
    command line, and one thread: networks this small spend more on waiting for a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        patch("yolact.models.start.load_backbone", lambda *rest: None),
        patch("yolact.train.engine.draw_curves", lambda folder: None),  # takes longer than a run
        patch("yolact.evaluation.parts.ROUND", 1),
        patch.dict("yolact.models.backbones._BACKBONES", resnet50=narrow_resnet),
        patch.dict(CONFIGS, {config.name: config for config in (TINY, PLUS, LARGE_ONLY)}),
        patch.dict(RECIPES, strong=STRONG),
    ):
        yield
    torch.set_num_threads(threads)


def signalled(function: Callable[..., Any], number: int, call: int) -> Callable[..., Any]:
    """A function that the process signals itself before a call of, counted from 1."""
    calls = count(1)

    def run(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return function(*arguments, **options)

    return run


Signal = tuple[int, str, int]  # its number, "module.function", at which call of it


@dataclass(frozen=True)
class Run:
    """A command line of `yolact train`, and the signal that it gets."""

    output: Path
    options: tuple[str, ...] = ()
    signal: Signal | tuple[int, float] | None = None  # or the number, and after how many seconds
    signalled_rank: int = 0
    config: str = "tiny"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, in each of its processes."""

    statuses: tuple[int, ...]
    told: str  # by all of them


def run_all(data: Path, runs: Sequence[Run], processes: int = 1) -> list[Outcome]:
    """Train in real processes, one run after the other."""
    settings = ["--train-annotations", str(data / "truth.json"), "--train-images", str(data), "--device", "cpu"]
    commands = [["train", run.config, *settings, "--output", str(run.output), *run.options] for run in runs]
    ports = [free_port() for _ in runs]
    children = []
    for rank in range(processes):
        signals = [run.signal if run.signalled_rank == rank else None for run in runs]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        child = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(list(zip(commands, signals, ports, strict=True))))
        child.stdin.close()
        child.stdin = None
        children.append(child)
    try:
        told = [child.communicate(timeout=120)[0].split(END) for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * processes, told
    outcomes = []
    for texts in zip(*(parts[:-1] for parts in told), strict=True):
        lines, statuses = zip(*(text.rsplit("\n", 1) for text in texts), strict=True)
        outcomes.append(Outcome(tuple(map(int, statuses)), "\n".join(lines)))
    return outcomes


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def main() -> None:
    """Run command lines of yolact, each in a process of its own, all after one import of torch; tell their statuses."""
    from yolact.cli import main

    # What a run imports, and what that imports when it is needed: once, for all.
    for name in ("yolact.train.engine", "torch._dynamo", "torch.utils.tensorboard", "pycocotools.cocoeval"):
        import_module(name)
    for command, plan, port in json.load(sys.stdin):
        child = os.fork()
        if not child:
            os.environ["MASTER_PORT"] = str(port)
            with small_runs():
                if plan and isinstance(plan[1], str):
                    number, name, call = plan
                    module, _, function = name.rpartition(".")
                    patch(name, signalled(getattr(import_module(module), function), number, call)).start()
                try:
                    status = main(command)
                except SystemExit as exit:
                    status = exit.code
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        if plan and not isinstance(plan[1], str):
            time.sleep(plan[1])
            os.kill(child, plan[0])
        print(f"\n{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", end=END, flush=True)


if __name__ == "__main__":
    main()
