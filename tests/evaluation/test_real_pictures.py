"""The whole way on real COCO pictures, with crowds and pictures without any object."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import shared_path

from yolact.cli import main
from yolact.config import get_config
from yolact.evaluation import evaluate
from yolact.evaluation.coco import EVALUATORS, METRICS
from yolact.evaluation.confusion import confusion_matrix
from yolact.evaluation.truth import GroundTruth, read_results, read_truth
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import read_picture
from yolact.predictor import Model


@pytest.fixture(scope="module")
def annotations() -> Path:
    return shared_path("data/coco-val-daily/instances_val2017_daily.json")


@pytest.fixture(scope="module")
def truth(annotations: Path) -> GroundTruth:
    return read_truth(annotations)


def found(annotation: dict[str, Any], score: float) -> dict[str, Any]:
    return {key: annotation[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": score}


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_truth_itself_scores_one(annotations: Path, truth: GroundTruth, evaluator: str) -> None:
    objects = [annotation for annotation in truth.annotations if not annotation["iscrowd"]]
    crowds = [annotation for annotation in truth.annotations if annotation["iscrowd"]]
    assert crowds
    assert set(truth.sizes) - {annotation["image_id"] for annotation in truth.annotations}, "some have no object"
    results = [found(annotation, 0.9 - n / 1e4) for n, annotation in enumerate(objects)]
    results += [found(crowd, 0.99) for crowd in crowds]  # neither right nor wrong, whatever they score
    scores = evaluate(results, annotations, evaluator=evaluator)
    for kind in ("bbox", "segm"):
        assert [scores[kind][metric] for metric in METRICS[:6]] == pytest.approx([1] * 6)
        assert scores[kind].truths.sum() == len(objects)
    assert confusion_matrix(truth, read_results(results, truth)).trace() == len(objects)


def test_weights(annotations: Path, truth: GroundTruth, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network for COCO's classes that answers at random, and with conviction."""
    torch.manual_seed(0)
    model = Model(replace(get_config("yolact_lite0"), size=64))
    with torch.no_grad():
        model.prediction_layers[0].conf_layer.weight.mul_(1e5)
    save_checkpoint(tmp_path / "weights.pth", model)
    command = ["eval", "--weights", tmp_path / "weights.pth", "--images", annotations.parent / "images"]
    command += ["--annotations", annotations, "--json", tmp_path / "results.json", "--plots", tmp_path / "plots"]
    command += ["--batch-size", 3, "--evaluator", "hotcoco", "--per-class", "--device", "cpu"]
    assert main(list(map(str, command))) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:3]] == ["bbox", "segm"]
    assert [line[:14].strip() for line in out[5:87]] == ["class", *truth.categories.values(), ""]
    plots = [
        tmp_path / "plots" / f"{name}.png" for name in ("precision_recall_bbox", "precision_recall_segm", "confusion")
    ]
    assert out[87:] == list(map(str, plots))
    assert all(read_picture(plot).size for plot in plots)
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["image_id"] for result in results} == set(truth.sizes), "it finds something everywhere"
    assert min(result["score"] for result in results) > 0.05
    scores = evaluate(tmp_path / "results.json", annotations)
    for row, kind in zip(out[1:3], ("bbox", "segm"), strict=True):
        assert [float(value) for value in row.split()[1:]] == pytest.approx(list(scores[kind].values()), abs=6e-4)
