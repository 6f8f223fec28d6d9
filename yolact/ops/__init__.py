"""YOLACT's postprocessing, mask loss and deformable convolution on CPU and CUDA tensors, usable without the model."""

from yolact.ops.assemble_masks import assemble_masks
from yolact.ops.assemble_run_lengths import assemble_run_lengths, prototypes_to_rles
from yolact.ops.decode_run_lengths import decode_run_lengths
from yolact.ops.deform_conv2d import deform_conv2d
from yolact.ops.detect import detect
from yolact.ops.encode_run_lengths import encode_run_lengths, masks_to_rles
from yolact.ops.fast_nms import fast_nms
from yolact.ops.mask_loss import mask_loss
from yolact.ops.postprocess import PictureResults, postprocess
from yolact.ops.preprocess import preprocess
from yolact.ops.resize_masks import resize_masks
from yolact.ops.resize_run_lengths import logits_to_rles, resize_run_lengths
from yolact.ops.run_lengths import RunLengths

__all__ = [
    "PictureResults",
    "RunLengths",
    "assemble_masks",
    "assemble_run_lengths",
    "decode_run_lengths",
    "deform_conv2d",
    "detect",
    "encode_run_lengths",
    "fast_nms",
    "logits_to_rles",
    "mask_loss",
    "masks_to_rles",
    "postprocess",
    "preprocess",
    "prototypes_to_rles",
    "resize_masks",
    "resize_run_lengths",
]
