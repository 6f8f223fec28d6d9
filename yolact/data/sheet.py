"""Sheets of samples to look at: pictures side by side, their truths drawn on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolact.data.coco import CocoDataset
from yolact.data.render import Sample, render, window_to_size
from yolact.draw import draw
from yolact.errors import UserError

CELL = 480  # pixels, the longer side of a picture on the sheet
MARGIN = 8
PAPER = 255


def dataset_sheet(dataset: CocoDataset, count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures of a data set drawn at random, as they are annotated; those that do not read are left out.

    Raises:
        UserError: none of them reads.
    """
    cells: list[NDArray[np.uint8]] = []
    for row in np.random.default_rng(seed).permutation(len(dataset)).tolist():
        picture = dataset.pictures[row]
        try:
            pixels = picture.read()
        except UserError:
            continue
        scale = CELL / max(picture.height, picture.width)
        size = max(round(picture.height * scale), 1), max(round(picture.width * scale), 1)
        matrix = window_to_size(np.array((0.0, 0.0, picture.width, picture.height)), size)
        cells.append(draw_sample(render(picture, pixels, matrix, size), dataset.class_names))
        if len(cells) == count:
            break
    if not cells:
        raise UserError("there is no picture to draw")
    return contact_sheet(cells)


def draw_sample(sample: Sample, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """A sample's picture with its masks, boxes and class names."""
    marks = [" (crowd)" if crowd else "" for crowd in sample.crowd]
    names = [f"{class_names[label]}{mark}" for label, mark in zip(sample.labels, marks, strict=True)]
    return draw(sample.image, sample.masks, sample.boxes, sample.labels.tolist(), names)


def contact_sheet(cells: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in rows of about as many as there are rows, each in the middle of its cell."""
    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    height, width = (max(cell.shape[axis] for cell in cells) + MARGIN for axis in (0, 1))
    sheet = np.full((rows * height + MARGIN, columns * width + MARGIN, 3), PAPER, np.uint8)
    for i, cell in enumerate(cells):
        h, w = cell.shape[:2]
        y = i // columns * height + MARGIN + (height - MARGIN - h) // 2
        x = i % columns * width + MARGIN + (width - MARGIN - w) // 2
        sheet[y : y + h, x : x + w] = cell
    return sheet
