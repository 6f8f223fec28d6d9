"""The operators once more in plain torch, written to be read: what every kernel is proven against."""

from yolact.ops.reference.assemble import assemble_masks, assemble_run_lengths
from yolact.ops.reference.deform_conv2d import deform_conv2d
from yolact.ops.reference.detect import detect
from yolact.ops.reference.fast_nms import fast_nms
from yolact.ops.reference.mask_loss import mask_loss
from yolact.ops.reference.preprocess import preprocess
from yolact.ops.reference.run_lengths import decode_run_lengths, encode_run_lengths, gather_run_lengths

__all__ = [
    "assemble_masks",
    "assemble_run_lengths",
    "decode_run_lengths",
    "deform_conv2d",
    "detect",
    "encode_run_lengths",
    "fast_nms",
    "gather_run_lengths",
    "mask_loss",
    "preprocess",
]
