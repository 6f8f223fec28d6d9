"""How steady masks are from frame to frame: the temporal stability that the paper says comes for free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolact import mask

IOU_THRESHOLD = 0.5  # of boxes, strictly above: an instance and itself in the next frame
PERCENTILE = 5


@dataclass(frozen=True, eq=False)
class Stability:
    """What was found again in the next frame, and how much of its mask and of its box stayed the same."""

    frames: int
    detections: int  # in all frames
    sought: int  # in all frames but the last: each was sought in the next one
    mask_iou: NDArray[np.float64]  # [M], of each that was found again: of the two masks
    box_iou: NDArray[np.float64]  # [M], of the two boxes filled in, as if they were the masks

    def summary(self) -> dict[str, int | float | None]:
        """The counts, and the mean and the 5th percentile of both IoUs, None where nothing was found again."""
        numbers: dict[str, int | float | None] = {
            "frames": self.frames,
            "detections": self.detections,
            "sought": self.sought,
            "matched": len(self.mask_iou),
        }
        for kind, iou in (("mask", self.mask_iou), ("box", self.box_iou)):
            numbers[f"{kind}_mean"] = float(iou.mean()) if len(iou) else None
            numbers[f"{kind}_p{PERCENTILE}"] = float(np.percentile(iou, PERCENTILE)) if len(iou) else None
        return numbers


def temporal_stability(frames: Iterable[Sequence[dict[str, Any]]]) -> Stability:
    """Match each frame's detections with the frame before, and compare masks and filled-in boxes of the pairs.

    Two detections can be a pair when they are of one class and their boxes' IoU is above 0.5. Pairs are made one to one
    and greedily, the highest box IoU first (equal ones: the earlier detection of the earlier frame). Scores are not
    looked at: what counts as detected is decided by who gives the frames, and a detection that appears or vanishes at
    a threshold has no partner. Those without are counted (`sought` less the number of pairs) and have no IoU: the
    IoUs tell how steady what stays is, not how much stays. Of an empty mask the IoU is 0, with another empty one too.

    Takes one frame after the other and holds two of them, as run lengths; of a pair two numbers are kept.

    Args:
        frames: of each frame the COCO results, as `Instances.to_coco` gives them: `category_id`, `bbox` xywh in pixels,
            `segmentation` RLE. An empty list is a frame in which nothing was found.

    Raises:
        ValueError: the masks of two frames that follow each other have different sizes.
    """
    count = detections = sought = 0
    ious: list[tuple[float, float]] = []
    before: Sequence[dict[str, Any]] = ()
    for number, now in enumerate(frames):
        if number:
            sought += len(before)
            ious += _compare(before, now)
        count, detections, before = number + 1, detections + len(now), now
    mask_iou, box_iou = np.array(ious, np.float64).reshape(-1, 2).T
    return Stability(count, detections, sought, mask_iou, box_iou)


def pool(parts: Iterable[Stability]) -> Stability:
    """Several films as one, each pair of theirs with the same weight; frames of different films are not compared."""
    together = list(parts)
    return Stability(
        frames=sum(part.frames for part in together),
        detections=sum(part.detections for part in together),
        sought=sum(part.sought for part in together),
        mask_iou=np.concatenate([np.empty(0), *(part.mask_iou for part in together)]),
        box_iou=np.concatenate([np.empty(0), *(part.box_iou for part in together)]),
    )


def _compare(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """The IoU of masks and of filled-in boxes of each pair."""
    sizes = {tuple(found["segmentation"]["size"]) for found in (*before, *now)}
    if len(sizes) > 1:
        raise ValueError(f"frames must be of one size to be compared, got {sorted(sizes)}")
    pairs = match(before, now)
    if not pairs:
        return []
    first, second = [before[row] for row, _ in pairs], [now[column] for _, column in pairs]
    masks = [[found["segmentation"] for found in side] for side in (first, second)]
    ((height, width),) = sizes
    boxes = [mask.frPyObjects(np.array([found["bbox"] for found in side]), height, width) for side in (first, second)]
    return list(zip(_each_iou(*masks), _each_iou(*boxes), strict=True))


def _each_iou(first: list[mask.Rle], second: list[mask.Rle]) -> list[float]:
    """The IoU of each mask with the one in its place."""
    return np.diagonal(mask.iou(first, second, [0] * len(second))).tolist()


def match(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The positions of the pairs, as `temporal_stability` tells them, the highest box IoU first."""
    if not before or not now:
        return []
    boxes, next_boxes = ([found["bbox"] for found in frame] for frame in (before, now))
    classes, next_classes = (np.array([found["category_id"] for found in frame]) for frame in (before, now))
    iou = np.asarray(mask.iou(boxes, next_boxes, [0] * len(now)))  # [len(before), len(now)]
    rows, columns = np.nonzero((iou > IOU_THRESHOLD) & (classes[:, None] == next_classes))
    pairs: dict[int, int] = {}
    for best in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[best]), int(columns[best])
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return list(pairs.items())
