"""Masks as COCO's run lengths: pycocotools.mask, function for function, over NumPy and without torch.

Results equal pycocotools' to the byte, dtypes and shapes included. What differs is on the safe side: arrays of any
layout and of bool are taken as well as column-major uint8; a pixel that is not zero is one, where pycocotools
compares bytes; a string that is broken, or covers more or fewer pixels than its size has, raises ValueError in
every function, where pycocotools reads or returns memory that is not its own; runs of no pixels between others change
nothing. What takes long releases the GIL.

A mask is a dictionary {"size": [H, W], "counts": ...}: counts are bytes in results, str or bytes in arguments. A
box is x, y, width, height in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolact import _mask

Rle = dict[str, Any]

__all__ = ["area", "decode", "encode", "frPyObjects", "iou", "merge", "toBbox"]


def encode(bimask: np.ndarray) -> Rle | list[Rle]:
    """Encode a mask [H, W], or N masks [H, W, N], of dtype uint8 or bool and in any memory layout.

    Returns:
        One dictionary for [H, W], a list of N for [H, W, N].

    Raises:
        TypeError, ValueError: an array of another dtype or number of dimensions.
    """
    return _mask.encode(bimask)


def decode(rleObjs: Rle | list[Rle]) -> np.ndarray:
    """Decode one mask to [H, W] uint8, or a list of N masks of one size to [H, W, N], column-major.

    Raises:
        ValueError: an empty list, masks of different sizes, a broken string.
    """
    return _mask.decode(rleObjs)


def area(rleObjs: Rle | list[Rle]) -> np.ndarray | np.uint32:
    """Count the ones of one mask, a uint32, or of each of a list, [N] uint32.

    Raises:
        ValueError: a broken string.
    """
    return _mask.area(rleObjs)


def toBbox(rleObjs: Rle | list[Rle]) -> np.ndarray:
    """Find the smallest box around one mask, [4] float64, or each of a list, [N, 4]; zeros for an empty mask.

    Raises:
        ValueError: a broken string.
    """
    return _mask.toBbox(rleObjs)


def merge(rleObjs: list[Rle], intersect: bool | int = False) -> Rle:
    """Unite a list of masks, or intersect them; of different sizes or none at all, the result has size [0, 0].

    Raises:
        ValueError: a broken string.
    """
    return _mask.merge(rleObjs, intersect)


def iou(
    dt: list[Rle] | Sequence[Sequence[float]] | np.ndarray,
    gt: list[Rle] | Sequence[Sequence[float]] | np.ndarray,
    pyiscrowd: Sequence[int] | np.ndarray,
) -> np.ndarray | list[Any]:
    """Compute the intersection over union of every detection with every truth, masks or boxes.

    With a crowd, a truth that covers several objects, the denominator is the detection's own area.

    Args:
        dt: M masks, or M boxes as lists or as an array [M, 4].
        gt: N of the same kind.
        pyiscrowd: N flags, non-zero for a crowd.

    Returns:
        [M, N] float64, column-major; an empty list where either side is empty. -1 for two masks of different sizes
        whose boxes meet.

    Raises:
        TypeError, ValueError: arguments of another form or of different kinds, a broken string.
    """
    return _mask.iou(dt, gt, pyiscrowd)


def frPyObjects(pyobj: Any, h: int, w: int) -> Any:
    """Make masks of polygons, boxes or uncompressed run lengths.

    Polygons are drawn as COCO's evaluation draws them: on a grid five times as fine, a column's pixels changing
    where an edge crosses its centre. Parts of one object are separate masks here; `merge` unites them.

    Args:
        pyobj: a list of polygons (each x and y in turn, more than four numbers), a list or array [N, 4] of boxes, a
            list of dictionaries with uncompressed counts; or one polygon, box or dictionary.
        h: height of the picture in pixels; dictionaries bring their own size.
        w: width of the picture.

    Returns:
        A list of dictionaries, or one for a single object.

    Raises:
        TypeError, ValueError: an object of another form, a vertex that is not finite or farther out than 1e14,
            counts that do not cover the size.
    """
    return _mask.frPyObjects(pyobj, h, w)
