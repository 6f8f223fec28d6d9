"""A picture and its objects under an affine map: pixels are sampled once, and polygons moved and drawn once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.data.records import Picture, Truth


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and its objects at the size the network takes."""

    image: NDArray[np.uint8]  # [H, W, 3] RGB
    boxes: NDArray[np.float32]  # [n, 4] xyxy, pixels
    labels: NDArray[np.int64]  # [n]
    masks: NDArray[np.bool_]  # [n, H, W]
    crowd: NDArray[np.bool_]  # [n]
    unreadable: tuple[str, ...] = ()  # pictures that did not read, a line each, for which another one stands

    def select(self, keep: NDArray[np.bool_]) -> Sample:
        """The sample with some of its objects."""
        if keep.all():  # the masks of a hundred objects are not copied for nothing
            return self
        return replace(
            self, boxes=self.boxes[keep], labels=self.labels[keep], masks=self.masks[keep], crowd=self.crowd[keep]
        )


def render(
    picture: Picture,
    pixels: NDArray[np.uint8],
    matrix: NDArray[np.float64],  # [3, 3] picture coordinates -> coordinates of the result, pixel i is [i, i + 1)
    size: tuple[int, int],
    fill: tuple[float, float, float] = (0, 0, 0),
    min_visible: float = 0.0,
    colour: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda image: image,  # what becomes of the pixels
) -> Sample:
    """A picture and its objects under an affine map; objects of which no pixel is left are dropped.

    A box that is cut, or turned, becomes that of the pixels that are left.
    """
    whole = _move_boxes(np.array([truth.box for truth in picture.truths], np.float32).reshape(-1, 4), matrix)
    boxes = np.clip(whole, 0, (size[1], size[0]) * 2)
    drawn = {i: _draw(picture.truths[i], matrix, size) for i in np.flatnonzero(_areas(boxes))}
    drawn = {i: rle for i, rle in drawn.items() if mask.area(rle)}
    truths, rles = [picture.truths[i] for i in drawn], list(drawn.values())
    whole, boxes = whole[list(drawn)], boxes[list(drawn)]
    mostly_cut = _areas(boxes) < min_visible * _areas(whole)
    for row in np.flatnonzero((boxes != whole).any(1) | _turns(matrix)):
        y, x, height, width = mask.toBbox(rles[row])
        boxes[row] = x, y, x + width, y + height
    return Sample(
        image=_paint(pixels, matrix, size, fill, colour),
        boxes=boxes.astype(np.float32),
        labels=np.array([truth.label for truth in truths], np.int64),
        masks=mask.decode(rles).T.view(bool) if rles else np.zeros((0, *size), bool),
        crowd=np.array([truth.crowd for truth in truths], bool) | mostly_cut,
    )


def window_to_size(window: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The map [3, 3] that stretches a window (xyxy, picture coordinates) to `size` (height, width)."""
    x1, y1, x2, y2 = window
    sx, sy = size[1] / (x2 - x1), size[0] / (y2 - y1)
    return np.array([[sx, 0, -x1 * sx], [0, sy, -y1 * sy], [0, 0, 1]])


def mask_bounds(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The box [4] around the pixels set, of which there are some."""
    xs, ys = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
    return np.array((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), np.float32)


def _paint(
    pixels: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    fill: tuple[float, float, float],
    colour: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """The picture under the map, coloured, on a canvas of the fill; only the part it covers is computed."""
    canvas = np.tile(np.full((size[1], 3), np.rint(fill), np.uint8), (size[0], 1, 1))  # whole rows are quicker to copy
    height, width = pixels.shape[:2]
    (box,) = _move_boxes(np.array([(0, 0, width, height)], np.float32), matrix)
    x1, y1, x2, y2 = np.ceil(np.clip(box, 0, (size[1], size[0]) * 2) - 0.5).astype(int)  # pixels whose centres it has
    region = canvas[y1:y2, x1:x2]
    if region.size:
        part = np.array([[1, 0, -x1], [0, 1, -y1], [0, 0, 1]]) @ matrix
        painted = colour(_warp(pixels, part, region.shape[:2], cv2.INTER_LINEAR, cv2.BORDER_REPLICATE))
        if _turns(matrix):  # the picture does not fill its box
            inside = _warp(np.ones((height, width), np.uint8), part, region.shape[:2], cv2.INTER_NEAREST)
            cv2.copyTo(painted, inside, region)
        else:
            region[:] = painted
    return canvas


def _warp(
    pixels: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    how: int,
    border: int = cv2.BORDER_CONSTANT,
) -> NDArray[np.uint8]:
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from pixel centres
    matrix = np.linalg.inv(half) @ matrix @ half
    return np.asarray(cv2.warpAffine(pixels, matrix[:2], size[::-1], flags=how, borderMode=border), np.uint8)


def _turns(matrix: NDArray[np.float64]) -> bool:
    """Whether a map takes upright rectangles to others."""
    return bool(matrix[0, 1] or matrix[1, 0])


def _draw(truth: Truth, matrix: NDArray[np.float64], size: tuple[int, int]) -> dict[str, Any]:
    """The RLE of an object's mask, transposed: what is a column of an RLE is a row of an array once it is decoded."""
    if isinstance(truth.segmentation, list):
        polygons = [(p @ matrix[:2, :2].T + matrix[:2, 2])[:, ::-1].ravel() for p in truth.segmentation]
        return mask.merge(mask.frPyObjects(polygons, *size[::-1]))
    pixels = _warp(mask.decode(truth.segmentation), matrix, size, cv2.INTER_NEAREST)
    return cast("dict[str, Any]", mask.encode(pixels.T))


def _move_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The boxes [n, 4] around the moved corners of boxes."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array((boxes[:, 2:] - boxes[:, :2]).prod(1))
