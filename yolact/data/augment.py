"""Augmentation of a picture, its boxes and its masks alike, every random choice drawn from the generator given.

Geometry is one affine map: the parts of the original's chain (expand, sample a crop, mirror, stretch to the network's
input) and a rotation are composed first, then the pixels are sampled once, and polygons are moved as polygons and
rasterised once, at the size wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.data.records import Picture, Truth

CROP_OVERLAPS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)  # None: the whole picture; else what the best box must overlap by
CROP_ATTEMPTS = 50


@dataclass(frozen=True)
class Augmentation:
    """How strongly to augment; the defaults are the original's."""

    photometric: float = 0.5  # probability of each of brightness, contrast, saturation and hue
    expand: float = 0.5  # probability of placing the picture on a larger canvas
    max_expand: float = 4.0  # sides of that canvas, at most, in sides of the picture
    crop: bool = True  # sample a crop that overlaps an object
    min_crop: float = 0.3  # sides of a crop, at least, in sides of the picture
    mirror: float = 0.5  # probability
    rotation: float = 0.0  # degrees, at most, either way
    mosaic: float = 0.0  # probability of four pictures in one
    copy_paste: float = 0.0  # probability of objects of another picture on this one
    min_visible: float = 0.3  # an object of which less is left becomes a crowd: neither learnt nor held against

    @classmethod
    def none(cls) -> Augmentation:
        """The picture stretched to the network's input and nothing else."""
        return cls(photometric=0, expand=0, crop=False, mirror=0)


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
        return replace(
            self, boxes=self.boxes[keep], labels=self.labels[keep], masks=self.masks[keep], crowd=self.crowd[keep]
        )


def sample_view(
    picture: Picture,
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    options: Augmentation,
    fill: tuple[float, float, float],
    rng: np.random.Generator,
) -> Sample:
    """One randomly chosen view of a picture: expand, crop, mirror, rotate, stretched to `size` (height, width).

    Args:
        pixels: [height, width, 3] uint8, RGB, the picture decoded.
        fill: the colour of what lies outside the picture, RGB, 0..255.
    """
    window = _expand(picture, options, rng)
    if options.crop and picture.truths:
        window = _sample_crop(window, np.stack([t.box for t in picture.truths]), options, rng)
    matrix = window_to_size(window, size)
    if rng.random() < options.mirror:
        matrix = np.array([[-1, 0, size[1]], [0, 1, 0], [0, 0, 1]]) @ matrix
    if options.rotation:
        matrix = _rotation(rng.uniform(-options.rotation, options.rotation), size) @ matrix
    return render(picture, pixels, matrix, size, fill, options.min_visible)


def render(
    picture: Picture,
    pixels: NDArray[np.uint8],
    matrix: NDArray[np.float64],  # [3, 3] picture coordinates -> coordinates of the result, pixel i is [i, i + 1)
    size: tuple[int, int],
    fill: tuple[float, float, float] = (0, 0, 0),
    min_visible: float = 0.0,
) -> Sample:
    """A picture and its objects under an affine map; objects wholly outside are dropped."""
    height, width = size
    image = _warp(pixels, matrix, size, cv2.INTER_LINEAR, fill)
    count = len(picture.truths)
    boxes = np.zeros((count, 4), np.float32)
    masks = np.zeros((count, height, width), bool)
    crowd = np.array([t.crowd for t in picture.truths], bool)
    for i, truth in enumerate(picture.truths):
        moved = _move_box(truth.box, matrix)
        boxes[i] = np.clip(moved, 0, (width, height, width, height))
        if min(boxes[i, 2:] - boxes[i, :2]) <= 0:
            continue
        masks[i] = _rasterise(truth, matrix, size)
        crowd[i] |= _area(boxes[i]) < min_visible * _area(moved)
        if not np.array_equal(boxes[i], moved) or matrix[0, 1] or matrix[1, 0]:
            boxes[i] = _mask_bounds(masks[i])  # the box of what is still seen
    labels = np.array([t.label for t in picture.truths], np.int64)
    return Sample(image, boxes, labels, masks, crowd).select(_seen(masks))


def mosaic(samples: list[Sample], split: tuple[int, int], size: tuple[int, int]) -> Sample:
    """Four samples side by side (upper left, upper right, lower left, lower right), met at `split` (y, x)."""
    image = np.empty((*size, 3), np.uint8)
    masks = np.zeros((sum(len(s.labels) for s in samples), *size), bool)
    boxes, row = [], 0
    corners = ((0, 0), (0, split[1]), (split[0], 0), split)
    for sample, (y, x) in zip(samples, corners, strict=True):
        h, w = sample.image.shape[:2]
        image[y : y + h, x : x + w] = sample.image
        masks[row : row + len(sample.labels), y : y + h, x : x + w] = sample.masks
        boxes.append(sample.boxes + np.array((x, y, x, y), np.float32))
        row += len(sample.labels)
    labels, crowd = (np.concatenate([getattr(s, name) for s in samples]) for name in ("labels", "crowd"))
    unreadable = sum((s.unreadable for s in samples), ())
    return Sample(image, np.concatenate(boxes), labels, masks, crowd, unreadable)


def copy_paste(sample: Sample, other: Sample, min_visible: float, rng: np.random.Generator) -> Sample:
    """Objects of `other` pasted over `sample`, which is of the same size; what they cover is cut away."""
    other = other.select(~other.crowd & (rng.random(len(other.labels)) < 0.5))
    if not len(other.labels):
        return replace(sample, unreadable=sample.unreadable + other.unreadable)
    pasted = np.logical_or.reduce(other.masks)
    left = sample.masks & ~pasted
    before, after = sample.masks.sum((1, 2)), left.sum((1, 2))
    boxes = sample.boxes.copy()
    for i in np.flatnonzero((after < before) & (after > 0)):
        boxes[i] = _mask_bounds(left[i])
    sample = Sample(
        np.where(pasted[..., None], other.image, sample.image),
        boxes,
        sample.labels,
        left,
        sample.crowd | (after < min_visible * before),
        sample.unreadable + other.unreadable,
    ).select(after > 0)
    fields = ("boxes", "labels", "masks", "crowd")
    joined = {f: np.concatenate([getattr(sample, f), getattr(other, f)]) for f in fields}
    return Sample(sample.image, **joined, unreadable=sample.unreadable)


def distort(image: NDArray[np.uint8], probability: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Photometric distortion: brightness, contrast (before or after the colours), saturation and hue."""
    choices = rng.random(5) < probability
    brightness, contrast, saturation, hue = rng.uniform((-32, 0.5, 0.5, -18), (32, 1.5, 1.5, 18))
    pixels = image.astype(np.float32)
    if choices[0]:
        pixels += np.float32(brightness)
    contrast_first = choices[4]
    if choices[1] and contrast_first:
        pixels *= np.float32(contrast)
    if choices[2] or choices[3]:
        hsv = cv2.cvtColor(np.clip(pixels, 0, 255) / np.float32(255), cv2.COLOR_RGB2HSV)
        if choices[2]:
            hsv[..., 1] = np.minimum(hsv[..., 1] * np.float32(saturation), 1)
        if choices[3]:
            hsv[..., 0] = (hsv[..., 0] + np.float32(hue)) % 360
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(255)
    if choices[1] and not contrast_first:
        pixels *= np.float32(contrast)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def window_to_size(window: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The map [3, 3] that stretches a window (xyxy, picture coordinates) to `size` (height, width)."""
    x1, y1, x2, y2 = window
    sx, sy = size[1] / (x2 - x1), size[0] / (y2 - y1)
    return np.array([[sx, 0, -x1 * sx], [0, sy, -y1 * sy], [0, 0, 1]])


def _expand(picture: Picture, options: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """The window to look at: the picture, or a larger one with the picture somewhere in it."""
    if rng.random() >= options.expand:
        return np.array((0, 0, picture.width, picture.height), np.float64)
    ratio = rng.uniform(1, options.max_expand)
    left, top = rng.random(2) * (ratio - 1) * (picture.width, picture.height)
    return np.array((-left, -top, picture.width * ratio - left, picture.height * ratio - top))


def _sample_crop(
    window: NDArray[np.float64], boxes: NDArray[np.float32], options: Augmentation, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A window within `window`, of aspect 1/2 to 2, whose best overlap with a box is at least one drawn at random."""
    extent = window[2:] - window[:2]
    while (least := CROP_OVERLAPS[rng.integers(len(CROP_OVERLAPS))]) is not None:
        for _ in range(CROP_ATTEMPTS):
            sides = extent * rng.uniform(options.min_crop, 1, 2)
            if not 0.5 <= sides[0] / sides[1] <= 2:
                continue
            corner = window[:2] + rng.random(2) * (extent - sides)
            crop = np.concatenate([corner, corner + sides])
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = ((centres > crop[:2]) & (centres < crop[2:])).all(1)
            if inside.any() and _ious(crop, boxes[inside]).max() >= least:
                return crop
    return window


def _rotation(degrees: float, size: tuple[int, int]) -> NDArray[np.float64]:
    matrix = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), degrees, 1.0)
    return np.vstack([matrix, (0, 0, 1)])


def _warp(
    pixels: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int], how: int, fill: tuple[float, ...]
) -> NDArray[np.uint8]:
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from pixel centres
    matrix = np.linalg.inv(half) @ matrix @ half
    moved = cv2.warpAffine(
        pixels, matrix[:2], (size[1], size[0]), flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    return moved.astype(np.uint8, copy=False)


def _rasterise(truth: Truth, matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    if isinstance(truth.segmentation, list):
        polygons = [p @ matrix[:2, :2].T + matrix[:2, 2] for p in truth.segmentation]
        rles = mask.frPyObjects([p.ravel().tolist() for p in polygons], *size)
        return np.array(np.logical_or.reduce(mask.decode(rles), axis=2))
    return _warp(mask.decode(truth.segmentation), matrix, size, cv2.INTER_NEAREST, (0,)).astype(bool)


def _move_box(box: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The box around a box's moved corners."""
    corners = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)


def _mask_bounds(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The box [4] around the pixels set; zeros where none is."""
    xs, ys = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
    if not len(xs):
        return np.zeros(4, np.float32)
    return np.array((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), np.float32)


def _seen(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[n], which masks hold a pixel."""
    return np.array(np.count_nonzero(masks, axis=(1, 2)) > 0)


def _area(box: NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _ious(window: NDArray[np.float64], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU of one window with boxes [n, 4]."""
    shared = np.clip(np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2]), 0, None).prod(1)
    return shared / ((window[2:] - window[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared)
