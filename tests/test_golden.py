"""The whole way against the original and mmdetection: stand-in weights in a file, a picture in, COCO results out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import stand_ins
import torch

import yolact
from yolact import mask
from yolact.cli import main
from yolact.config import get_config
from yolact.pictures import read_picture

PLUS = "yolact_plus_resnet50"
NAMES = ("yolact_base", "yolact_darknet53", PLUS, "mmdet_yolact_r50_1xb8-55e_coco")
SCORE = 1e-5  # scores closer than this may change places: deep nets add up in another order
PIXEL = 1.0  # boxes: a truncated coordinate moves by one when a sum rounds otherwise
IOU = 0.995  # masks: pixels whose interpolated probability is next to the threshold


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(golden outputs, weights file, picture file) of one configuration."""
    expected = stand_ins.outputs(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(stand_ins.state(expected["keys"]), folder / "weights.pth")
    cv2.imwrite(str(folder / "picture.png"), stand_ins.generator().image())
    yield expected, folder / "weights.pth", folder / "picture.png"
    (folder / "weights.pth").unlink()  # up to 200 MB


def check(results: list[dict[str, Any]], golden: dict[str, Any], category_ids: tuple[int, ...]) -> None:
    """The same classes in the same order, boxes and masks; runs of scores within SCORE compare as sets."""
    expected = list(
        zip(
            golden["raw_scores"] if "raw_scores" in golden else golden["scores"],
            golden["classes"] if "classes" in golden else golden["labels"],
            golden["boxes"],
            golden["rles"],
            strict=True,
        )
    )
    assert len(results) == len(expected)
    np.testing.assert_allclose([r["score"] for r in results], [score for score, *_ in expected], atol=SCORE, rtol=0)
    left = list(enumerate(expected))
    for position, result in enumerate(results):
        same = [
            entry
            for entry in left
            if abs(entry[1][0] - result["score"]) <= SCORE and agrees(result, entry[1], category_ids)
        ]
        assert same, f"result {position} has no match: {result}, expected {expected[position]}"
        left.remove(same[0])


def agrees(
    result: dict[str, Any], expected: tuple[float, int, list[float], Any], category_ids: tuple[int, ...]
) -> bool:
    _, label, box, rle = expected
    x, y, width, height = result["bbox"]
    if (
        result["category_id"] != category_ids[label]
        or np.abs(np.subtract([x, y, x + width, y + height], box)).max() > PIXEL
    ):
        return False
    areas = mask.area([result["segmentation"], rle])
    return not areas.any() or mask.iou([result["segmentation"]], [rle], [0])[0, 0] > IOU


def test_command_line_matches_golden(case: Any, tmp_path: Path) -> None:
    golden, weights, picture = case
    results = tmp_path / "results.json"
    command = ["predict", picture, "--weights", weights, "--config", golden["config"], "--score-threshold", "0"]
    assert main([*map(str, command), "--score", "box", "--json", str(results)]) == 0
    expected = golden["results"].get("per_class", golden["results"])
    check(json.loads(results.read_text()), expected, get_config(golden["config"]).category_ids)


@pytest.mark.parametrize("case", NAMES[:2], indirect=True)  # mmdetection has no NMS across classes
def test_across_classes_matches_golden(case: Any) -> None:
    golden, weights, picture = case
    model = yolact.load(weights, config=golden["config"])
    (found,) = model.predict(picture, score_threshold=0, across_classes=True, max_detections=None)
    check(found.to_coco(1), golden["results"]["cross_class"], model.config.category_ids)


@pytest.mark.parametrize("case", [PLUS], indirect=True)
def test_scores_of_masks_match_golden(case: Any) -> None:
    """Both scores of each detection, and the order of the masks', in which the original shows its results."""
    golden, weights, path = case
    model, picture = yolact.load(weights), read_picture(path)
    with torch.no_grad():
        raw = model.network("fp32")(model.preprocess([picture]))
    ways = {"per_class": {}, "cross_class": {"across_classes": True, "max_detections": None}}
    for way, options in ways.items():
        expected = golden["results"][way]
        detected = model.detect(raw, **options)
        (by_box,), (by_mask,) = (model.instances([picture], raw, detected, 0.0, score) for score in ("box", None))
        for name in ("box_scores", "mask_scores"):
            torch.testing.assert_close(getattr(by_box, name), torch.tensor(expected[name]), atol=SCORE, rtol=0)
        order = np.argsort(-np.array(expected["mask_scores"]), kind="stable")
        ranked = {name: [expected[name][row] for row in order] for name in ("mask_scores", "classes", "boxes", "rles")}
        check(by_mask.to_coco(1), {**ranked, "raw_scores": ranked["mask_scores"]}, model.config.category_ids)
