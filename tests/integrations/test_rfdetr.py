"""RF-DETR, as installed, beside what takes its place; models have random weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from installed import FLOAT32_ROUNDING, assert_same_masks, encoded, installed
from pages import run_example

import yolact.integrations.rfdetr as fast
from yolact.errors import UserError

rfdetr = installed("rfdetr")
library = installed("rfdetr.models.postprocess")
THEIRS = vars(library.PostProcess)["_postprocess_masks"]
SIZES = torch.tensor([[97, 160], [61, 33]])


def outputs(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """What a network of 40 queries and 9 classes returns of two pictures."""
    random = torch.Generator().manual_seed(0)
    return {
        "pred_logits": torch.randn(2, 40, 9, generator=random),
        "pred_boxes": torch.rand(2, 40, 4, generator=random),
        "pred_masks": torch.randn(2, 40, 24, 26, generator=random).to(dtype),
    }


def assert_same_results(found, expected, but: str = "") -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs.keys() - {but}:
            assert torch.equal(ours[name].nan_to_num(9), theirs[name].nan_to_num(9)), name


@pytest.mark.parametrize("score_threshold", [None, 0.7, 2.0])
@pytest.mark.parametrize("num_select", [7, 300])
def test_results_are_theirs(num_select, score_threshold):
    postprocess = library.PostProcess(num_select)
    expected = postprocess(outputs(), SIZES, score_threshold)
    with fast.accelerated():
        found = postprocess(outputs(), SIZES, score_threshold)
    assert_same_results(found, expected, but="masks")
    for picture, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        size, count = SIZES[picture].tolist(), len(theirs["scores"])
        assert (count == 0) == (score_threshold == 2)
        assert ours["masks"].shape == (count, 1, *size)
        if not count:
            continue
        scores = outputs()["pred_logits"][picture].sigmoid().flatten()
        queries = scores.argsort(descending=True, stable=True) // 9
        values = F.interpolate(
            outputs()["pred_masks"][picture, queries[:num_select], None].double(), size, mode="bilinear"
        )
        assert_same_masks(ours["masks"], theirs["masks"], values[:count])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    postprocess = library.PostProcess(20)
    expected = postprocess(outputs(dtype), SIZES)
    with fast.accelerated():
        found = postprocess(outputs(dtype), SIZES)
    assert_same_results(found, expected, but="masks")
    for ours, theirs in zip(found, expected, strict=True):  # theirs rounds what it interpolates to the dtype
        assert (ours["masks"] != theirs["masks"]).float().mean() <= {torch.float64: 0.0}.get(dtype, 2e-3)


def test_other_heads_and_masks_of_their_own_resolution_stay_theirs():
    boxes_alone = {name: value for name, value in outputs().items() if name != "pred_masks"}
    keypoints = boxes_alone | {"pred_keypoints": torch.rand(2, 40, 9 * 4, 3)}
    calls = [
        (library.PostProcess(20), boxes_alone),
        (library.PostProcess(20, num_keypoints_per_class=[4] * 9), keypoints),
        (library.PostProcess(20, upsample_masks_to_image_size=False), outputs()),
    ]
    for postprocess, given in calls:
        expected = postprocess(given, SIZES)
        with fast.accelerated():
            assert_same_results(postprocess(given, SIZES), expected)


@pytest.mark.parametrize("score_threshold", [0.0, 0.7, 2.0])
def test_outputs_to_results(score_threshold):
    with fast.accelerated():
        expected = library.PostProcess(50)(outputs(), SIZES, score_threshold or None)
    for sizes in (SIZES, [(97, 160), (61, 33)]):
        found = fast.outputs_to_results(outputs(), sizes, num_select=50, score_threshold=score_threshold)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.allclose(ours.boxes, theirs["boxes"], atol=FLOAT32_ROUNDING, rtol=1e-6)
            assert torch.equal(ours.labels, theirs["labels"])
            assert torch.equal(ours.scores, theirs["scores"])
            assert ours.rles == encoded(theirs["masks"][:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_sizes": [(3, 4)] * 3}, "target_sizes must hold 2 pairs, got 3"),
        ({"target_sizes": [(3, 4), (0, 4)]}, r"the height of target_sizes\[1\] must be at least 1, got 0"),
        (
            {"outputs": {"pred_logits": torch.zeros(2, 1, 1)}},
            "outputs must have pred_boxes, pred_masks, got pred_logits",
        ),
        ({"num_select": -1}, "num_select must be at least 0, got -1"),
        ({"score_threshold": float("nan")}, "score_threshold must be within .* got nan"),
    ],
)
def test_outputs_to_results_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        fast.outputs_to_results(**({"outputs": outputs(), "target_sizes": SIZES} | change))


def test_restores_and_unknown_releases_are_left_alone(monkeypatch):
    with fast.accelerated(), fast.accelerated():
        assert vars(library.PostProcess)["_postprocess_masks"] is not THEIRS
    assert vars(library.PostProcess)["_postprocess_masks"] is THEIRS

    def no_such_masks(*arguments, **options):
        return [result | {"masks": ~result["masks"]} for result in THEIRS(*arguments, **options)]

    monkeypatch.setattr(library.PostProcess, "_postprocess_masks", no_such_masks)
    with pytest.raises(UserError, match=r"^rfdetr \d\S+ makes other masks than the known releases .* nothing was"):
        fast.accelerate()
    monkeypatch.delattr(library.PostProcess, "_postprocess_masks")
    with pytest.raises(UserError, match=r"^rfdetr \d\S+ lacks '_postprocess_masks' of the known releases"):
        fast.accelerate()


def test_the_page_runs_and_predicts_what_it_would(tmp_path, monkeypatch):
    """A whole model; its weights are random, so nearly everything is found."""
    torch.manual_seed(0)
    model = rfdetr.RFDETRSegNano(pretrain_weights=None, device="cpu")
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 256, (97, 160, 3), dtype=np.uint8))
    predict = model.predict
    expected = predict("photo.jpg", threshold=0.01)
    monkeypatch.setattr(model, "predict", lambda picture, threshold: predict(picture, threshold=0.01))
    monkeypatch.setattr(rfdetr, "RFDETRSegMedium", lambda: model)
    names = run_example("rfdetr")
    found = names["detections"]
    assert np.array_equal(found.xyxy, expected.xyxy)
    assert found.mask.shape == (len(expected), 97, 160)
    assert 0 < found.mask.mean() < 1
    assert (found.mask != expected.mask).mean() < 1e-4
    assert names["rles"] == encoded(torch.from_numpy(found.mask))
