"""An ONNX file on ONNX Runtime, beside the model that it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from yolact import ops
from yolact.export.check import Checked, compare_detections, compare_tensors
from yolact.export.modules import RawNetwork
from yolact.options import DetectOptions

if TYPE_CHECKING:
    import onnx

RAW = ("box_deltas", "class_logits", "mask_coefficients", "priors", "prototypes")  # the fields of RawOutputs
FOUND = ("boxes", "label", "score", "prior", "count")  # the fields of Detections
BOX_TOLERANCE = 1e-5  # of the network's input: an exponential that rounds otherwise


def run_network(network: RawNetwork, images: Tensor) -> dict[str, Tensor]:
    """The fields of `RawOutputs` by name, on the host."""
    with torch.no_grad():
        return {name: value.cpu() for name, value in zip(RAW, network(images), strict=True)}


def run_detect(raw: dict[str, Tensor], options: DetectOptions) -> dict[str, Tensor]:
    """The fields of `Detections` by name."""
    found = ops.detect(raw["box_deltas"], raw["class_logits"], raw["priors"], **options.kwargs())
    return {name: getattr(found, name) for name in FOUND}


def run_onnx(model: onnx.ModelProto, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs by name, of ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(names, {name: tensor.cpu().numpy() for name, tensor in given.items()})
    return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


def check_onnx(
    model: onnx.ModelProto,
    detections: onnx.ModelProto | None,  # the part of it that follows the network
    images: Tensor,  # [B, 3, S, S], not as many as the exporter saw
    raw: dict[str, Tensor],  # what the network makes of them
    options: DetectOptions | None,
) -> Checked:
    """Compare the network with torch's, detections with those of the operator on what the file's own network gave.

    And the detections alone on made-up outputs of a network that finds a lot, as the one at hand may find nothing.

    Raises:
        UserError: they differ.
    """
    import onnx
    import onnxruntime

    by = f"ONNX Runtime {onnxruntime.__version__}"
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {output.name for output in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in RAW if name not in given)
    found = run_onnx(watched, {"images": images})
    differences = compare_tensors(raw, found)
    if detections is None or options is None:
        return Checked(by, 0, differences)
    compare_detections(run_detect(found, options), found, BOX_TOLERANCE)

    generator = torch.Generator().manual_seed(0)
    made_up = {name: torch.randn(raw[name].shape, generator=generator) for name in RAW[:3]} | {"priors": raw["priors"]}
    made_up["class_logits"] *= 3
    expected = run_detect(made_up, options)
    differences |= compare_detections(expected, run_onnx(detections, made_up), BOX_TOLERANCE)
    return Checked(by, int(expected["count"].sum()), differences)
