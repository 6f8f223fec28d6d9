"""A small data set to break: two pictures and two objects."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolact.data.coco import CocoDataset, read_coco

SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]


def content() -> dict[str, Any]:
    """Two pictures of 20 x 10, the second empty; categories with a gap, out of order."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 10},
        ],
        "categories": [{"id": 90, "name": "fig"}, {"id": 4, "name": "date"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 2, 6, 6], "segmentation": SQUARE, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 4,
                "bbox": [0, 0, 20, 10],
                "segmentation": {"size": [10, 20], "counts": [0, 200]},
                "iscrowd": 1,
            },
        ],
    }


def write_pictures(folder: Path) -> Path:
    """The files of both."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((10, 20, 3), (1, 2, 3), np.uint8))
    return folder


def read(folder: Path, values: Any, **options: Any) -> CocoDataset:
    path = folder / "truth.json"
    path.write_text(json.dumps(values))
    return read_coco(path, folder, **options)


def change(path: str, value: Any) -> dict[str, Any]:
    """The good file with another value at a path, or one more of a list where the path ends in +."""
    values = copy.deepcopy(content())
    *parents, last = (int(k) if k.isdigit() else k for k in path.split("."))
    place: Any = values
    for key in parents:
        place = place[key]
    if last == "+":
        place.append(value)
    else:
        place[last] = value
    return values
