"""Every configuration in numbers: parameters, operations, and the time of its network on this machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from yolact.bench.machine import machine
from yolact.bench.timing import Timing, compare
from yolact.config import Config
from yolact.devices import cuda_fault
from yolact.files import replacing
from yolact.models.yolact import Yolact
from yolact.predictor import Model

SEED = 0
Shape = Sequence[int]


@dataclass(frozen=True)
class Published:
    """What the authors of the weights measured of them."""

    mask_ap: float  # COCO, percent
    split: str
    fps: float | None = None  # on a Titan Xp


PUBLISHED = {
    "yolact_base": Published(29.8, "test-dev", 33.5),
    "yolact_im700": Published(31.2, "test-dev", 23.6),
    "yolact_darknet53": Published(28.7, "test-dev", 40.0),
    "yolact_resnet50": Published(28.2, "test-dev", 42.5),
    "yolact_plus_base": Published(34.6, "test-dev", 27.3),
    "yolact_plus_resnet50": Published(34.1, "test-dev", 33.5),
    "mmdet_yolact_r50_1xb8": Published(29.0, "val"),
    "mmdet_yolact_r50_8xb8": Published(28.4, "val"),
    "mmdet_yolact_r101_1xb8": Published(30.4, "val"),
}


@dataclass(frozen=True)
class Line:
    """A configuration's line of the table."""

    config: str
    backbone: str
    size: int
    parameters: int
    multiply_adds: int  # of a picture: the network, and where masks are scored again as many as it finds at most
    published: Published | None
    cpu: Timing | None = None  # milliseconds of the network, float32, a picture at a time
    gpu: Timing | None = None  # the same in float16


def describe(config: Config) -> Line:
    """What can be told of a configuration without running it; nothing of it is computed or held.

    Raises:
        UserError: its backbone cannot be had.
    """
    with torch.device("meta"):
        model = Yolact(config).eval()
        raw, multiply_adds = _counted(model, torch.empty(1, 3, config.size, config.size))
        if model.maskiou_net is not None:
            masks = torch.empty(config.detect.max_detections or 0, 1, *raw.prototypes.shape[1:3])
            multiply_adds += _counted(model.maskiou_net, masks)[1]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Line(config.name, config.backbone, config.size, parameters, multiply_adds, PUBLISHED.get(config.name))


def timed(line: Line, config: Config, *, seconds: float, threads: int) -> Line:
    """The line with the time of the network as `predict` runs it, without what comes before and after."""
    cpu = _time(config, torch.device("cpu"), "fp32", seconds, threads)
    gpu = None if cuda_fault() else _time(config, torch.device("cuda"), "fp16", seconds, threads)
    return replace(line, cpu=cpu, gpu=gpu)


def table(lines: Iterable[Line]) -> list[str]:
    """Aligned columns."""
    lines = list(lines)
    rows = [["configuration", "backbone", "input", "Mparam", "GMAC", "published"]]
    times = [(kind, heading) for kind, heading in (("cpu", "CPU ms"), ("gpu", "GPU ms")) if any(map(_has(kind), lines))]
    rows[0][5:5] = [heading for _, heading in times]
    for line in lines:
        row = [line.config, line.backbone, str(line.size), f"{line.parameters / 1e6:.1f}"]
        row.append(f"{line.multiply_adds / 1e9:.1f}")
        row += [f"{getattr(line, kind).median:.1f}" if getattr(line, kind) else "" for kind, _ in times]
        rows.append([*row, told(line.published)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def told(published: Published | None) -> str:
    """In a table's cell."""
    if published is None:
        return ""
    return f"{published.mask_ap} mask AP ({published.split})" + (f", {published.fps} fps" if published.fps else "")


def save(path: Path, lines: Iterable[Line], threads: int | None) -> None:
    """Write the lines, with what machine they are of, as JSON; the file appears whole or not at all."""
    lines = list(lines)
    gpu = torch.cuda.get_device_name() if any(line.gpu for line in lines) else None
    content = {"machine": machine(), "gpu": gpu, "threads": threads, "models": [asdict(line) for line in lines]}
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def _has(kind: str) -> Callable[[Line], bool]:
    return lambda line: getattr(line, kind) is not None


def _counted(module: nn.Module, given: Tensor) -> tuple[Any, int]:
    """What a module returns, and its multiplications with an addition: of convolutions and products of matrices."""
    deformable = {torch.ops.yolact.deform_conv2d: _deform_conv2d_flops}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=deformable) as counter:
        returned = module(given)
    return returned, counter.get_total_flops() // 2


def _deform_conv2d_flops(
    input: Shape, offset: Shape, weight: Shape, *others: Any, out_shape: Shape, **options: Any
) -> int:
    """As a plain convolution's; what its bilinear samples take is not counted, as no interpolation's is."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def _time(config: Config, device: torch.device, precision: str, seconds: float, threads: int) -> Timing:
    images = torch.randn(1, 3, config.size, config.size, generator=torch.Generator().manual_seed(SEED)).to(device)
    network = _settled(config, images).network(precision)

    def run() -> None:
        network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        return compare({config.name: run}, seconds=seconds, threads=threads)[config.name]


@torch.no_grad()
def _settled(config: Config, images: Tensor) -> Model:
    """Random weights, with batch norm's statistics of the images: values as large as a trained network's throughout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Model(config).to(images.device).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what passes, whole
    model(images)
    return model.eval()
