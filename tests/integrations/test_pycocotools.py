"""pycocotools and programs upon it, with `yolact.mask` in place of its run lengths."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shared_path
from installed import installed
from pages import run_example

import yolact.integrations.pycocotools as fast
from yolact import mask
from yolact.errors import UserError

coco_mask, compiled, coco_api, evaluation_api = map(
    installed, ("pycocotools.mask", "pycocotools._mask", "pycocotools.coco", "pycocotools.cocoeval")
)
FUNCTIONS = ("encode", "decode", "area", "toBbox", "merge", "iou", "frPyObjects")

# pycocotools' own, about how NumPy 2 asks for copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def oracle(name: str) -> Path:
    return shared_path(f"data/coco_eval_oracle/{name}")


def evaluate(kind: str) -> Any:
    truth = coco_api.COCO(str(oracle("instances_val2014_100.json")))
    found = truth.loadRes(str(oracle(f"instances_val2014_fake{kind}100_results.json")))
    evaluation = evaluation_api.COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_evaluation_is_theirs_and_the_published_one(kind):
    expected = evaluate(kind)
    with fast.accelerated():
        found = evaluate(kind)
    assert found.ious.keys() == expected.ious.keys()
    assert sum(np.size(iou) for iou in expected.ious.values()) > 500
    for key, iou in expected.ious.items():
        assert type(found.ious[key]) is type(iou)
        assert np.array_equal(found.ious[key], iou)
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(found.eval[name], expected.eval[name])
    for id_, annotation in expected.cocoDt.anns.items():
        assert found.cocoDt.anns[id_].keys() == annotation.keys()
        assert all(np.array_equal(found.cocoDt.anns[id_][name], value) for name, value in annotation.items())

    published = re.search(rf"type={kind}\n(.*?)(?:---|\Z)", oracle("val2014_fake_eval_res.txt").read_text(), re.DOTALL)
    assert published is not None
    numbers = [float(number) for number in re.findall(r"= (-?\d\.\d+)", published[1])]
    assert len(numbers) == 12
    assert found.stats.round(3).tolist() == numbers


def picture_of(coco: Any, annotations: list[dict[str, Any]]) -> np.ndarray:
    """What `showAnns` draws over a grey picture."""
    pyplot = installed("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    size = coco.loadImgs(annotations[0]["image_id"])[0]
    figure = pyplot.figure(figsize=(3, 3))
    try:
        pyplot.imshow(np.full((size["height"], size["width"]), 128), cmap="gray", vmin=0, vmax=255)
        np.random.seed(0)  # noqa: NPY002 - its colours are drawn from there
        coco.showAnns(annotations, draw_bbox=True)
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba()).copy()
    finally:
        pyplot.close(figure)


def tour() -> dict[str, Any]:
    """The way through COCO's API that its demo shows, over real annotations and results made of them."""
    coco = coco_api.COCO(str(shared_path("data/coco-val-daily/instances_val2017_daily.json")))
    people = coco.getCatIds(catNms=["person"])
    images = sorted(coco.getImgIds(catIds=people))
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=images, catIds=people, iscrowd=None))
    crowds = [annotation for annotation in annotations if annotation["iscrowd"]]
    assert len(annotations) > 50
    assert crowds
    rles = [coco.annToRLE(annotation) for annotation in annotations]
    results = [
        {"image_id": annotation["image_id"], "category_id": people[0], "segmentation": rle, "score": 0.5}
        for annotation, rle in zip(annotations, rles, strict=True)
    ]
    found = coco.loadRes(results)
    return {
        "rles": rles,
        "masks": [coco.annToMask(annotation) for annotation in annotations],
        "areas": [annotation["area"] for annotation in found.loadAnns(found.getAnnIds())],
        "boxes": [annotation["bbox"] for annotation in found.loadAnns(found.getAnnIds())],
        "polygons drawn": picture_of(coco, coco.loadAnns(coco.getAnnIds(imgIds=images[:1]))),
        "crowd drawn": picture_of(coco, crowds[:1]),
        "results drawn": picture_of(found, found.loadAnns(found.getAnnIds(imgIds=images[:1]))),
    }


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert (found.dtype, found.shape, found.tobytes("A")) == (expected.dtype, expected.shape, expected.tobytes("A"))
    else:
        assert found == expected


def test_a_tour_of_the_api_is_theirs():
    expected = tour()
    with fast.accelerated():
        found = tour()
    for name, value in expected.items():
        assert_same(found[name], value)
    assert len(np.unique(expected["crowd drawn"].reshape(-1, 4), axis=0)) > 2


def test_every_function_is_ours_and_theirs_again():
    theirs = {owner: dict(vars(owner)) for owner in (coco_mask, compiled, coco_api, evaluation_api)}
    with fast.accelerated(), fast.accelerated():
        for name in FUNCTIONS:
            assert vars(coco_mask)[name] is vars(mask)[name]
            assert vars(compiled)[name] is not theirs[compiled][name]
    for owner, names in theirs.items():
        assert all(vars(owner)[name] is value for name, value in names.items())


def test_programs_that_call_the_compiled_module_get_the_same():
    masks = np.asfortranarray(np.random.default_rng(0).random((30, 40, 3)) < 0.5, dtype=np.uint8)

    def program() -> list[Any]:
        rles = compiled.encode(masks)
        return [
            rles,
            compiled.decode(rles),
            compiled.area(rles),
            compiled.toBbox(rles),
            compiled.merge(rles, intersect=True),
            compiled.iou(rles, rles, [0, 1, 0]),
            compiled.frPyObjects([[1.0, 2.0, 20.0, 3.0, 9.0, 25.0]], 30, 40),
        ]

    expected = program()
    with fast.accelerated():
        assert_same(program(), expected)


def test_a_program_that_only_evaluates_is_not_slowed_by_torch():
    program = "import sys; import yolact.integrations.pycocotools as fast; fast.accelerate()"
    subprocess.run([sys.executable, "-c", f"{program}; assert 'torch' not in sys.modules"], check=True)


def test_another_release_is_left_alone(monkeypatch):
    monkeypatch.delattr(coco_mask, "toBbox")
    before = dict(vars(coco_mask))
    with pytest.raises(UserError, match=r"pycocotools 2\S+ lacks 'toBbox', which .* 2\.0\.11 has; nothing was changed"):
        fast.accelerate()
    assert vars(coco_mask) == before


def test_the_page_runs():
    names = run_example("pycocotools")
    try:
        assert coco_mask.iou is mask.iou
    finally:
        names["acceleration"].restore()
    assert coco_mask.iou is not mask.iou
