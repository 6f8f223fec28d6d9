"""The operators: YOLACT's postprocessing on CPU and CUDA tensors, usable without the model."""

from yolact.ops.preprocess import preprocess

__all__ = ["preprocess"]
