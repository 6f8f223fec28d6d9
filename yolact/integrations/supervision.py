"""`supervision.Detections` from our results, and COCO's results from anybody's `Detections`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from yolact.integrations.patching import find_module
from yolact.ops import PictureResults, RunLengths, masks_to_rles

if TYPE_CHECKING:
    from yolact.instances import Instances


def to_supervision(results: Instances | PictureResults, class_names: Sequence[str] | None = None) -> Any:
    """Make a `supervision.Detections` with boxes, bool masks, confidences, class ids and names.

    Args:
        results: what `predict` returns for a picture, or `ops.postprocess`.
        class_names: a word a class; those of an `Instances` are known.

    Raises:
        UserError: supervision is not installed.
    """
    supervision = find_module("supervision")
    if isinstance(results, PictureResults):
        mask = RunLengths.from_coco(results.rles).decode() if results.rles else None
    else:
        mask = results.masks
        class_names = results.class_names if class_names is None else class_names
    labels = results.labels.cpu().numpy()
    names = {} if class_names is None else {"class_name": np.array([class_names[label] for label in labels], dtype=str)}
    return supervision.Detections(
        xyxy=results.boxes.cpu().numpy(),
        mask=None if mask is None else mask.cpu().numpy(),
        confidence=results.scores.cpu().numpy(),
        class_id=labels,
        data=names,
    )


def from_supervision(detections: Any) -> PictureResults:
    """Make boxes, labels, scores and COCO run lengths, in its order, of a `supervision.Detections`.

    Raises:
        ValueError: it lacks masks, confidences or class ids.
    """
    count = len(detections)
    for name in ("mask", "confidence", "class_id"):
        if getattr(detections, name) is None and count:
            raise ValueError(f"detections must have {name}, got None")
    # Torch takes neither mirrored nor read-only arrays.
    rles = masks_to_rles(torch.from_numpy(np.require(detections.mask, bool, ["C", "W"]))) if count else []
    return PictureResults(
        boxes=torch.from_numpy(np.array(detections.xyxy, dtype=np.float32)).view(-1, 4),
        labels=torch.from_numpy(np.array(detections.class_id if count else [], dtype=np.int64)),
        scores=torch.from_numpy(np.array(detections.confidence if count else [], dtype=np.float32)),
        rles=rles,
    )
