"""Average precision as COCO counts it."""

from yolact.evaluation.coco import Scores, evaluate
from yolact.evaluation.detection import detect_dataset

__all__ = ["Scores", "detect_dataset", "evaluate"]
