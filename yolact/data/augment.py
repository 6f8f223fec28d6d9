"""Augmentation of a picture, its boxes and its masks alike, every random choice drawn from the generator given.

Geometry is one affine map: the parts of the original's chain (expand, sample a crop, mirror, stretch to the network's
input) and a rotation are composed first, and the picture is rendered once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolact.data.records import Picture
from yolact.data.render import Sample, mask_bounds, render, window_to_size

# What a crop and every object must overlap by (IoU), drawn at random; None: the whole picture.
CROP_OVERLAPS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
CROP_ATTEMPTS = 50


@dataclass(frozen=True)
class Augmentation:
    """How strongly to augment; the defaults are the original's."""

    photometric: float = 0.5  # probability of each of brightness, contrast, saturation and hue
    expand: float = 0.5  # probability of placing the picture on a larger canvas
    max_expand: float = 4.0  # sides of that canvas, at most, in sides of the picture
    crop: bool = True  # sample a crop that shows an object's centre
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


def sample_view(
    picture: Picture,
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    options: Augmentation,
    fill: tuple[float, float, float],
    rng: np.random.Generator,
) -> Sample:
    """One randomly chosen view of a picture: distorted, expanded, cropped, mirrored, turned, stretched to `size`.

    The chain is SSD's, as the original and mmdetection have it. Where they differ it is mmdetection's: the original
    draws a least overlap for the crop and then does not hold to it.

    Args:
        pixels: [height, width, 3] uint8, RGB, the picture decoded.
        size: height and width.
        fill: the colour of what lies outside the picture, RGB, 0..255; no distortion changes it.
    """
    window = _expand(picture, options, rng)
    if options.crop:
        boxes = [truth.box for truth in picture.truths if not truth.crowd]
        window = _sample_crop(window, np.array(boxes, np.float32).reshape(-1, 4), options, rng)
    matrix = window_to_size(window, size)
    if rng.random() < options.mirror:
        matrix = np.array([[-1, 0, size[1]], [0, 1, 0], [0, 0, 1]]) @ matrix
    if options.rotation:
        matrix = _rotation(rng.uniform(-options.rotation, options.rotation), size) @ matrix
    return render(picture, pixels, matrix, size, fill, options.min_visible, partial(distort, options.photometric, rng))


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
    before, after = (np.array([np.count_nonzero(m) for m in masks]) for masks in (sample.masks, left))
    image, boxes = sample.image.copy(), sample.boxes.copy()
    cv2.copyTo(other.image, pasted.view(np.uint8), image)
    for i in np.flatnonzero((after < before) & (after > 0)):
        boxes[i] = mask_bounds(left[i])
    sample = Sample(
        image,
        boxes,
        sample.labels,
        left,
        sample.crowd | (after < min_visible * before),
        sample.unreadable + other.unreadable,
    ).select(after > 0)
    fields = ("boxes", "labels", "masks", "crowd")
    joined = {f: np.concatenate([getattr(sample, f), getattr(other, f)]) for f in fields}
    return Sample(sample.image, **joined, unreadable=sample.unreadable)


def distort(probability: float, rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Photometric distortion: brightness, contrast (before or after the colours), saturation and hue."""
    with_brightness, with_contrast, with_saturation, with_hue = rng.random(4) < probability
    contrast_first = rng.random() < 0.5
    brightness, contrast, saturation, hue = rng.uniform((-32, 0.5, 0.5, -18), (32, 1.5, 1.5, 18)).astype(np.float32)
    pixels: NDArray[Any] = image.astype(np.float32)
    if with_brightness:
        pixels += brightness
    if with_contrast and contrast_first:
        pixels *= contrast
    if with_saturation or with_hue:
        hsv = cv2.cvtColor(np.clip(pixels, 0, 255, out=pixels), cv2.COLOR_RGB2HSV)
        if with_saturation:
            hsv[..., 1] = np.minimum(hsv[..., 1] * saturation, 1)
        if with_hue:  # degrees
            turned = hsv[..., 0] + hue
            hsv[..., 0] = turned + np.float32(360) * (turned < 0) - np.float32(360) * (turned >= 360)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if with_contrast and not contrast_first:
        pixels *= contrast
    return np.clip(np.rint(pixels, out=pixels), 0, 255, out=pixels).astype(np.uint8)


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
    """A window within `window`, of aspect 1/2 to 2, that shows an object's centre and overlaps every object enough.

    Enough is drawn from CROP_OVERLAPS. Where nothing is annotated, any such window will do.
    """
    extent = window[2:] - window[:2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    while (least := CROP_OVERLAPS[rng.integers(len(CROP_OVERLAPS))]) is not None:
        sides = extent * rng.uniform(options.min_crop, 1, (CROP_ATTEMPTS, 2))
        corners = window[:2] + rng.random((CROP_ATTEMPTS, 2)) * (extent - sides)
        crops = np.concatenate([corners, corners + sides], axis=1)
        fit = (sides[:, 0] <= 2 * sides[:, 1]) & (sides[:, 1] <= 2 * sides[:, 0])
        if len(boxes):
            inside = np.all((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:]), axis=2)  # [attempts, n]
            fit &= inside.any(1) & (_ious(crops, boxes).min(1) >= least)
        if fit.any():
            return crops[fit.argmax()]
    return window


def _rotation(degrees: float, size: tuple[int, int]) -> NDArray[np.float64]:
    matrix = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), degrees, 1.0)
    return np.vstack([matrix, (0, 0, 1)])


def _ious(a: NDArray[np.float64], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU [m, n] of boxes [m, 4] with boxes [n, 4]."""
    corner = np.maximum(a[:, None, :2], b[:, :2])
    shared = np.clip(np.minimum(a[:, None, 2:], b[:, 2:]) - corner, 0, None).prod(2)
    return np.array(shared / ((a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1) - shared))
