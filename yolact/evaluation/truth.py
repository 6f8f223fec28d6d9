"""What an evaluation compares, the truth and the results: read and checked before anything is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolact import mask
from yolact.data.coco import OBJECT, OBJECT_ID, choose_classes, read_json
from yolact.data.fields import brief, reason, string
from yolact.errors import UserError

Record = dict[str, Any]  # an object of COCO's JSON

_OWN_SCORES = {"bbox": "box_score", "segmentation": "mask_score"}
_NUMBERS = (float, int, np.floating, np.integer)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotations of a data set as evaluators take them: whole, and no box cut to its picture."""

    path: Path
    sizes: dict[int, tuple[int, int]]  # (height, width) by picture id, in the file's order
    categories: dict[int, str]  # names by id, ids rising
    annotations: list[Record]  # id from 1, image_id, category_id, bbox, area, iscrowd; a segmentation is an RLE
    is_class_agnostic: bool = False  # then results of whatever category are of the one class there is

    def only(self, classes: Sequence[str]) -> GroundTruth:
        """The truth of some classes, each given by its name or its id; of all when none is given.

        Raises:
            UserError: there is no such class.
        """
        if not classes:
            return self
        chosen = choose_classes(self.path, self.categories, classes)
        return replace(
            self,
            categories={id: name for id, name in self.categories.items() if id in chosen},
            annotations=[record for record in self.annotations if record["category_id"] in chosen],
        )

    def class_agnostic(self) -> GroundTruth:
        """The same objects, all of one class, as results will be."""
        annotations = [{**record, "category_id": OBJECT_ID} for record in self.annotations]
        return replace(self, categories={OBJECT_ID: OBJECT}, annotations=annotations, is_class_agnostic=True)


def read_truth(annotations: str | Path) -> GroundTruth:
    """Read the truth of an evaluation, a JSON file in COCO's format.

    Annotations are counted anew from 1: pycocotools takes the id 0 for "not found", and a repeated one for one object.
    Where `area` is missing it is the mask's, where `iscrowd` is it is 0; an empty segmentation is an empty mask.

    Raises:
        UserError: naming the file and the first fault found.
    """
    path = Path(annotations)
    content = read_json(path)
    try:
        return _parse(content, path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_results(results: str | Path | Sequence[Record], truth: GroundTruth) -> list[Record]:
    """Check a COCO results list, or the file that holds it, against the truth's pictures and categories.

    Returns:
        The results with plain numbers; a "bbox", a "segmentation", a "box_score" or a "mask_score" is in each where the
        first has it.

    Raises:
        UserError: naming the first result with a fault: it is of a picture or a category that the truth lacks, its
            score is no finite number, its box no box, its mask not of its picture's size.
    """
    if not isinstance(results, (str, Path)):
        return _results(results, truth)
    content = read_json(Path(results))
    try:
        return _results(content, truth)
    except UserError as error:
        raise UserError(f"{results}: {error}") from None


def score_of(result: Record, key: str) -> float:
    """What a result's "bbox" or its "segmentation" is ranked by: its own score, where they have scores apart."""
    own = _OWN_SCORES[key]
    return result[own if own in result else "score"]


def _parse(content: Any, path: Path) -> GroundTruth:
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"holds no list {key!r}, so there is no truth in it")
        if not content[key] and key != "annotations":
            raise UserError(f"its list {key!r} is empty")
    sizes: dict[int, tuple[int, int]] = {}
    for image in map(_record, content["images"]):
        id, height, width = (_integer(image, key) for key in ("id", "height", "width"))
        if id in sizes:
            raise UserError(f"names picture id {id} twice")
        if min(height, width) <= 0:
            raise UserError(f"picture {id}: height and width are {(height, width)}, they must be positive")
        sizes[id] = height, width
    categories = {
        _integer(category, "id"): string(category, "name") for category in map(_record, content["categories"])
    }
    if len(categories) < len(content["categories"]):
        raise UserError("names a category id twice")
    truth = GroundTruth(path, sizes, dict(sorted(categories.items())), [])
    annotations = []
    for number, annotation in enumerate(map(_record, content["annotations"]), 1):
        try:
            annotations.append({"id": number, **_annotation(annotation, truth)})
        except UserError as error:
            raise UserError(f"annotation {brief(annotation.get('id', number))}: {error}") from None
    return replace(truth, annotations=annotations)


def _annotation(annotation: Record, truth: GroundTruth) -> Record:
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(f"iscrowd is {brief(crowd)}, wanted 0 or 1")
    checked = {**_place(annotation, truth), "bbox": _box(annotation), "iscrowd": int(crowd)}
    if annotation.get("segmentation") is not None:
        checked["segmentation"] = _mask(annotation["segmentation"], truth.sizes[checked["image_id"]])
    if annotation.get("area") is not None:
        return {**checked, "area": _number(annotation, "area")}
    if "segmentation" not in checked:
        raise UserError("has neither an area nor a segmentation")
    return {**checked, "area": float(mask.area(checked["segmentation"]))}


def _results(results: Any, truth: GroundTruth) -> list[Record]:
    if not isinstance(results, (list, tuple)):
        raise UserError(f"the results are no list of detections but a {type(results).__name__}")
    first = _record(results[0]) if results else dict.fromkeys(_OWN_SCORES)
    keys = [key for key in (*_OWN_SCORES, *_OWN_SCORES.values()) if key in first]
    if not any(key in _OWN_SCORES for key in keys):
        raise UserError("the results have neither a bbox nor a segmentation")
    checked = []
    for position, result in enumerate(results, 1):
        try:
            checked.append(_result(_record(result), keys, truth))
        except UserError as error:
            raise UserError(f"result {position} of {len(results)}: {error}") from None
    return checked


def _result(result: Record, keys: list[str], truth: GroundTruth) -> Record:
    scores = ["score", *(key for key in keys if key in _OWN_SCORES.values())]
    checked = {**_place(result, truth), **{key: _number(result, key) for key in scores}}
    if "bbox" in keys:
        checked["bbox"] = _box(result)
    if "segmentation" in keys:
        rle, size = result.get("segmentation"), truth.sizes[checked["image_id"]]
        if not isinstance(rle, dict) or not isinstance(rle.get("counts"), (str, bytes)):
            raise UserError("its segmentation is no RLE with a string, the only form that results have")
        checked["segmentation"] = _mask(rle, size)
    return checked


def _place(record: Record, truth: GroundTruth) -> Record:
    """Which picture and which category."""
    place = {key: _integer(record, key) for key in ("image_id", "category_id")}
    if place["image_id"] not in truth.sizes:
        raise UserError(f"image_id {place['image_id']} is not among the truth's pictures")
    if truth.is_class_agnostic:
        place["category_id"] = OBJECT_ID
    if place["category_id"] not in truth.categories:
        raise UserError(f"category_id {place['category_id']} is not among the truth's categories")
    return place


def _mask(segmentation: Any, size: tuple[int, int]) -> Record:
    """Polygons or any RLE as a compressed RLE of the picture's size."""
    try:
        if segmentation == []:
            segmentation = {"size": list(size), "counts": [size[0] * size[1]]}
        if isinstance(segmentation, list):
            segmentation = mask.merge(mask.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            segmentation = mask.frPyObjects(segmentation, *size)
        if tuple(segmentation["size"]) != size:
            raise ValueError(f"its RLE has size {brief(segmentation['size'])}, its picture {list(size)}")
        mask.area(segmentation)  # reads it
        counts = segmentation["counts"]
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise UserError(f"its segmentation does not read ({reason(error)})") from None
    return {"size": list(size), "counts": counts if isinstance(counts, str) else counts.decode()}


def _record(value: Any) -> Record:
    if not isinstance(value, dict):
        raise UserError(f"holds {brief(value)} where an object belongs")
    return value


def _integer(record: Record, key: str) -> int:
    value = record.get(key)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise UserError(f"{key} is {brief(value)}, wanted a whole number of 64 bits")
    return int(value)


def _number(record: Record, key: str) -> float:
    value = record.get(key)
    if not _is_finite(value):
        raise UserError(f"{key} is {brief(value)}, wanted a finite number")
    return float(value)  # type: ignore[arg-type]


def _box(record: Record) -> list[float]:
    box = record.get("bbox")
    try:
        numbers = [float(value) for value in box if _is_finite(value)]  # type: ignore[union-attr]
    except TypeError:  # nothing to iterate over
        numbers = []
    if len(numbers) != 4 or len(box) != 4 or min(numbers[2:]) < 0:  # type: ignore[arg-type]
        raise UserError(f"bbox is {brief(box)}, wanted four numbers x, y, width, height")
    return numbers


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, _NUMBERS) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
