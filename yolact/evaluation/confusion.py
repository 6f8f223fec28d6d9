"""Which classes a model takes for which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.evaluation.truth import GroundTruth, Record, score_of

SCORE_THRESHOLD = 0.3  # of what one would show, where COCO counts all
IOU_THRESHOLD = 0.5


def confusion_matrix(
    truth: GroundTruth,
    results: Sequence[Record],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
) -> NDArray[np.int64]:
    """Count how often an object of one class was found as another, not at all, or where there is none.

    In each picture the detections choose by falling score: each takes the object that it overlaps most, of whatever
    class, among those that are left. By masks where the results have them, else by boxes. A detection without an object
    that lies in a crowd of its class, as COCO measures it, is not counted, nor are crowds.

    Args:
        truth, results: as `read_truth` and `read_results` give them.
        score_threshold: detections that score above it count.
        iou_threshold: the least overlap.

    Returns:
        [C+1, C+1]: a row for each true class, a column for each detected one, by rising category id; the last row and
        column are the background.
    """
    label_of = {id: label for label, id in enumerate(truth.categories)}
    background = len(label_of)
    objects, detections = defaultdict(list), defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation["image_id"]].append(annotation)
    key = "segmentation" if results and "segmentation" in results[0] else "bbox"
    for result in results:
        if score_of(result, key) > score_threshold and result["category_id"] in label_of:
            detections[result["image_id"]].append(result)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    for image_id in truth.sizes:
        there = objects[image_id]  # G
        labels = np.array([label_of[annotation["category_id"]] for annotation in there], np.int64)
        crowd = np.array([annotation["iscrowd"] for annotation in there], bool)
        free = ~crowd
        found = sorted(detections[image_id], key=lambda result: -score_of(result, key))  # D
        for result, overlap in zip(found, _ious(found, there, key), strict=True):
            label, enough = label_of[result["category_id"]], overlap >= iou_threshold
            if (free & enough).any():
                best = np.where(free, overlap, -1).argmax()
                free[best] = False
                matrix[labels[best], label] += 1
            elif not (crowd & enough & (labels == label)).any():
                matrix[background, label] += 1
        np.add.at(matrix, (labels[free], background), 1)
    return matrix


def _ious(found: list[Record], there: list[Record], key: str) -> NDArray[np.float64]:  # [D, G]
    if not found or not there:
        return np.zeros((len(found), len(there)))
    crowd = [annotation["iscrowd"] for annotation in there]
    return np.asarray(mask.iou([result[key] for result in found], [annotation[key] for annotation in there], crowd))
