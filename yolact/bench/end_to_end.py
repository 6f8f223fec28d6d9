"""From picture files to COCO results, ours beside what else a user could pick: the scenes, their inputs, the table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from yolact.bench import contenders as peers
from yolact.bench.machine import machine
from yolact.bench.measure import measure
from yolact.bench.stand_in import stand_in
from yolact.demo import photo_of_a_cat
from yolact.devices import find_device
from yolact.engine import choose_dtype
from yolact.files import replacing
from yolact.loading import load
from yolact.pictures import read_picture, write_picture
from yolact.predictor import Model

WIDTH, HEIGHT = 640, 426  # the cat's, in the size that pictures of COCO usually have


HEADINGS = {"preprocess": "prepare", "masks to RLE": "RLE", "to JSON": "JSON"}  # where a stage's name is too long


@dataclass(frozen=True)
class Subject:
    """A network to be timed: trained weights, or with none given random ones that find as many instances."""

    config: str | None
    weights: str | None = None

    def model(self, pictures: list[np.ndarray], device: torch.device) -> Model:
        if self.weights is not None:
            return load(self.weights, device, self.config)
        assert self.config is not None
        return stand_in(self.config, pictures, device)


@dataclass
class Report:
    """What was measured, and what was not."""

    picture: str
    scenes: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run(
    subjects: Sequence[Subject],
    cases: Sequence[tuple[int, int]],  # (batch, torch's threads)
    *,
    device: str = "auto",
    picture: Path | None = None,
    seconds: float = 5.0,  # a case
    compiled: bool = False,  # torch.compile among the peers: minutes
    starts: Callable[[str], None] = lambda text: None,  # told before a case
    done: Callable[[dict[str, Any]], None] = lambda scene: None,  # and after it
) -> Report:
    """Measure every subject in every case.

    Raises:
        UserError: the weights or the picture cannot be read, the configuration or the device is unknown.
    """
    place = find_device(device)
    if picture is not None:
        name, pixels = picture.name, read_picture(picture)
    else:
        name, pixels = "chelsea of scikit-image", photo(WIDTH, HEIGHT)
    report = Report(f"{name}, {pixels.shape[1]} x {pixels.shape[0]}, JPEG, in a batch each moved on to the right")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        paths, pictures = picture_files(pixels, max(batch for batch, _ in cases), Path(folder))
        for subject in subjects:
            model = subject.model(pictures[:8], place)
            weights = Path(subject.weights).name if subject.weights else "random"
            if fault := peers.why_no_peers(model):
                report.left_out.append(f"{model.config.name}: no peers: {fault}")
            for batch, threads in cases:
                starts(f"{model.config.name}, batch {batch}, threads {threads} ...")
                lineup = lineup_of(model, batch, threads, Path(folder), compiled)
                rows, left_out = measure(lineup, paths[:batch], place, seconds=seconds, threads=threads)
                report.left_out += [f"{model.config.name}, batch {batch}: {line}" for line in left_out]
                scene: dict[str, Any] = {"config": model.config.name, "weights": weights, "device": place.type}
                scene |= {"batch": batch, "threads": threads, "rows": [asdict(row) for row in rows]}
                report.scenes.append(scene)
                done(scene)
    return report


def photo(width: int, height: int) -> np.ndarray:  # [height, width, 3] uint8 RGB
    """A photo of a cat in that size."""
    return cv2.resize(photo_of_a_cat(), (width, height), interpolation=cv2.INTER_CUBIC)


def picture_files(pixels: np.ndarray, count: int, folder: Path) -> tuple[list[Path], list[np.ndarray]]:
    """As many files, and what they hold; each moved on to the right a little, so that no two give the same."""
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        write_picture(path, np.roll(pixels, number * pixels.shape[1] // count, axis=1))
    return paths, [read_picture(path) for path in paths]


def lineup_of(
    model: Model, batch: int, threads: int, folder: Path, compiled: bool = False
) -> dict[str, Callable[[], peers.Contender]]:
    """What makes each contender, ours first; those whose packages are not here fail when they are made."""
    lineup: dict[str, Callable[[], peers.Contender]] = {"yolact": lambda: peers.ours(model)}
    device = model.priors.device
    halves = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    if (half := halves.get(choose_dtype("auto", device, torch.float32))) is not None:  # what `predict` takes here
        lineup[f"yolact, {half}"] = lambda: peers.ours(model, half)
    if peers.why_no_peers(model):
        return lineup
    lineup["eager torch"] = lambda: peers.eager_torch(model)
    if compiled:
        lineup["torch.compile"] = lambda: peers.compiled(model, batch)
    if device.type == "cpu":
        lineup["ONNX Runtime"] = lambda: peers.onnx_runtime(model, threads, folder)
    return lineup


def table(scene: dict[str, Any]) -> list[str]:
    """A line a contender: each stage's milliseconds, the whole way's with its spread, pictures a second, the ratio."""
    rows = scene["rows"]
    weights = "random weights" if scene["weights"] == "random" else scene["weights"]
    head = f"{scene['config']} ({weights}), batch {scene['batch']}, threads {scene['threads']}, {scene['device']}: "
    columns = "".join(f"{HEADINGS.get(stage, stage):>8}" for stage in peers.STAGES)
    lines = [head + f"{rows[0]['instances']:.1f} instances a picture"]
    lines.append(f"{'ms':<13}{columns}{'all':>8}{'low-high':>12}{'1/s':>7}{'ratio':>7}{'MB':>5}")
    for row in rows:
        whole = row["milliseconds"]
        stages = "".join(f"{short(row['stages'][stage]):>8}" for stage in peers.STAGES)
        spread = f"{whole['low']:.0f}-{whole['high']:.0f}"
        speed, ratio = 1e3 * scene["batch"] / whole["median"], whole["median"] / rows[0]["milliseconds"]["median"]
        memory = f"{row['peak_bytes'] / 1e6:.0f}" if row["peak_bytes"] is not None else ""
        lines.append(
            f"{row['contender']:<13}{stages}{short(whole['median']):>8}{spread:>12}{speed:>7.2f}{ratio:>6.2f}x{memory:>5}"
        )
    return lines


def short(milliseconds: float) -> str:
    """With a decimal where it tells anything."""
    return f"{milliseconds:.1f}" if milliseconds < 1000 else f"{milliseconds:.0f}"


def save(path: Path, report: Report) -> None:
    """Write the report, with what machine it is of, as JSON; the file appears whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps({"machine": machine(), **asdict(report)}, indent=1).encode() + b"\n")
