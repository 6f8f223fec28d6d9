"""Average precision as COCO counts it."""

from yolact.evaluation.coco import detect_dataset, evaluate

__all__ = ["detect_dataset", "evaluate"]
