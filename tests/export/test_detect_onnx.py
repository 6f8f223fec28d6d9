"""`ops.detect` in standard ONNX operators, on ONNX Runtime, beside the operator itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from yolact.config import CONFIGS
from yolact.errors import UserError
from yolact.export.detect_onnx import detect_graph
from yolact.models.anchors import make_priors
from yolact.options import DetectOptions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from yolact.export.onnx_check import run_detect, run_onnx  # noqa: E402

SCORE = 1e-6  # a softmax that adds up in another order
BOX = 1e-6  # an exponential in float32, where the operator's is in double

MMDET = CONFIGS["mmdet_yolact_r50_1xb8"].detect
PRIORS = make_priors(CONFIGS["yolact_lite0"])  # [6402, 4]
LEVELS = CONFIGS["yolact_lite0"].level_sizes


def made_up(batch: int = 3, priors: Tensor = PRIORS, classes: int = 5, channels: int = 4, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"box_deltas": 4, "class_logits": 1 + classes, "mask_coefficients": channels}
    raw = {name: torch.randn(batch, len(priors), size, generator=generator) for name, size in sizes.items()}
    raw["class_logits"] *= 3
    raw["class_logits"][..., 0] += 6  # most are background
    return raw | {"priors": priors}


def graph_for(options: DetectOptions, raw: dict[str, Tensor]) -> Any:
    (_, count, logits), (*_, channels) = raw["class_logits"].shape, raw["mask_coefficients"].shape
    return detect_graph(options, count, logits - 1, channels)


def check(options: DetectOptions, raw: dict[str, Tensor]) -> dict[str, Tensor]:
    expected, found = run_detect(raw, options), run_onnx(graph_for(options, raw), raw)
    for name in ("label", "prior", "count"):
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["score"], expected["score"], rtol=0, atol=SCORE)
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=0, atol=BOX, equal_nan=False)
    at = expected["prior"].clamp(min=0)[..., None].expand(-1, -1, raw["mask_coefficients"].shape[2])
    coefficients = raw["mask_coefficients"].gather(1, at) * (expected["prior"] >= 0)[..., None]
    assert torch.equal(found["coefficients"], coefficients)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"across_classes": True},
        {"across_classes": True, "max_detections": None},
        {"score_threshold": 0.3, "second_threshold": True},
        {"across_classes": True, "score_threshold": 0.3, "second_threshold": True},
        {"top_k": 7, "max_detections": None},
        {"iou_threshold": 0.0, "max_detections": 1000},
        {"score_threshold": 1.0},  # nothing stays
        {"score_threshold": -1.0},  # everything does
        {"clip": True, "max_log_size": 0.1, "variances": (0.3, 0.4), "union_eps": 1e-6},
        {"pre_nms_top_k": 20, "level_sizes": LEVELS},
        {"pre_nms_top_k": 50},
    ],
    ids=str,
)
def test_detect_graph_matches_the_operator(options: dict[str, Any]) -> None:
    check(DetectOptions(**options), made_up())


def test_detect_graph_matches_with_mmdetections_options() -> None:
    found = check(replace(MMDET, level_sizes=LEVELS, pre_nms_top_k=100), made_up(classes=80))
    assert found["count"].tolist() == [100, 100, 100]


def test_detect_graph_takes_any_batch_and_keeps_pictures_apart() -> None:
    raw = made_up(5)
    raw["class_logits"][2, :, 0] = 100  # nothing in the third
    found = check(DetectOptions(), raw)
    assert found["count"].tolist() == [100, 100, 0, 100, 100]
    alone = {name: tensor[3:4] if name != "priors" else tensor for name, tensor in raw.items()}
    assert torch.equal(check(DetectOptions(), alone)["prior"], found["prior"][3:4])


def test_detect_graph_breaks_ties_as_the_operator_does() -> None:
    raw = made_up(2)
    few = torch.tensor([[0.0, 2, 2, 0, 1, 2], [1, 1, 3, 3, 3, 0], [9, 0, 0, 0, 0, 0]])  # the same scores everywhere
    raw["class_logits"] = few[
        torch.randint(3, raw["class_logits"].shape[:2], generator=torch.Generator().manual_seed(1))
    ]
    raw["box_deltas"] = raw["box_deltas"].round()  # and boxes that coincide
    check(DetectOptions(), raw)
    check(DetectOptions(across_classes=True), raw)
    check(DetectOptions(pre_nms_top_k=10, level_sizes=LEVELS), raw)


def test_detect_graph_drops_what_is_not_a_number() -> None:
    raw = made_up(2)
    raw["class_logits"][0, ::3, 2] = torch.nan
    raw["class_logits"][0, 1::3, 0] = -torch.inf
    raw["class_logits"][1, ::5, 1] = torch.inf
    raw["box_deltas"][1, ::7, 3] = torch.nan
    raw["box_deltas"][0, ::11, 2] = torch.inf
    for options in (DetectOptions(), replace(MMDET, level_sizes=LEVELS), DetectOptions(across_classes=True)):
        expected, found = run_detect(raw, options), run_onnx(graph_for(options, raw), raw)
        assert torch.equal(found["prior"], expected["prior"])
        assert torch.equal(found["label"], expected["label"])


def test_boxes_without_an_area_fall() -> None:
    raw = made_up(1)
    raw["box_deltas"][..., 2:] = -1e4  # widths and heights of zero: 0 / 0
    check(DetectOptions(), raw)


def test_detect_graph_is_of_standard_operators_alone() -> None:
    model = graph_for(replace(MMDET, level_sizes=LEVELS), made_up())
    onnx.checker.check_model(model, full_check=True)  # shapes and types, too
    assert {node.domain for node in model.graph.node} == {""}


def test_traditional_nms_is_refused() -> None:
    with pytest.raises(UserError, match="'greedy': only Fast NMS"):
        detect_graph(DetectOptions(method="greedy"), 10, 2, 4)
