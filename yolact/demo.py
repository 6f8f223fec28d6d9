"""`yolact demo`: the bundled model on one photo, with the time that each step takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from yolact.errors import UserError
from yolact.instances import Instances
from yolact.loading import load
from yolact.pictures import make_folder, read_picture, write_picture
from yolact.predictor import Model
from yolact.run import write_results

SCORE_THRESHOLD = 0.3  # a photo to show, not a result to evaluate

T = TypeVar("T")


class Stopwatch:
    """Seconds of named steps, each closed when the device has finished it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[step] = time.perf_counter() - start
        return result


def run_demo(weights: str, picture: Path | None, output: Path, device: str) -> str:
    """Segment a photo twice, write the overlay and the COCO results, and report the times, cold and warm.

    Raises:
        UserError: The picture cannot be read or would be overwritten, or the output cannot be written.
    """
    read: Callable[[], np.ndarray]
    if picture is None:
        name, read = "chelsea", photo_of_a_cat
    else:
        name, read = picture.stem, lambda: read_picture(picture)
    drawing, results = output / f"{name}.png", output / f"{name}.json"
    if picture is not None and drawing.resolve() == picture.resolve():
        raise UserError(f"{drawing}: is the picture itself and would be overwritten; choose another output folder")
    read()  # a missing picture is told before a model is loaded for it
    model = load(weights, device)
    make_folder(output)
    cold, warm = Stopwatch(model.priors.device), Stopwatch(model.priors.device)
    _segment(model, read, drawing, results, cold)
    found = _segment(model, read, drawing, results, warm)
    return "\n".join([str(found), "", *_table(cold.seconds, warm.seconds), "", f"{drawing}\n{results}"])


@torch.no_grad()
def _segment(model: Model, read: Callable[[], np.ndarray], drawing: Path, results: Path, timed: Stopwatch) -> Instances:
    """`Model.predict` a step at a time, and what becomes of its result."""
    picture = timed("read", read)
    images = timed("preprocess", lambda: model.preprocess([picture]))
    raw = timed("network", lambda: model.network()(images))
    detections = timed("detect", lambda: model.detect(raw))
    found = model.instances([picture], raw, detections, SCORE_THRESHOLD)[0]
    timed("masks to RLE", lambda: found.rles)
    drawn = timed("draw", found.plot)
    timed("write picture", lambda: write_picture(drawing, drawn))
    timed("write results", lambda: write_results(results, found.to_coco(1)))
    return found


def _table(cold: dict[str, float], warm: dict[str, float]) -> list[str]:
    rows = [(step, cold[step], warm[step]) for step in cold]
    rows.append(("all", sum(cold.values()), sum(warm.values())))
    lines = [f"{step:<14}{1e3 * first:9.1f} ms{1e3 * again:9.1f} ms" for step, first, again in rows]
    return [f"{'':<14}{'first':>12}{'warm':>12}", *lines]


def photo_of_a_cat() -> np.ndarray:
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(
            "the photo of a cat needs scikit-image (pip install 'yolact[demo]'); or give a picture"
        ) from error
    return data.chelsea()
