"""The evaluators against COCO's own numbers, against each other, and on cases counted by hand."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
from conftest import shared_path
from pycocotools import mask
from pycocotools.cocoeval import COCOeval

from yolact.errors import UserError
from yolact.evaluation import evaluate
from yolact.evaluation.coco import EVALUATORS, METRICS, score
from yolact.evaluation.truth import read_results, read_truth

TRUTH = {
    "images": [{"id": 1, "file_name": "1.png", "height": 20, "width": 20}],
    "categories": [{"id": 3, "name": "a"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "bbox": [2, 2, 10, 10],
            "area": 100,
            "iscrowd": 0,
            "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
        }
    ],
}
FOUND = {"image_id": 1, "category_id": 3, "score": 0.9, "bbox": [2, 2, 10, 10]}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(TRUTH))
    return path


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_reproduces_cocos_own_numbers(kind: str, evaluator: str) -> None:
    folder = shared_path("data/coco_eval_oracle")
    results, annotations = (
        folder / f"instances_val2014_fake{kind}100_results.json",
        folder / "instances_val2014_100.json",
    )
    scores = evaluate(results, annotations, evaluator=evaluator)
    published = re.search(
        rf"type={kind}\n(.*?)(?:---|\Z)", (folder / "val2014_fake_eval_res.txt").read_text(), re.DOTALL
    )
    assert published is not None
    numbers = [float(value) for value in re.findall(r"= (-?\d\.\d+)", published[1])]
    assert len(numbers) == len(METRICS)
    assert [round(scores[kind][metric], 3) for metric in METRICS] == numbers


def rle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """A rectangle in a picture of 20 x 20, as results hold it."""
    pixels = np.zeros((20, 20, 1), np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    encoded = mask.encode(pixels)[0]
    return {"size": [20, 20], "counts": encoded["counts"].decode()}


def test_threads_that_score_at_once_leave_stdout_as_it_was(truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that redirect it at a time, the second would restore the first one's."""
    before, meeting, met = sys.stdout, Barrier(2), []
    run = COCOeval.evaluate

    def met_or_not(self: COCOeval) -> None:
        try:
            met.append(meeting.wait(0.2))
        except BrokenBarrierError:
            run(self)

    monkeypatch.setattr(COCOeval, "evaluate", met_or_not)
    with ThreadPoolExecutor(2) as pool:
        for scores in pool.map(evaluate, [[FOUND]] * 2, [truth] * 2):
            assert scores["bbox"]["AP"] == pytest.approx(1)
    assert not met
    assert sys.stdout is before


def test_only_what_the_results_hold_is_scored(truth: Path) -> None:
    assert list(evaluate([FOUND], truth)) == ["bbox"]
    both = evaluate([{**FOUND, "segmentation": rle(2, 2, 10, 10)}], truth)
    assert [both[kind]["AP"] for kind in ("bbox", "segm")] == pytest.approx([1, 1])
    assert both["segm"]["APl"] == -1, "no large object in the truth"


def square(image_id: int, category_id: int, x: int, **fields: Any) -> dict[str, Any]:
    """An annotation, or with a score a result: 4 x 4 pixels at (x, 0)."""
    place = {"image_id": image_id, "category_id": category_id, "bbox": [x, 0, 4, 4], "segmentation": rle(x, 0, 4, 4)}
    return {**place, **({} if "score" in fields else {"id": 0, "area": 16, "iscrowd": 0}), **fields}


CROWDED = {  # picture 2 has a crowd, picture 3 nothing; every id is 0, as no evaluator would bear it
    "images": [{"id": id, "file_name": f"{id}.png", "height": 20, "width": 20} for id in (1, 2, 3)],
    "categories": [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}, {"id": 5, "name": "5"}],
    "annotations": [
        square(1, 3, 0),
        square(1, 8, 6),
        square(2, 3, 0),
        square(2, 3, 8, bbox=[8, 0, 12, 20], segmentation=rle(8, 0, 12, 20), area=240, iscrowd=1),
    ],
}
EVERYTHING = [square(1, 3, 0, score=0.9), square(1, 8, 6, score=0.8), square(2, 3, 0, score=0.7)]
IN_THE_CROWD = [square(2, 3, x, score=0.95) for x in (8, 12)]
WRONG = [square(3, 3, 0, score=0.99), square(1, 8, 12, score=0.85), square(2, 8, 8, score=0.85)]


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    path = tmp_path / "crowded.json"
    path.write_text(json.dumps(CROWDED))
    return path


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize(
    ("results", "ap"),  # of class a, of class b
    [
        (EVERYTHING, [1, 1]),
        (EVERYTHING + IN_THE_CROWD, [1, 1]),  # what lies in a crowd is neither right nor wrong
        (EVERYTHING + IN_THE_CROWD + WRONG, [2 / 3, 1 / 3]),  # precision 0, 1/2, 2/3 and 0, 0, 1/3 down the scores
        ([], [0, 0]),
    ],
)
def test_crowds_and_pictures_without_truths(
    crowded: Path, results: list[dict[str, Any]], ap: list[float], evaluator: str
) -> None:
    scores = evaluate(results, crowded, evaluator=evaluator)
    for kind in ("bbox", "segm"):
        assert scores[kind].class_names == ("a", "5", "b")
        assert scores[kind].truths.tolist() == [2, 0, 1], "a crowd is no object to find"
        assert scores[kind].per_class()[:, 0].tolist() == pytest.approx([ap[0], -1, ap[1]])
        assert scores[kind]["AP"] == pytest.approx(np.mean(ap))


@pytest.mark.parametrize("seed", range(6))
def test_evaluators_agree(seed: int, tmp_path: Path) -> None:
    """On rectangles of any size, empty ones too, of which some are crowds; scores tie."""
    random = np.random.default_rng(seed)
    ids, categories = range(3), (3, 8, 5)

    def rectangle(**fields: Any) -> dict[str, Any]:
        x, y, width, height = random.integers(0, 20, 4).tolist()
        place = {"image_id": int(random.choice(ids)), "category_id": int(random.choice(categories))}
        return {**place, "bbox": [x, y, width, height], "segmentation": rle(x, y, width, height), **fields}

    annotations = [rectangle(id=id, iscrowd=int(random.random() < 0.2)) for id in range(20)]
    results = [rectangle(score=seen) for seen in random.random(30).round(1).tolist()]
    for annotation, seen in zip(annotations, random.random(12).round(1).tolist(), strict=False):
        results.append({**{key: annotation[key] for key in results[0] if key != "score"}, "score": seen})
    content = {**CROWDED, "images": [{"id": id, "height": 20, "width": 20} for id in ids], "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = read_truth(tmp_path / "truth.json")
    checked = read_results(results, truth)
    first, *others = (score(truth, checked, evaluator) for evaluator in EVALUATORS)
    for other in others:
        for kind in ("bbox", "segm"):
            assert 0 < first[kind]["AP"] < 1
            assert list(other[kind].values()) == pytest.approx(list(first[kind].values()), abs=1e-9)
            np.testing.assert_allclose(other[kind].precision, first[kind].precision, atol=1e-9)


def test_classes_are_chosen_by_name_or_id(crowded: Path) -> None:
    results = EVERYTHING + WRONG
    for chosen in (["a"], ["3"]):
        scores = evaluate(results, crowded, classes=chosen)["segm"]
        assert scores.class_names == ("a",)
        assert scores["AP"] == pytest.approx(2 / 3)
    assert evaluate(results, crowded, classes=["b", "3"])["segm"]["AP"] == pytest.approx(np.mean([2 / 3, 1 / 3]))
    assert evaluate(results, crowded, classes=["5"])["segm"]["AP"] == -1
    assert list(evaluate([FOUND], crowded, classes=["b"])) == ["bbox"]
    with pytest.raises(UserError, match=r"crowded\.json: has no class 'c'; its classes are a, 5, b"):
        evaluate(results, crowded, classes=["a", "c"])


def test_class_agnostic_scores_do_not_ask_what_was_found(crowded: Path) -> None:
    mistaken = [{**result, "category_id": 11 - result["category_id"]} for result in EVERYTHING]
    assert evaluate(mistaken, crowded)["segm"]["AP"] == 0
    scores = evaluate(mistaken, crowded, class_agnostic=True)["segm"]
    assert (scores.class_names, scores.truths.tolist(), scores["AP"]) == (("object",), [3], pytest.approx(1))


def test_per_class_means_are_the_numbers_of_all() -> None:
    folder = shared_path("data/coco_eval_oracle")
    scores = evaluate(folder / "instances_val2014_fakesegm100_results.json", folder / "instances_val2014_100.json")
    segm = scores["segm"]
    means = segm.per_class()[segm.truths > 0].mean(0)
    assert means.tolist() == pytest.approx([segm["AP"], segm["AP50"], segm["AP75"]])
    assert set(segm) == set(METRICS)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_an_evaluator_that_is_not_installed(truth: Path, evaluator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycocotools.coco", "faster_coco_eval", "hotcoco"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"the evaluator {evaluator} is not installed: pip install {evaluator}$"):
        evaluate([FOUND], truth, evaluator=evaluator)


def test_an_unknown_evaluator(truth: Path) -> None:
    with pytest.raises(UserError, match="evaluator 'coco' is unknown; choose pycocotools, faster-coco-eval, hotcoco"):
        evaluate([FOUND], truth, evaluator="coco")
