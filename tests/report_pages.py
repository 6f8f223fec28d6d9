"""Reports, and what a browser shows of them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from conftest import skip_or_fail

from yolact import mask
from yolact.report import Report

try:
    from playwright import sync_api as playwright
except ImportError:
    skip_or_fail("browser", "playwright is not installed")

Open = Callable[..., playwright.Page]  # of a report


def result(pixels: np.ndarray, category: int = 1, score: float = 0.5) -> dict[str, Any]:
    """A mask as a COCO result."""
    rle = mask.encode(np.asfortranarray(pixels))
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"category_id": category, "score": score, "bbox": mask.toBbox(rle).tolist(), "segmentation": segmentation}


def boxes(*places: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> list[np.ndarray]:
    """Masks that are boxes: x, y, width, height."""
    masks = [np.zeros(size, bool) for _ in places]
    for pixels, (x, y, width, height) in zip(masks, places, strict=True):
        pixels[y : y + height, x : x + width] = True
    return masks


def write_pets(path: Path) -> Path:
    """A report of three pictures: a cat and a dog, a dog, nothing; the truth is another cat in the first."""
    cat, dog, other = boxes((5, 5, 20, 30), (40, 10, 30, 40), (2, 40, 10, 15))
    picture = np.full((60, 80, 3), 128, np.uint8)
    names = {17: "cat", 18: "dog"}
    with Report(path, title="Pets").writing() as page:
        found = [result(cat, 17, 0.9), result(dog, 18, 0.4)]
        page.add("first.jpg", picture, found, names, [{**result(other, 17), "score": None}])
        page.add("second.jpg", picture, [result(dog, 18, 0.7)], names, [])
        page.add("third.jpg", picture, [], names, [])
    return path


def seen(page: Any, canvas: str) -> np.ndarray:
    """The pixels of a canvas, [H, W, 4] RGBA; of one that is hidden, none."""
    url = page.locator(canvas).evaluate("canvas => canvas.hidden ? '' : canvas.toDataURL()")
    if not url:
        return np.zeros((0, 0, 4), np.uint8)
    png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def covered(page: Any, canvas: str) -> np.ndarray:
    """Where a canvas has colour, [H, W] bool."""
    return seen(page, canvas)[..., 3] > 0


def on_a_grid(page: Any, rle: dict[str, Any], *sizes: tuple[int, int]) -> list[np.ndarray]:
    """What `fillMask` makes of run lengths on planes of some sizes, [H, W] bool each."""
    texts = page.evaluate(
        """([counts, full, sizes]) => sizes.map(([height, width]) => {
            const plane = new Uint16Array(height * width);
            fillMask(plane, [height, width], runEnds(counts), full, 1);
            return plane.join("");
        })""",
        [rle["counts"], rle["size"], sizes],
    )
    planes = [np.frombuffer(text.encode(), np.uint8) == ord("1") for text in texts]
    return [plane.reshape(size, order="F") for plane, size in zip(planes, sizes, strict=True)]


def sampled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels under the middles of a coarser grid's."""
    rows, columns = (((np.arange(n) + 0.5) * full / n).astype(int) for n, full in zip(size, pixels.shape, strict=True))
    return pixels[rows][:, columns]
