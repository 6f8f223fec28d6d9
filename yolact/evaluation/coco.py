"""COCO's twelve numbers for boxes and for masks, by an evaluator that counts as pycocotools does."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.errors import UserError
from yolact.evaluation.truth import GroundTruth, Record, read_results, read_truth, score_of

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
EVALUATORS = ("pycocotools", "faster-coco-eval", "hotcoco")
_QUIET = threading.Lock()  # stdout is the whole process's: of two that redirect it, one restores the other's
KINDS = {"bbox": "bbox", "segm": "segmentation"}  # what is scored, and the key of results that holds it


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, float]):
    """The METRICS of boxes or of masks, 0..1, or -1 where the truth has nothing to count; a mapping of their names."""

    metrics: dict[str, float]
    precision: NDArray[np.float64]  # [10, 101, C] at IoU .5:.95, recall 0:1, 100 detections, any size; -1: no truth
    class_names: tuple[str, ...]  # C, by rising category id
    truths: NDArray[np.int64]  # [C] objects to be found, crowds not counted

    def per_class(self) -> NDArray[np.float64]:
        """AP, AP50 and AP75 of each class: [C, 3], -1 where a class has no truth."""
        return np.stack([self.precision.mean((0, 1)), self.precision[0].mean(0), self.precision[5].mean(0)], 1)

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)


def evaluate(
    results: str | Path | Sequence[Record],
    annotations: str | Path,
    *,
    evaluator: str = "pycocotools",
    classes: Sequence[str] = (),
    class_agnostic: bool = False,
) -> dict[str, Scores]:
    """Score a COCO results list against the truth.

    Where results have a "box_score" and a "mask_score", as those of YOLACT++, boxes are ranked by the one and masks by
    the other; otherwise both by "score".

    Args:
        results: the list or the JSON file that holds it.
        annotations: the truth, a JSON file in COCO's format.
        evaluator: the package that counts, one of EVALUATORS; they give the same numbers, the later ones sooner.
        classes: names or ids of those to score; all when empty.
        class_agnostic: take all objects, and all detections, for ones of a single class, "object".

    Returns:
        "bbox" and "segm", each where the results have it. The area of a detection is its box's in "bbox", its mask's
        in "segm".

    Raises:
        UserError: a file does not read or is of another format, a result does not fit the truth (`read_results`
            tells how), there is no such class, or the evaluator is not installed.
    """
    truth = read_truth(annotations)
    truth = truth.class_agnostic() if class_agnostic else truth
    return score(truth.only(classes), read_results(results, truth), evaluator)


def score(truth: GroundTruth, results: Sequence[Record], evaluator: str = "pycocotools") -> dict[str, Scores]:
    """`evaluate` on what `read_truth` and `read_results` gave; results of classes that the truth lacks do not count."""
    load_evaluator(evaluator)
    kinds = [kind for kind, key in KINDS.items() if all(key in result for result in results)]
    results = [result for result in results if result["category_id"] in truth.categories]
    if "segm" in kinds and (bare := [record["id"] for record in truth.annotations if "segmentation" not in record]):
        raise UserError(f"{truth.path}: annotation {bare[0]} from the top has no segmentation to score masks against")
    return {kind: _score(truth, results, kind, evaluator) for kind in kinds}


def load_evaluator(name: str) -> tuple[Any, Any]:
    """The classes COCO and COCOeval of a package; the others have pycocotools' interface.

    Raises:
        UserError: the package is not installed, or unknown.
    """
    try:
        if name == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        elif name == "faster-coco-eval":
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
        elif name == "hotcoco":
            from hotcoco import COCO, COCOeval
        else:
            raise UserError(f"evaluator {name!r} is unknown; choose {', '.join(EVALUATORS)}")
    except ImportError:
        raise UserError(f"the evaluator {name} is not installed: pip install {name}") from None
    return COCO, COCOeval


def _score(truth: GroundTruth, results: Sequence[Record], kind: str, evaluator: str) -> Scores:
    COCO, COCOeval = load_evaluator(evaluator)
    frame = {
        "images": [{"id": id, "height": height, "width": width} for id, (height, width) in truth.sizes.items()],
        "categories": [{"id": id, "name": name} for id, name in truth.categories.items()],
    }

    def indexed(annotations: list[Record]) -> Any:
        index = COCO()
        index.dataset = {**frame, "annotations": annotations}
        index.createIndex()
        return index

    with _QUIET, contextlib.redirect_stdout(io.StringIO()):  # they tell their progress
        annotations = indexed([dict(annotation) for annotation in truth.annotations])  # evaluators write into them
        detections = indexed(_detections(results, KINDS[kind]))
        evaluation = COCOeval(annotations, detections, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    objects = Counter(annotation["category_id"] for annotation in truth.annotations if not annotation["iscrowd"])
    return Scores(
        metrics=dict(zip(METRICS, map(float, evaluation.stats), strict=True)),
        precision=np.array(evaluation.eval["precision"])[:, :, :, 0, -1],
        class_names=tuple(truth.categories.values()),
        truths=np.array([objects[id] for id in truth.categories]),
    )


def _detections(results: Sequence[Record], key: str) -> list[Record]:
    """Results as annotations with the area that their kind counts by."""
    if key == "bbox":
        areas = np.array([result["bbox"][2] * result["bbox"][3] for result in results])
    else:
        areas = np.asarray(mask.area([result["segmentation"] for result in results]))
    names = ("image_id", "category_id", key)
    return [
        {**{name: result[name] for name in names}, "score": score_of(result, key), "id": id, "area": area, "iscrowd": 0}
        for id, (result, area) in enumerate(zip(results, areas.astype(float).tolist(), strict=True), 1)
    ]
