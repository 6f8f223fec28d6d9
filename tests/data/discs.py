"""A data set of coloured discs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolact import mask
from yolact.data.augment import Augmentation
from yolact.data.coco import CocoDataset
from yolact.data.records import Picture, Truth
from yolact.data.render import Sample

STRONG = Augmentation(rotation=20.0, mosaic=0.4, copy_paste=0.4)
GREY = (127.0, 127.0, 127.0)


def disc(cx: float, cy: float, radius: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], 1)


def make_picture(path: Path, id: int, rng: np.random.Generator) -> Picture:
    """A picture whose objects are discs, each of one colour on black: polygons, and one RLE crowd."""
    height, width = int(rng.integers(60, 120)), int(rng.integers(60, 120))
    pixels = np.zeros((height, width, 3), np.uint8)
    truths = []
    for label in range(3):
        radius = rng.uniform(8, 20)
        cx, cy = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        ys, xs = np.mgrid[:height, :width] + 0.5
        inside = (xs - cx) ** 2 + (ys - cy) ** 2 < radius**2
        pixels[inside] = (0, 0, 0)
        pixels[inside, label] = 255
        segmentation: object = [disc(cx, cy, radius)]
        if label == 2:
            segmentation = mask.encode(inside)
        box = np.array((cx - radius, cy - radius, cx + radius, cy + radius), np.float32)
        truths.append(Truth(box, label, segmentation, crowd=label == 2))
    cv2.imwrite(str(path), pixels[..., ::-1])
    return Picture(id, path, height, width, tuple(truths))


def disc_data_set(folder: Path) -> CocoDataset:
    """Four such pictures."""
    rng = np.random.default_rng(0)
    pictures = tuple(make_picture(folder / f"{i}.png", i, rng) for i in range(4))
    return CocoDataset(Path("squares.json"), pictures, ("r", "g", "b"), (1, 2, 3))


def equal(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def bounds(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(mask)
    return np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
