"""COCO's twelve numbers for boxes and for masks, by pycocotools' own evaluation."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolact.data.coco import read_coco, read_json
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.predictor import Model

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
SCORE_THRESHOLD = 0.05  # what the published numbers were counted at


def detect_dataset(
    model: Model, annotations: str | Path, images: str | Path, batch_size: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """Detect on every picture of a data set, for `evaluate`: at most 100 a picture, scores above 0.05.

    Args:
        model: its category ids are the data set's.
        annotations: the JSON file that names the pictures; the truths in it are not looked at.
        images: the folder that its file names are relative to.

    Yields:
        COCO results, a list for each picture, in the file's order.

    Raises:
        UserError: the file or a picture does not read, or the model was trained for other categories.
    """
    dataset = read_coco(annotations, images, truths=False)
    unknown = sorted(set(model.config.category_ids) - set(dataset.category_ids))
    if unknown:
        raise UserError(f"{annotations}: the model detects category ids {unknown} that are not in it")
    pictures = iter(dataset.pictures)
    while batch := list(islice(pictures, batch_size)):
        pixels = [picture.read() for picture in batch]
        detected = model.predict(pixels, score_threshold=SCORE_THRESHOLD, batch_size=batch_size)
        for picture, instances in zip(batch, detected, strict=True):
            yield instances.to_coco(picture.id)


def evaluate(results: str | Path | Sequence[dict[str, Any]], annotations: str | Path) -> dict[str, dict[str, float]]:
    """Score a COCO results list against the truth.

    Args:
        results: the list or the JSON file that holds it.
        annotations: the truth, a JSON file in COCO's format.

    Returns:
        "bbox" and "segm", each where the results have it: the METRICS, 0..1, or -1 where the truth has nothing to
        count. The area of a detection is its box's in "bbox", its mask's in "segm".

    Raises:
        UserError: a file does not read or is of another format; a result names a picture or a category that the
            truth lacks, its score is no finite number or its mask not of its picture's size; pycocotools is not
            installed.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise UserError("evaluation needs pycocotools: pip install 'yolact[eval]'") from None
    if isinstance(results, (str, Path)):
        results = read_json(Path(results))
    if not isinstance(results, (list, tuple)) or not all(isinstance(r, dict) for r in results):
        raise UserError("the results are no list of detections")
    truth = COCO()
    truth.dataset = read_json(Path(annotations))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells its progress
        try:
            truth.createIndex()
            strangers = {r["image_id"] for r in results} - truth.imgs.keys()
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{annotations}: does not fit the results, or one of them is not in COCO's format ({error!r})"
            ) from None
        if strangers or not truth.imgs:
            raise UserError(f"{annotations}: has no pictures {sorted(strangers)[:3]}, which the results name")
        for position, result in enumerate(results, 1):
            _check(result, truth, f"result {position} of {len(results)}")
        kinds = {"bbox": "bbox", "segm": "segmentation"}
        kinds = {kind: key for kind, key in kinds.items() if all(key in result for result in results)}
        if not kinds:
            raise UserError("the results have neither all a bbox nor all a segmentation")
        return {kind: _evaluate(truth, results, kind, key) for kind, key in kinds.items()}


def _check(result: dict[str, Any], truth: Any, name: str) -> None:
    """Refuse what pycocotools would fail on or count as nothing found."""
    score, category_id, segmentation = (result.get(key) for key in ("score", "category_id", "segmentation"))
    if not isinstance(score, Real) or not math.isfinite(score):
        raise UserError(f"{name}: score is {score!r}, wanted a finite number")
    if not isinstance(category_id, Integral) or category_id not in truth.cats:
        raise UserError(f"{name}: category_id {category_id!r} is not among the truth's categories")
    if isinstance(segmentation, dict):
        picture = truth.imgs[result["image_id"]]
        size = [picture.get("height"), picture.get("width")]
        if segmentation.get("size") not in (size, tuple(size)):
            raise UserError(f"{name}: its RLE has size {segmentation.get('size')}, its picture {size}")


def _evaluate(truth: Any, results: Sequence[dict[str, Any]], kind: str, key: str) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if results:
        # Of this kind alone: given both, pycocotools would take a mask's area from its box.
        alone = [{name: result[name] for name in ("image_id", "category_id", "score", key)} for result in results]
        try:
            detections = truth.loadRes(alone)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"the results are not in COCO's format: a {key} does not read ({error})") from None
    else:
        detections = COCO()
        detections.dataset = {**truth.dataset, "annotations": []}
        detections.createIndex()
    evaluation = COCOeval(truth, detections, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(METRICS, map(float, evaluation.stats), strict=True))
