"""Every function of pycocotools.mask beside `yolact.mask`: masks of 8 x 8 pixels, of pictures, one of 8000 x 8000."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.inputs import ellipses
from yolact import mask


@dataclass(frozen=True)
class Size:
    """A column of the table: its masks, and how many calls are timed as one."""

    height: int
    width: int
    masks: int
    calls: int

    @property
    def name(self) -> str:
        calls = f"{self.calls} calls, " if self.calls > 1 else ""
        return f"{calls}{self.masks} of {self.height} x {self.width}"


SIZES = (Size(8, 8, 1, 1000), Size(480, 640, 1, 100), Size(480, 640, 100, 1), Size(8000, 8000, 1, 1))


def functions(size: Size) -> dict[str, Callable[[Any], Any]]:
    """Calls of each function of a package, over ellipses on 4 % of the picture or on half, their boxes and outlines."""
    height, width, count = size.height, size.width, size.masks
    dense = by_columns(count + 1, height, width, 0.04)  # one more, for functions that take two
    rles, large = mask.encode(dense), mask.encode(by_columns(count + 1, height, width, 0.5))
    boxes, others = mask.toBbox(rles[:count]), mask.toBbox(rles[1:])
    polygons = [outline(box, 3 if height < 100 else 100) for box in boxes]
    uncompressed = [{"size": [height, width], "counts": counts(dense[:, :, i])} for i in range(count)]
    stack, rle = (dense[:, :, 0], rles[0]) if count == 1 else (dense[:, :, :count], rles[:count])
    box_lists = boxes.tolist(), others.tolist()
    crowd = [0] * count
    return {
        "encode": lambda package: package.encode(stack),
        "decode": lambda package: package.decode(rle),
        "area": lambda package: package.area(rle),
        "toBbox": lambda package: package.toBbox(rle),
        "merge": lambda package: package.merge(rles),
        "merge, intersection of large": lambda package: package.merge(large, True),
        "iou of masks": lambda package: package.iou(rles[:count], rles[1:], crowd),
        "iou of large masks": lambda package: package.iou(large[:count], large[1:], crowd),
        "iou of boxes in lists": lambda package: package.iou(*box_lists, crowd),
        "frPyObjects of polygons": lambda package: package.frPyObjects(polygons, height, width),
        "frPyObjects of boxes": lambda package: package.frPyObjects(boxes, height, width),
        "frPyObjects of counts": lambda package: package.frPyObjects(uncompressed, height, width),
    }


def by_columns(count: int, height: int, width: int, coverage: float) -> np.ndarray:  # [H, W, N] uint8
    masks = ellipses(count, width, height, coverage=coverage)  # [N, W, H]
    return masks.numpy().view(np.uint8).T


def outline(box: np.ndarray, vertices: int) -> list[float]:
    """The ellipse within a box as a polygon, to hundredths of a pixel as COCO has them."""
    x, y, width, height = box
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    points = np.stack([x + width / 2 * (1 + np.cos(angle)), y + height / 2 * (1 + np.sin(angle))], axis=1)
    return points.ravel().round(2).tolist()


def counts(pixels: np.ndarray) -> list[int]:
    """The lengths of a mask's runs, zeros first."""
    flat = np.concatenate([[0], pixels.ravel(order="F")])
    return np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [pixels.size]])).tolist()


def evaluation(pictures: int = 100, truths: int = 5, detections: int = 20) -> Callable[[], np.ndarray]:
    """COCOeval over pictures of 480 x 640, from polygons and run lengths to its numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rles = mask.encode(by_columns(100, 480, 640, 0.04))
    outlines = [outline(box, 60) for box in mask.toBbox(rles)]
    dataset = {
        "images": [{"id": i, "height": 480, "width": 640} for i in range(pictures)],
        "categories": [{"id": 1, "name": "ellipse"}],
        "annotations": [
            {"image_id": i, "category_id": 1, "segmentation": [outlines[(7 * i + k) % 100]], "iscrowd": 0}
            | {"area": 12288, "id": 1 + truths * i + k}
            for i in range(pictures)
            for k in range(truths)
        ],
    }
    results = [
        {"image_id": i, "category_id": 1, "segmentation": rles[(7 * i + k) % 100], "score": (i * 37 + k * 11) % 97 / 97}
        for i in range(pictures)
        for k in range(detections)
    ]

    def run() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(dataset)
            truth.createIndex()
            found = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
            found.evaluate()
            found.accumulate()
            found.summarize()
        return found.stats

    return run
