"""A model as an ONNX file: standard operators alone, any batch size."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yolact import ops
from yolact.export import deform_conv_onnx
from yolact.export.check import Checked, made_up_pictures
from yolact.export.description import check_target, detect_options, metadata, need_packages
from yolact.export.detect_onnx import IR_VERSION, OPSET, detect_graph
from yolact.export.modules import RawNetwork
from yolact.export.onnx_check import RAW, check_onnx, run_detect, run_network
from yolact.files import replacing
from yolact.models.yolact import Yolact
from yolact.options import DetectOptions

if TYPE_CHECKING:
    import onnx

IR_VERSIONS = {OPSET: IR_VERSION, deform_conv_onnx.OPSET: 9}  # the form of the file that came with each opset


def export_onnx(
    model: Yolact,
    path: str | os.PathLike[str],
    *,
    detections: bool = True,
    opset: int | None = None,
    check: bool | None = None,
    **options: Any,
) -> Checked | None:
    """Write the network to an ONNX file, as a rule with all of `ops.detect` after it.

    The input `images` is [B, 3, S, S] float32, preprocessed; mean, std and the like are in the file's metadata, each as
    JSON. Batch norm is folded. TopK, by which the standard has the lower index come first among equals, makes ties
    those of `ops.detect`.

    Args:
        model: in float32; its weights are read now.
        path: the file, replaced when all is written and checked.
        detections: whether the outputs are boxes [B, D, 4] xyxy 0..1, label [B, D] int64, score [B, D], prior [B, D]
            int64, count [B] int64, coefficients [B, D, K] and prototypes [B, h, w, K]; else they are the fields of
            `RawOutputs`. Rows past the count hold label and prior -1, and zeros.
        opset: of ONNX, 18 or 19; None is 19 for a network with deformable convolutions, else 18. In 19 they are
            DeformConv; in 18 they are made of GatherND and arithmetic, which more runtimes have, and slower.
        check: whether ONNX Runtime runs the file beside the model; None where it is installed.
        options: of `ops.detect` other than the configuration's. Only Fast NMS can be written.

    Returns:
        How far ONNX Runtime's results are from the model's; None where nothing was checked.

    Raises:
        UserError: a package is missing, the file cannot be written, or what it computes differs from the model.
        TypeError, ValueError: an option is unknown or out of range.
    """
    checks = check or (check is None and importlib.util.find_spec("onnxruntime") is not None)
    need_packages("onnx", "onnxscript", *(["onnxruntime"] if checks else []))
    target = check_target(path)
    if options and not detections:
        raise ValueError(f"without detections there is nothing that takes {', '.join(options)}")
    if opset not in (None, *IR_VERSIONS):
        raise ValueError(f"opset must be one of {', '.join(map(str, IR_VERSIONS))}, got {opset!r}")
    wanted = detect_options(model.config, options) if detections else None
    network = RawNetwork(model)
    images = _images(model, 3)
    raw = run_network(network, images)
    following = None if wanted is None else _detections(raw, wanted)
    proto = _network_graph(network, images[:2], opset)
    if following is not None:
        _append(proto, following)
    for name, value in metadata(model.config, wanted).items():
        proto.metadata_props.add(key=name, value=value)
    checked = check_onnx(proto, following, images, raw, wanted) if checks else None
    with replacing(target) as file:
        file.write(proto.SerializeToString())
    return checked


def _detections(raw: dict[str, Tensor], options: DetectOptions) -> onnx.ModelProto:
    run_detect(raw, options)  # which refuses options that are out of range
    (_, count, logits), (*_, channels) = raw["class_logits"].shape, raw["mask_coefficients"].shape
    return detect_graph(options, count, logits - 1, channels)


def _images(model: Yolact, batch: int) -> Tensor:  # [B, 3, S, S]
    how, size = model.config.preprocessing, model.config.size
    return ops.preprocess(made_up_pictures(batch, size, size).to(model.priors.device), size, how.mean, how.std)


def _network_graph(network: RawNetwork, images: Tensor, opset: int | None) -> onnx.ModelProto:
    batch = {"images": {0: torch.export.Dim("batch")}}
    with torch.no_grad(), _silence():
        traced = torch.export.export(network, (images,), dynamic_shapes=batch)
        deforms = deform_conv_onnx.deforms(traced)
        opset = opset or (deform_conv_onnx.OPSET if deforms else OPSET)
        has_operator = opset >= deform_conv_onnx.OPSET
        program = torch.onnx.export(
            traced if has_operator or not deforms else deform_conv_onnx.in_plain_torch(traced),
            (images,),
            input_names=["images"],
            output_names=list(RAW),
            dynamic_shapes=batch,
            opset_version=opset,
            custom_translation_table=deform_conv_onnx.translations() if has_operator else None,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # The exporter's notes name files of this machine; the opset came with an older form of the file, which needs none.
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    model.ir_version = IR_VERSIONS[opset]
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter tells of torchvision's absence and of its own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _append(network: onnx.ModelProto, detect: onnx.ModelProto) -> None:
    """Let the detections follow the network, whose outputs are their inputs by name."""
    import onnx.compose

    kept = {"rename_inputs": False, "rename_outputs": False}
    following = onnx.compose.add_prefix(detect, "detect/", **kept).graph
    graph = network.graph
    graph.node.extend(following.node)
    graph.initializer.extend(following.initializer)
    prototypes = next(output for output in graph.output if output.name == "prototypes")
    outputs = [*following.output, prototypes]
    del graph.output[:]
    graph.output.extend(outputs)
    onnx.checker.check_model(network)
