"""Random and adversarial masks, and the real strings of the shared data, for every test of run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from conftest import shared_path


def adversarial_masks() -> Iterator[np.ndarray]:
    """Masks [H, W] bool on which an encoder can go wrong: edges of words and blocks, long and short runs, no pixels."""
    for height, width in [(1, 1), (1, 130), (130, 1), (64, 64), (63, 65), (65, 63), (128, 5), (7, 200), (129, 129)]:
        y, x = np.mgrid[:height, :width]
        yield from (np.zeros((height, width), bool), np.ones((height, width), bool))
        yield from ((x + y) % 2 == 0, (x + y) % 2 == 1, x % 2 == 0, y % 2 == 0, x % 3 > 0, y % 5 > 2)
        for place in [(0, 0), (height - 1, 0), (0, width - 1), (height - 1, width - 1), (height // 2, width // 2)]:
            one = np.zeros((height, width), bool)
            one[place] = True
            yield from (one, ~one)
        yield (2 * x - width) ** 2 + (2 * y - height) ** 2 < width * height
    yield from (np.zeros(shape, bool) for shape in [(0, 0), (0, 5), (5, 0)])


def random_mask(rng: np.random.Generator, longest: int = 150) -> np.ndarray:
    """A mask [H, W] bool of random size: noise of some density, or blobs."""
    height, width = rng.integers(1, longest, 2)
    if rng.random() < 0.5:
        return rng.random((height, width)) < rng.choice([0.003, 0.1, 0.5, 0.9, 0.997])
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(1, 4)):
        cy, cx, ry, rx = rng.random(4) * (height, width, height, width)
        mask ^= ((x - cx) / (rx + 0.5)) ** 2 + ((y - cy) / (ry + 0.5)) ** 2 < 1
    return mask


def real_rles(name: str) -> list[dict]:
    """The masks that a published model gave on COCO pictures: `yolact_base` or `yolact_resnet50`."""
    pictures = json.loads(shared_path(f"data/yolact_dets/{name}.json").read_text())["images"]
    return [detection["mask"] for picture in pictures for detection in picture["dets"]]


def same(actual: Any, expected: Any) -> bool:
    """Equal in type, dtype, shape, order and every byte."""
    if isinstance(expected, (np.ndarray, np.generic)):
        return (
            type(actual) is type(expected)
            and actual.dtype == expected.dtype
            and actual.shape == expected.shape
            and all(
                actual.flags[flag] == expected.flags[flag] for flag in ("F_CONTIGUOUS", "C_CONTIGUOUS", "WRITEABLE")
            )
            and actual.tobytes() == expected.tobytes()
        )
    return type(actual) is type(expected) and actual == expected


def fortran(masks: np.ndarray) -> np.ndarray:
    return np.asfortranarray(masks.astype(np.uint8))
