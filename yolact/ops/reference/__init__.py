"""The operators once more in plain torch, written to be read: what every kernel is proven against."""

from yolact.ops.reference.preprocess import preprocess

__all__ = ["preprocess"]
