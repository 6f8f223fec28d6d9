"""Annotated pictures: translucent masks with contours, boxes and tags, in colours that stay with a class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MASK_OPACITY, _BOX_OPACITY = 0.45, 0.6
_GOLDEN_ANGLE = 137.508  # degrees: successive hues stay far apart however many there are
_LIGHTNESS = (0.74, 0.62, 0.84)  # in turn, so that neighbouring hues differ once more

RGB = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # x, y, width, height


class Crop(NamedTuple):
    """The part of a mask that holds all its pixels."""

    mask: np.ndarray  # [h, w] bool or uint8
    x: int  # of its upper left pixel in the picture
    y: int


@cache
def colour(label: int) -> RGB:
    """The colour of a class: hues by the golden angle at one vividness, in OKLCH (Ottosson 2020), then to sRGB."""
    lightness, chroma, hue = _LIGHTNESS[label % len(_LIGHTNESS)], 0.19, math.radians(25 + label * _GOLDEN_ANGLE)
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return _to_srgb(red), _to_srgb(green), _to_srgb(blue)


def _to_srgb(linear: float) -> int:
    linear = min(max(linear, 0.0), 1.0)
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


def draw(
    picture: np.ndarray,  # [H, W, 3] uint8 RGB
    masks: Iterable[np.ndarray | Crop],  # N times [H, W] bool or uint8, or a part, taken one at a time
    boxes: np.ndarray,  # [N, 4] xyxy, pixels
    labels: Sequence[int],  # [N] classes: the colours
    texts: Sequence[str],  # [N] tags
) -> np.ndarray:  # [H, W, 3] uint8 RGB, a new array
    """Draw instances over a picture, later ones over earlier ones; lines and letters grow with the picture.

    Tags lie over all masks; the last instance has the choice of place for its own, the others move to where they cover
    no tag if they can. Contours are lighter than their masks: touching instances of one class stay apart.
    """
    canvas = np.array(picture, order="C")
    texts = [text.encode(errors="replace").decode() for text in texts]  # half a character would crash OpenCV
    unit = math.sqrt(canvas.shape[0] * canvas.shape[1]) / 640  # 1 for a picture about as large as 640 x 640
    for mask, label in zip(masks, labels, strict=True):
        crop = mask if isinstance(mask, Crop) else Crop(mask, 0, 0)
        _draw_mask(canvas, crop, colour(label), line=max(1, round(2 * unit)))
    corners = np.rint(boxes).astype(int).tolist()
    outlined = canvas.copy()
    for (x1, y1, x2, y2), label in zip(corners, labels, strict=True):
        cv2.rectangle(outlined, (x1, y1), (x2 - 1, y2 - 1), colour(label), max(1, round(unit)), cv2.LINE_AA)
    cv2.addWeighted(outlined, _BOX_OPACITY, canvas, 1 - _BOX_OPACITY, 0, dst=canvas)
    tags = np.zeros(canvas.shape[:2], np.int32)  # how many lie over each pixel
    places = [_place_tag(text, box, unit, tags) for box, text in zip(reversed(corners), reversed(texts), strict=True)]
    for place, label, text in zip(reversed(places), labels, texts, strict=True):
        _draw_tag(canvas, text, place, colour(label), unit)
    return canvas


def _draw_mask(canvas: np.ndarray, crop: Crop, rgb: RGB, line: int) -> None:
    mask = np.asarray(crop.mask, np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if width == 0:
        return
    x, y = crop.x + left, crop.y + top
    inside, region = mask[top : top + height, left : left + width], canvas[y : y + height, x : x + width]
    plain = np.frombuffer(bytes(rgb) * (height * width), np.uint8).reshape(region.shape)  # 50 times as fast as np.full
    tinted = cv2.addWeighted(region, 1 - _MASK_OPACITY, plain, _MASK_OPACITY, 0)
    cv2.copyTo(tinted, inside, region)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    light = tuple((255 + channel) // 2 for channel in rgb)
    cv2.drawContours(canvas, contours, -1, light, line, cv2.LINE_AA)


def _place_tag(
    text: str,
    box: list[int],
    unit: float,
    tags: np.ndarray,  # [H, W] int32, how many lie over each pixel; this one is added
) -> Rectangle:
    """At one of the box's corners, inside the picture, where it covers least of the other tags."""
    scale, weight, pad = _letters(unit)
    (width, ascent), descent = cv2.getTextSize(text, _FONT, scale, weight)
    width, height = width + 2 * pad, ascent + descent + 2 * pad
    x1, y1, x2, y2 = box
    corners = [
        (max(0, min(left, tags.shape[1] - width)), max(0, min(top, tags.shape[0] - height)))
        for top in (y1 - height, y1, y2, y2 - height)
        for left in (x1, x2 - width)
    ]
    x, y = min(corners, key=lambda corner: cv2.sumElems(tags[corner[1] :, corner[0] :][:height, :width])[0])
    tags[y : y + height, x : x + width] += 1
    return x, y, width, height


def _draw_tag(canvas: np.ndarray, text: str, place: Rectangle, rgb: RGB, unit: float) -> None:
    scale, weight, pad = _letters(unit)
    x, y, width, height = place
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), rgb, cv2.FILLED)
    bright = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    _, descent = cv2.getTextSize(text, _FONT, scale, weight)
    cv2.putText(canvas, text, (x + pad, y + height - pad - descent), _FONT, scale, ink, weight, cv2.LINE_AA)


def _letters(unit: float) -> tuple[float, int, int]:
    """Scale and weight of the letters, and the margin around them."""
    return max(0.35, 0.48 * unit), max(1, round(0.9 * unit)), max(2, round(3 * unit))
