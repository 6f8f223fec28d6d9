"""Masks as COCO's run lengths: pycocotools.mask, function for function, over NumPy and without torch.

Results equal pycocotools' to the byte, dtypes and shapes included. What differs is on the safe side: arrays of any
layout and of bool are taken as well as column-major uint8; a pixel that is not zero is one, where pycocotools
compares bytes; a string that is broken, or covers more or fewer pixels than its size has, raises ValueError in
every function, where pycocotools reads or returns memory that is not its own. Each function releases the GIL while
it computes.

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
    bimask = np.asarray(bimask)
    if bimask.ndim == 2:
        return _mask.encode(bimask[:, :, None])[0]
    return _mask.encode(bimask)


def decode(rleObjs: Rle | list[Rle]) -> np.ndarray:
    """Decode one mask to [H, W] uint8, or a list of N masks of one size to [H, W, N], column-major.

    Raises:
        ValueError: an empty list, masks of different sizes, a broken string.
    """
    if isinstance(rleObjs, list):
        return _mask.decode(rleObjs)
    return _mask.decode([rleObjs])[:, :, 0]


def area(rleObjs: Rle | list[Rle]) -> np.ndarray | np.uint32:
    """Count the ones of one mask, a uint32, or of each of a list, [N] uint32.

    Raises:
        ValueError: a broken string.
    """
    if isinstance(rleObjs, list):
        return _mask.area(rleObjs)
    return _mask.area([rleObjs])[0]


def toBbox(rleObjs: Rle | list[Rle]) -> np.ndarray:
    """Find the smallest box around one mask, [4] float64, or each of a list, [N, 4]; zeros for an empty mask.

    Raises:
        ValueError: a broken string.
    """
    if isinstance(rleObjs, list):
        return _mask.bounding_boxes(rleObjs)
    return _mask.bounding_boxes([rleObjs])[0]


def merge(rleObjs: list[Rle], intersect: bool | int = False) -> Rle:
    """Unite a list of masks, or intersect them; of different sizes or none at all, the result has size [0, 0].

    Raises:
        ValueError: a broken string.
    """
    return _mask.merge(rleObjs, bool(intersect))


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
    crowd = np.asarray(pyiscrowd, dtype=np.uint8)
    if crowd.shape != (len(gt),):
        raise ValueError(f"pyiscrowd must hold a flag for each of the {len(gt)} truths, got {crowd.size}")
    if len(dt) == 0 or len(gt) == 0:
        return []
    if _are_rles(dt) and _are_rles(gt):
        return _mask.mask_iou(dt, gt, crowd)
    return _mask.box_iou(_boxes(dt, "dt"), _boxes(gt, "gt"), crowd)


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
    if isinstance(pyobj, dict):
        return _mask.compress(pyobj["counts"], pyobj["size"])
    if isinstance(pyobj, list) and pyobj and np.isscalar(pyobj[0]):
        return _draw([pyobj], h, w)[0]
    return _draw(pyobj, h, w)


def _draw(objects: Any, h: int, w: int) -> list[Rle]:
    """`frPyObjects` of several objects; the first one tells what all are."""
    if isinstance(objects, np.ndarray):
        return _mask.polygons(_corners(objects), h, w)
    if not isinstance(objects, list) or not objects:
        raise TypeError(f"pyobj must be a non-empty list, an array or a dictionary, got {objects!r}")
    if isinstance(objects[0], dict):
        return [_mask.compress(rle["counts"], rle["size"]) for rle in objects]
    if len(objects[0]) < 4:
        raise ValueError(f"a polygon must have more than four numbers, a box four, got {objects[0]!r}")
    if len(objects[0]) == 4:
        return _mask.polygons(_corners(np.asarray(objects, dtype=np.float64)), h, w)
    return _mask.polygons(objects, h, w)


def _are_rles(objects: Any) -> bool:
    return isinstance(objects, list) and all(isinstance(rle, dict) for rle in objects)


def _boxes(objects: Any, name: str) -> np.ndarray:
    """[N, 4] float64 of boxes in any form."""
    if _are_rles(objects):
        raise TypeError(f"dt and gt must be of one kind, but {name} holds masks and the other boxes")
    boxes = np.asarray(objects, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must be masks, or boxes of shape [N, 4], got shape {list(boxes.shape)}")
    return boxes


def _corners(objects: np.ndarray) -> np.ndarray:
    """[N, 8], each box as a polygon."""
    x, y, width, height = _boxes(objects, "pyobj").T
    return np.stack([x, y, x, y + height, x + width, y + height, x + width, y], axis=1)
