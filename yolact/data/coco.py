"""Data sets in COCO's format: read once, checked wholly, their masks left as polygons and run lengths until needed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.errors import UserError
from yolact.pictures import read_picture

Segmentation = list[NDArray[np.float64]] | dict[str, Any]  # polygons [n, 2] in pixels, or a compressed RLE


@dataclass(frozen=True, eq=False)
class Truth:
    """One annotated object of a picture."""

    box: NDArray[np.float32]  # [4] xyxy, pixels, inside the picture
    label: int  # 0-based
    segmentation: Segmentation
    crowd: bool


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a data set and what is annotated on it."""

    id: int
    path: Path
    height: int
    width: int
    truths: tuple[Truth, ...]  # none: a picture of background

    def read(self) -> NDArray[np.uint8]:
        """Decode the picture.

        Returns:
            [height, width, 3] uint8, RGB.

        Raises:
            UserError: the file is missing, cannot be decoded, or is not of the annotated size.
        """
        pixels = read_picture(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise UserError(f"{self.path}: is {found}, its annotations say {self.width}x{self.height}")
        return pixels


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """The pictures and classes of one annotation file."""

    pictures: tuple[Picture, ...]  # in the file's order
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the data set's own ids, rising, gaps allowed; label i is category_ids[i]

    def __len__(self) -> int:
        return len(self.pictures)


def read_coco(annotations: str | Path, images: str | Path, *, truths: bool = True) -> CocoDataset:
    """Read an annotation file in COCO's format (instances).

    Boxes are cut to their picture; an annotation without area is dropped, as is one whose object lies outside.

    Args:
        annotations: the JSON file, with `images`, `annotations` and `categories`.
        images: the folder that its file names are relative to; every picture must be there.
        truths: False to leave the annotations unread, which the file may then lack.

    Raises:
        UserError: naming the file and the first fault found.
    """
    path = Path(annotations)
    content = read_json(path)
    try:
        dataset = _parse(content, Path(images), truths)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for picture in dataset.pictures:  # told before the work, not when its turn comes
        if not picture.path.is_file():
            raise UserError(f"{picture.path}: there is no such file, and {path} names it")
    return dataset


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None


def _parse(content: Any, images: Path, with_truths: bool) -> CocoDataset:
    for key in ("images", "categories", *(["annotations"] if with_truths else [])):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"holds no list {key!r}, so it is no COCO annotation file")
    if not images.is_dir():
        raise UserError(f"the picture folder {images} does not exist")
    if not content["categories"]:
        raise UserError("names no category")

    categories = sorted(
        (_field(c, "id", int, "category"), str(_field(c, "name", str, "category"))) for c in content["categories"]
    )
    category_ids = tuple(id for id, _ in categories)
    if len(set(category_ids)) != len(category_ids):
        raise UserError("names a category id twice")
    label_of = {id: label for label, id in enumerate(category_ids)}

    sizes: dict[int, tuple[int, int]] = {}
    for image in content["images"]:
        id = _field(image, "id", int, "picture")
        if id in sizes:
            raise UserError(f"names picture id {id} twice")
        sizes[id] = (_field(image, "height", int, f"picture {id}"), _field(image, "width", int, f"picture {id}"))
        if min(sizes[id]) <= 0:
            raise UserError(f"picture {id}: height and width are {sizes[id]}, they must be positive")

    truths: dict[int, list[Truth]] = defaultdict(list)
    for position, annotation in enumerate(content["annotations"] if with_truths else []):
        name = f"annotation {annotation.get('id', position) if isinstance(annotation, dict) else position}"
        image_id = _field(annotation, "image_id", int, name)
        if image_id not in sizes:
            raise UserError(f"{name}: image_id {image_id} is not among the pictures")
        category_id = _field(annotation, "category_id", int, name)
        if category_id not in label_of:
            raise UserError(f"{name}: category_id {category_id} is not among the categories")
        truth = _truth(annotation, label_of[category_id], sizes[image_id], name)
        if truth is not None:
            truths[image_id].append(truth)

    pictures = tuple(
        Picture(
            image["id"],
            images / _field(image, "file_name", str, f"picture {image['id']}"),
            *sizes[image["id"]],
            tuple(truths[image["id"]]),
        )
        for image in content["images"]
    )
    return CocoDataset(pictures, tuple(name for _, name in categories), category_ids)


def _field(record: Any, key: str, kind: type, name: str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{name}: {key} is {value!r}, wanted {kind.__name__}")
    return value


def _truth(annotation: dict[str, Any], label: int, size: tuple[int, int], name: str) -> Truth | None:
    """One annotation checked and cut to its picture, or None where nothing of it lies inside."""
    height, width = size
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(_is_finite(v) for v in box)):
        raise UserError(f"{name}: bbox is {box!r}, wanted four numbers x, y, width, height")
    x, y, w, h = box
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    segmentation = _segmentation(annotation.get("segmentation"), size, name)
    if x2 <= x1 or y2 <= y1 or not segmentation:
        return None
    return Truth(np.array((x1, y1, x2, y2), np.float32), label, segmentation, bool(annotation.get("iscrowd", 0)))


def _segmentation(value: Any, size: tuple[int, int], name: str) -> Segmentation:
    """Polygons of at least three points, or a compressed RLE of the picture's size."""
    if isinstance(value, dict):
        if value.get("size") not in (list(size), size):
            raise UserError(f"{name}: its RLE has size {value.get('size')}, its picture {list(size)}")
        counts = value.get("counts")
        try:
            if isinstance(counts, list):
                value = mask.frPyObjects(value, *size)
            mask.area(value)
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise UserError(f"{name}: its RLE does not read ({error})") from None
        return value
    if not isinstance(value, list):
        raise UserError(f"{name}: segmentation is {type(value).__name__}, wanted polygons or an RLE")
    polygons = []
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(_is_finite(v) for v in polygon):
            raise UserError(f"{name}: a polygon is no flat list x1, y1, x2, y2, ...")
        if len(polygon) >= 6:
            polygons.append(np.array(polygon, np.float64).reshape(-1, 2))
    return polygons


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
