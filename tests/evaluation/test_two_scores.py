"""Results whose boxes and masks have scores apart, as YOLACT++'s: each average precision goes by its own."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import create
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolact.cli import main
from yolact.errors import UserError
from yolact.evaluation import detect_dataset, evaluate
from yolact.evaluation.coco import EVALUATORS, METRICS
from yolact.evaluation.confusion import confusion_matrix
from yolact.evaluation.truth import read_results, read_truth
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import write_picture
from yolact.predictor import Model

OWN = {"bbox": "box_score", "segm": "mask_score"}


def square(x: int, y: int, side: int) -> dict[str, Any]:
    pixels = np.zeros((60, 60), np.uint8, order="F")
    pixels[y : y + side, x : x + side] = 1
    rle = mask.encode(pixels)
    return {"bbox": [x, y, side, side], "segmentation": {"size": [60, 60], "counts": rle["counts"].decode()}}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, which lie beside the file, with three objects each, of two classes."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    annotations = []
    for image_id in range(1, 5):
        write_picture(folder / f"{image_id}.png", random.integers(0, 256, (60, 60, 3), dtype=np.uint8))
        for n in range(3):
            place = square(*random.integers(0, 40, 2).tolist(), 20)
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1 + n % 2}
            annotations.append({**ids, **place, "area": 400, "iscrowd": 0})
    content = {
        "images": [{"id": id, "file_name": f"{id}.png", "height": 60, "width": 60} for id in range(1, 5)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return folder / "truth.json"


@pytest.fixture(scope="module")
def results(truth: Path) -> list[dict[str, Any]]:
    """The objects, more or less, each several times; scores of boxes and masks have nothing to do with each other."""
    random = np.random.default_rng(1)
    found = []
    for annotation in json.loads(truth.read_text())["annotations"] * 4:
        x, y = annotation["bbox"][:2]
        dx, dy = random.integers(-6, 7, 2).tolist()
        scores = dict(zip(("score", "box_score", "mask_score"), random.random(3).tolist(), strict=True))
        ids = {key: annotation[key] for key in ("image_id", "category_id")}
        found.append({**ids, **square(min(max(x + dx, 0), 40), min(max(y + dy, 0), 40), 20), **scores})
    return found


def by_hand(truth: Path, results: list[dict[str, Any]], kind: str, score: str) -> list[float]:
    """pycocotools' numbers with this score and no other."""
    key = {"bbox": "bbox", "segm": "segmentation"}[kind]
    ranked = [{name: row[name] for name in ("image_id", "category_id", key)} | {"score": row[score]} for row in results]
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        evaluation = COCOeval(annotations, annotations.loadRes(ranked), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_each_precision_goes_by_its_own_score(truth: Path, results: list[dict[str, Any]], evaluator: str) -> None:
    scores = evaluate(results, truth, evaluator=evaluator)
    for kind, own in OWN.items():
        assert [scores[kind][metric] for metric in METRICS] == pytest.approx(by_hand(truth, results, kind, own))
        others = {by_hand(truth, results, kind, name)[0] for name in ("score", *OWN.values())}
        assert len(others) == 3, "each score has a precision of its own, or this would prove nothing"


def test_without_scores_apart_there_is_one(truth: Path, results: list[dict[str, Any]]) -> None:
    plain = [{key: value for key, value in row.items() if key not in OWN.values()} for row in results]
    for kind, scores in evaluate(plain, truth).items():
        assert [scores[metric] for metric in METRICS] == pytest.approx(by_hand(truth, results, kind, "score"))


def test_masks_are_confused_by_their_own_score(truth: Path, results: list[dict[str, Any]]) -> None:
    facts = read_truth(truth)

    def confused(rows: list[dict[str, Any]]) -> list[list[int]]:
        return confusion_matrix(facts, read_results(rows, facts)).tolist()

    boxes = [{key: value for key, value in row.items() if key != "segmentation"} for row in results]
    for rows, own in ((results, "mask_score"), (boxes, "box_score")):
        alone = [{key: value for key, value in row.items() if key not in OWN.values()} for row in rows]
        assert confused(rows) == confused([{**row, "score": both[own]} for row, both in zip(alone, rows, strict=True)])
        assert confused(rows) != confused(alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_score": float("nan")}, "mask_score is nan, wanted a finite number"),
        ({"mask_score": "0.5"}, "mask_score is '0.5', wanted a finite number"),
        ({"box_score": None}, "box_score is None, wanted a finite number"),
        ({"box_score": True}, "box_score is True, wanted a finite number"),
    ],
)
def test_faults_of_scores_are_told(
    truth: Path, results: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    rows = [*results[:2], {**results[2], **change}]
    with pytest.raises(UserError, match=f"^result 3 of 3: {message}$"):
        evaluate(rows, truth)


@pytest.fixture(scope="module")
def model() -> Model:
    """Of low scores for masks."""
    made = create(size=256, mask_rescoring=True)
    other = Model(made.config.with_classes(("a", "b"), (1, 2))).eval()
    other.load_state_dict(made.state_dict())
    with torch.no_grad():
        for parameter in other.maskiou_net.maskiou_net[-2].parameters():
            parameter.mul_(0.1)
    return other


@pytest.fixture(scope="module")
def found(model: Model, truth: Path) -> list[dict[str, Any]]:
    return [result for picture in detect_dataset(model, truth, truth.parent, 2) for result in picture]


def test_a_model_gives_both_and_leaves_no_box_out(found: list[dict[str, Any]]) -> None:
    """What counts for boxes does not depend on what the masks score."""
    assert [result["score"] for result in found] == [result["box_score"] for result in found]
    assert max(result["mask_score"] for result in found) < 0.05 < min(result["box_score"] for result in found)


def test_eval_of_weights_and_of_results_agree(
    model: Model, truth: Path, found: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "weights.pth", model)
    some = [  # that there is something to find
        {"id": id, "iscrowd": 0, "area": float(mask.area(row["segmentation"])), **row}
        for id, row in enumerate(found[::7], 1)
    ]
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps({**json.loads(truth.read_text()), "annotations": some}))
    command = ["eval", "--annotations", annotations, "--per-class"]
    given = ["--weights", tmp_path / "weights.pth", "--images", truth.parent, "--json", tmp_path / "results.json"]
    assert main([*map(str, command), *map(str, given)]) == 0
    tables = capsys.readouterr().out
    assert main([*map(str, command), "--results", str(tmp_path / "results.json")]) == 0
    assert capsys.readouterr().out == tables
    rows = json.loads((tmp_path / "results.json").read_text())
    for line, (kind, own) in zip(tables.splitlines()[1:3], OWN.items(), strict=True):
        numbers = by_hand(annotations, rows, kind, own)
        assert line.split() == [kind, *(f"{number:.3f}" for number in numbers)]
        assert numbers[0] not in (
            0,
            by_hand(annotations, rows, kind, "box_score" if kind == "segm" else "mask_score")[0],
        )
