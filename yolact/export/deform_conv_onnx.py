"""`yolact.ops.deform_conv2d` in ONNX's standard operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yolact.ops import reference

OPSET = 19  # of ONNX: the first that has DeformConv


def deforms(program: torch.export.ExportedProgram) -> bool:
    """Whether the operator is in a program."""
    return any(node.target is torch.ops.yolact.deform_conv2d.default for node in program.graph.nodes)


def in_plain_torch(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with the operator's twin in its place, for an opset that has no DeformConv."""
    return program.run_decompositions({torch.ops.yolact.deform_conv2d.default: _twin})


def translations() -> dict[Any, Any]:
    """What torch's exporter is to write for the operator, from the opset on that has DeformConv."""
    return {torch.ops.yolact.deform_conv2d.default: _deform_conv}


def _twin(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    deterministic: bool,
) -> Tensor:
    return reference.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def _deform_conv(
    input: Any,
    offset: Any,
    weight: Any,
    bias: Any,
    mask: Any,
    *,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    deterministic: bool,
) -> Any:
    import onnxscript

    _, of_a_group, height, width = weight.shape
    return onnxscript.opset19.DeformConv(
        input,
        weight,
        offset,
        bias,
        mask,
        strides=stride,
        pads=[*padding, *padding],  # before and after
        dilations=dilation,
        group=input.shape[1] // of_a_group,
        offset_group=offset.shape[1] // (2 * height * width),
    )
