"""The whole way on real COCO pictures, with crowds and pictures without any object."""

from __future__ import annotations

import json
from collections import Counter
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


@pytest.fixture(scope="module")
def perfect(truth: GroundTruth) -> list[dict[str, Any]]:
    """Every object found as it is, and the crowds, which are neither right nor wrong whatever they score."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [
        {key: annotation[key] for key in keys} | {"score": 0.99 if annotation["iscrowd"] else 0.9 - n / 1e4}
        for n, annotation in enumerate(truth.annotations)
    ]


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_truth_itself_scores_one(
    annotations: Path, truth: GroundTruth, perfect: list[dict[str, Any]], evaluator: str
) -> None:
    crowds = sum(annotation["iscrowd"] for annotation in truth.annotations)
    assert crowds == 21
    assert set(truth.sizes) - {annotation["image_id"] for annotation in truth.annotations}, "some have no object"
    scores = evaluate(perfect, annotations, evaluator=evaluator)
    for kind in ("bbox", "segm"):
        assert [scores[kind][metric] for metric in METRICS[:6]] == pytest.approx([1] * 6)
        assert scores[kind].truths.sum() == len(perfect) - crowds
    assert confusion_matrix(truth, read_results(perfect, truth)).trace() == len(perfect) - crowds


def test_tables_and_plots_of_some_classes(
    annotations: Path,
    truth: GroundTruth,
    perfect: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(perfect))
    command = ["eval", "--results", tmp_path / "results.json", "--annotations", annotations, "--evaluator", "hotcoco"]
    command += ["--classes", "person", "--classes", 18, "--per-class", "--plots", tmp_path / "plots"]
    assert main(list(map(str, command))) == 0
    plots = [f"{tmp_path}/plots/{name}.png" for name in ("precision_recall_bbox", "precision_recall_segm", "confusion")]
    table, per_class, written = (part.splitlines() for part in capsys.readouterr().out.split("\n\n"))
    assert [line.split()[:3] for line in table[1:]] == [["bbox", "1.000", "1.000"], ["segm", "1.000", "1.000"]]
    objects = Counter(a["category_id"] for a in truth.annotations if not a["iscrowd"])
    assert [line.split() for line in per_class[2:]] == [
        [name, str(objects[id]), *["1.000"] * 6] for id, name in ((1, "person"), (18, "dog"))
    ]
    assert written == plots
    assert all(read_picture(plot).size for plot in plots)


def test_weights(annotations: Path, truth: GroundTruth, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network for COCO's classes that answers at random, and with conviction."""
    torch.manual_seed(0)
    model = Model(replace(get_config("yolact_lite0"), size=64))
    with torch.no_grad():
        model.prediction_layers[0].conf_layer.weight.mul_(1e5)
    save_checkpoint(tmp_path / "weights.pth", model)
    command = ["eval", "--weights", tmp_path / "weights.pth", "--images", annotations.parent / "images"]
    command += ["--annotations", annotations, "--json", tmp_path / "results.json", "--batch-size", 3]
    command += ["--evaluator", "hotcoco", "--per-class", "--device", "cpu"]
    assert main(list(map(str, command))) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:3]] == ["bbox", "segm"]
    assert [line[:14].strip() for line in out[5:]] == ["class", *truth.categories.values()]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["image_id"] for result in results} == set(truth.sizes), "it finds something everywhere"
    assert min(result["score"] for result in results) > 0.05
    scores = evaluate(tmp_path / "results.json", annotations)
    for row, kind in zip(out[1:3], ("bbox", "segm"), strict=True):
        assert [float(value) for value in row.split()[1:]] == pytest.approx(list(scores[kind].values()), abs=6e-4)
