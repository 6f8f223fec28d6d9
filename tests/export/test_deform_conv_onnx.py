"""Deformable convolutions in ONNX files: by the standard's operator, and in plain operators for an opset before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import yolact
from yolact import ops
from yolact.export import export_onnx, onnx_file
from yolact.export.onnx_check import RAW, run_onnx
from yolact.models.deformable import DeformableConv2d

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


class Deformable(nn.Module):
    """A network's five outputs, all of deformable convolutions: one as in the backbones, one of every option."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = DeformableConv2d(4, 6, stride=2)
        nn.init.normal_(self.plain.conv_offset_mask.weight)
        self.weight = nn.Parameter(torch.randn(6, 2, 3, 2))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        batch = images.shape[0]
        offset, mask = images.new_ones(batch, 24, 4, 12) * 0.3, images.new_ones(batch, 12, 4, 12) * 0.7
        where = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 3)}
        grouped = ops.deform_conv2d(images, offset, self.weight, **where, mask=mask)
        unmasked = ops.deform_conv2d(images, offset, self.weight, self.weight[:, 0, 0, 0], **where)
        return self.plain(images), grouped, unmasked, images * 2, images + 1


@pytest.mark.parametrize(("opset", "has_operator"), [(None, True), (18, False)])
def test_onnx_computes_the_same(opset: int | None, has_operator: bool) -> None:
    torch.manual_seed(0)
    network = Deformable().eval()
    graph = onnx_file._network_graph(network, torch.randn(2, 4, 9, 11), opset)
    assert [entry.version for entry in graph.opset_import] == [19 if has_operator else 18]
    assert [node.op_type for node in graph.graph.node].count("DeformConv") == (3 if has_operator else 0)
    images = torch.randn(3, 4, 9, 11)  # a batch the exporter has not seen
    with torch.no_grad():
        expected = network(images)
    found = run_onnx(graph, {"images": images})
    for name, value in zip(RAW, expected, strict=True):
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-5)  # sums of 36 of about 10, in another order


@pytest.mark.parametrize("opset", [17, 20, 0, "19"])
def test_other_opsets_are_refused(opset: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"opset must be one of 18, 19, got {opset!r}"):
        export_onnx(yolact.create("yolact_lite0"), tmp_path / "m.onnx", opset=opset)
    assert not any(tmp_path.iterdir())
