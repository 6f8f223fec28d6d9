"""Pascal's Semantic Boundaries Dataset (Hariharan et al., ICCV 2011), in COCO's format.

The data set as its authors publish it is a folder of `img/NAME.jpg`, `inst/NAME.mat` and lists of names, `train.txt`
and `val.txt`. A file in `inst` holds a picture of instance numbers, from 1, and the class of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from yolact import mask
from yolact.classes import PASCAL_CLASSES
from yolact.errors import UserError


def convert_sbd(folder: Path, split: str) -> dict[str, Any]:
    """The content of an annotation file in COCO's format: the 20 classes of Pascal VOC, with their ids 1 to 20.

    Args:
        folder: the data set's, with `img`, `inst` and the lists.
        split: the name of a list, "train" or "val".

    Raises:
        UserError: a file is missing or holds something else, or scipy, which reads `.mat`, is not installed.
    """
    try:
        names = (folder / f"{split}.txt").read_text().split()
    except OSError as error:
        raise UserError(f"{folder / f'{split}.txt'}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise UserError(f"{folder / f'{split}.txt'}: is no list of names") from None
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for id, name in enumerate(names, 1):
        pixels, classes = _read_instances(folder / "inst" / f"{name}.mat")
        height, width = pixels.shape
        images.append({"id": id, "file_name": f"{name}.jpg", "height": height, "width": width})
        for annotation in _annotations(pixels, classes):
            annotations.append({"id": len(annotations) + 1, "image_id": id, **annotation})
    categories = [{"id": id, "name": name} for id, name in enumerate(PASCAL_CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _read_instances(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The instance numbers of a picture [H, W], and the class of each [n], from 1."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError("Pascal SBD's files need scipy: pip install 'yolact[sbd]'") from None
    try:
        content = loadmat(path)["GTinst"][0, 0]
        pixels, classes = content["Segmentation"], content["Categories"].ravel()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # scipy raises nearly anything on damaged bytes
        raise UserError(f"{path}: is no file of instances ({' '.join(str(error).split())})") from error
    if pixels.dtype.kind not in "iuf":
        raise UserError(f"{path}: its instances are of type {pixels.dtype}, wanted numbers")
    if pixels.ndim != 2 or pixels.max(initial=0) > len(classes):
        raise UserError(f"{path}: numbers {pixels.max(initial=0)} instances, and has the classes of {len(classes)}")
    if not np.isin(classes, range(1, len(PASCAL_CLASSES) + 1)).all():
        raise UserError(f"{path}: has classes {classes.tolist()}, wanted 1 to {len(PASCAL_CLASSES)}")
    return pixels, classes


def _annotations(pixels: np.ndarray, classes: np.ndarray) -> Iterator[dict[str, Any]]:
    """The instances that have a pixel."""
    rles = cast("list[mask.Rle]", mask.encode(pixels[:, :, None] == np.arange(1, len(classes) + 1)))
    for rle, category_id in zip(rles, classes.tolist(), strict=True):
        if area := int(mask.area(rle)):
            yield {
                "category_id": int(category_id),
                "bbox": mask.toBbox(rle).tolist(),
                "area": area,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "iscrowd": 0,
            }
