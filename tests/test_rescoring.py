"""Masks scored by themselves: which scores there are, which one counts, and that only rows that count are looked at."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import create
from torch import Tensor

import yolact
from yolact import ops
from yolact.engine import rescoring
from yolact.engine.rescoring import rescore, soft_masks
from yolact.ops.reference.assemble import assemble_values
from yolact.structures import Rows

SIZE = 256  # of the network: the least whose prototypes the net takes
ROUNDING = 1e-5  # float32: sums in another order


@pytest.fixture(scope="module")
def model() -> yolact.Model:
    return create(size=SIZE, mask_rescoring=True)


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def made_up(batch: int = 2, detections: int = 9, side: int = 70, seed: int = 0) -> Rows:
    """Rows by falling score, of which pictures have different numbers that count."""
    random = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, detections, 4, generator=random) * 1.4 - 0.2
    return Rows(
        count=torch.arange(detections, detections - batch, -1),
        labels=torch.randint(3, (batch, detections), generator=random),
        scores=torch.rand(batch, detections, generator=random).sort(1, descending=True).values,
        box_scores=None,
        mask_scores=None,
        boxes=boxes * 100,
        relative_boxes=boxes,
        coefficients=torch.rand(batch, detections, 4, generator=random) * 2 - 1,
        prototypes=torch.rand(batch, side, side, 4, generator=random),
    )


def areas(masks: Tensor) -> Tensor:  # [N, 1, h, w] -> [N, 3]
    """Stands for the net: a number that is a mask's own, and another for each class."""
    return masks.mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])


def expected_ious(rows: Rows) -> Tensor:  # [B, D]
    """What `areas` tells of masks that the reference assembles."""
    size = rows.prototypes.shape[1:3]
    masks, _ = assemble_values(rows.prototypes, rows.coefficients, rows.relative_boxes, size)
    return masks.mean((2, 3)) * (rows.labels + 1)


def test_soft_masks_match_the_reference() -> None:
    rows = made_up()
    rows.relative_boxes[0, 0] = torch.tensor([0.9, 0.8, 0.1, 0.3])  # corners the other way round
    rows.relative_boxes[0, 1] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    rows.relative_boxes[0, 2] = torch.tensor([1.5, 0.2, 1.9, 0.7])  # beside the picture
    rows.relative_boxes[1, 0] = torch.tensor([0.2, 0.5, 0.2, 0.5])  # of no size: a pixel around it is left
    rows.relative_boxes[1, 1] = torch.tensor([0.2, torch.nan, 0.5, 0.8])
    given = rows.prototypes, rows.coefficients, rows.relative_boxes
    expected, _ = assemble_values(*given, (70, 70))
    found = soft_masks(*given)
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    assert torch.equal(found == 0, expected == 0)
    assert found[0, 2].count_nonzero() == found[1, 1].count_nonzero() == 0
    assert found[1, 0].count_nonzero() in (4, 6, 9)


@pytest.mark.parametrize("ragged", [True, False])
def test_scores_are_products_and_order_the_rows(ragged: bool) -> None:
    rows = made_up()
    found = rescore(rows, areas, "mask", 0.0, ragged=ragged)
    product = rows.scores * expected_ious(rows)
    assert torch.equal(found.count, rows.count)
    for b, count in enumerate(rows.count.tolist()):
        order = product[b, :count].argsort(descending=True)
        assert not torch.equal(order, torch.arange(count)), "the order would prove nothing"
        torch.testing.assert_close(found.scores[b, :count], product[b, order], rtol=0, atol=ROUNDING)
        for name in ("labels", "boxes", "relative_boxes", "coefficients"):
            assert torch.equal(getattr(found, name)[b, :count], getattr(rows, name)[b, order])
        assert torch.equal(found.box_scores[b, :count], rows.scores[b, order])
        assert torch.equal(found.mask_scores[b, :count], found.scores[b, :count])


@pytest.mark.parametrize("ragged", [True, False])
def test_by_the_box_the_rows_stay_as_they_are(ragged: bool) -> None:
    rows = made_up()
    found = rescore(rows, areas, "box", 0.0, ragged=ragged)
    for name in ("count", "labels", "scores", "boxes", "relative_boxes", "coefficients"):
        assert torch.equal(getattr(found, name), getattr(rows, name))
    for b, count in enumerate(rows.count.tolist()):
        expected = (rows.scores * expected_ious(rows))[b, :count]
        torch.testing.assert_close(found.mask_scores[b, :count], expected, rtol=0, atol=ROUNDING)


def test_the_threshold_is_of_both_scores() -> None:
    """Of masks strictly above; the rows that count are those whose boxes are."""
    rows = made_up()
    everything = rescore(rows, areas, "mask", 0.0, ragged=True)
    threshold = everything.scores[0, 3].item()
    found = rescore(rows, areas, "mask", threshold, ragged=True)
    assert found.count[0] == 3
    assert torch.equal(found.scores[0, :3], everything.scores[0, :3])
    few = rescore(replace(rows, count=torch.tensor([2, 0])), areas, "mask", threshold, ragged=True)
    assert few.count[0] <= 2
    assert few.count[1] == 0


def test_equal_scores_keep_the_order_of_boxes() -> None:
    rows = made_up()
    found = rescore(
        replace(rows, scores=torch.full_like(rows.scores, 0.5)),
        lambda m: torch.ones(len(m), 3),
        "mask",
        0.0,
        ragged=False,
    )
    for b, count in enumerate(rows.count.tolist()):
        assert torch.equal(found.boxes[b, :count], rows.boxes[b, :count])


def test_what_is_not_a_number_scores_nothing() -> None:
    rows = made_up()
    rows.coefficients[0, 0] = torch.nan
    found = rescore(rows, areas, "mask", 0.0, ragged=False)
    assert found.scores.isfinite().all()
    (place,) = (found.boxes[0] == rows.boxes[0, 0]).all(1).nonzero()[0]
    assert found.scores[0, place] == 0


def test_ragged_looks_at_rows_that_count_alone() -> None:
    rows, seen = replace(made_up(), count=torch.tensor([4, 0])), []

    def watch(masks: Tensor) -> Tensor:
        seen.append(len(masks))
        return areas(masks)

    rescore(rows, watch, "mask", 0.0, ragged=True)
    assert seen == [4]
    rescore(rows, watch, "mask", 0.0, ragged=False)
    assert seen[1:] == [18]


@pytest.mark.parametrize("ragged", [True, False])
def test_many_are_looked_at_in_turns(ragged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_up(detections=11)
    expected = rescore(rows, areas, "mask", 0.0, ragged=ragged)
    monkeypatch.setattr(rescoring, "_TOGETHER", {ragged: 4})
    found = rescore(rows, areas, "mask", 0.0, ragged=ragged)
    for b, count in enumerate(rows.count.tolist()):
        torch.testing.assert_close(found.scores[b, :count], expected.scores[b, :count], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("ragged", [True, False])
def test_of_no_rows(ragged: bool) -> None:
    for rows in (made_up(detections=0, batch=1), made_up(batch=0)):
        found = rescore(replace(rows, count=rows.count.clamp(min=0)), areas, "mask", 0.5, ragged=ragged)
        assert found.count.sum() == 0
        assert found.scores.shape == rows.scores.shape


def test_predicts_scores_of_masks(model: yolact.Model) -> None:
    """Against the reference's masks, the model's own net, and what detection alone scores."""
    (found,) = model.predict(picture(), score_threshold=0)
    assert len(found) == 100
    given = found.prototypes[None], found.coefficients[None], found.relative_boxes[None]
    masks, _ = assemble_values(*given, found.prototypes.shape[:2])
    with torch.no_grad():
        predicted = model.maskiou_net(masks[0, :, None])
    ious = predicted.gather(1, found.labels[:, None])[:, 0]
    assert ious.unique().numel() > 50
    torch.testing.assert_close(found.mask_scores, found.box_scores * ious, rtol=1e-4, atol=ROUNDING)
    assert torch.equal(found.scores, found.mask_scores)
    assert (found.scores.diff() <= 0).all()
    assert (found.box_scores.diff() > 0).any()


def test_either_score_counts(model: yolact.Model) -> None:
    (by_mask,) = model.predict(picture(), score_threshold=0, score="mask")
    (by_box,) = model.predict(picture(), score_threshold=0, score="box")
    assert torch.equal(by_box.scores, by_box.box_scores)
    assert torch.equal(by_box.scores, by_mask.box_scores.sort(descending=True).values)
    order = by_box.mask_scores.argsort(descending=True, stable=True)
    again = by_box[order]
    assert again.rles == by_mask.rles
    assert torch.equal(again.mask_scores, by_mask.scores)
    assert torch.equal(again.boxes, by_mask.boxes)


def test_threshold_filters_the_score_that_counts(model: yolact.Model) -> None:
    (every,) = model.predict(picture(), score_threshold=0)
    threshold = every.mask_scores[60].item()
    (by_mask,) = model.predict(picture(), score_threshold=threshold)
    (by_box,) = model.predict(picture(), score_threshold=threshold, score="box")
    assert torch.equal(by_mask.scores, every.scores[:60])
    assert len(by_box) == int((every.box_scores > threshold).sum()) > 60


def test_pictures_of_a_batch_are_scored_apart(model: yolact.Model) -> None:
    pictures = [picture(n, 40 + n, 60) for n in range(3)]
    for together, alone in zip(model.predict(pictures, batch_size=3), map(model.predict, pictures), strict=True):
        torch.testing.assert_close(together.scores, alone[0].scores, rtol=0, atol=1e-4)


def test_step_by_step_is_the_same(model: yolact.Model) -> None:
    with torch.no_grad():
        raw = model.network()(model.preprocess([picture()]))
        (found,) = model.instances([picture()], raw, model.detect(raw), 0.2)
    (expected,) = model.predict(picture(), score_threshold=0.2)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=ROUNDING)
    assert found.rles == expected.rles


def test_a_net_with_hooks_runs_as_it_is() -> None:
    model = create(size=SIZE, mask_rescoring=True)
    (expected,) = model.predict(picture())
    model.maskiou_net.register_forward_hook(lambda net, given, ious: ious * 0.5)
    (found,) = model.predict(picture(), score_threshold=0)
    halved = 0.5 * expected.scores
    torch.testing.assert_close(found.scores[: len(expected)], halved, rtol=0, atol=1e-4)


def test_changed_weights_of_the_net_count_at_once() -> None:
    model = create(size=SIZE, mask_rescoring=True)
    (before,) = model.predict(picture(), score_threshold=0)
    with torch.no_grad():
        for parameter in model.maskiou_net.maskiou_net[-2].parameters():
            parameter.mul_(2)
    (after,) = model.predict(picture(), score_threshold=0)
    torch.testing.assert_close(after.scores, 2 * before.scores, rtol=1e-4, atol=ROUNDING)


def test_the_net_is_exact_where_the_network_is_not(model: yolact.Model) -> None:
    (found,) = model.predict(picture(), score_threshold=0, precision="bf16")
    given = found.prototypes[None], found.coefficients[None], found.relative_boxes[None]
    masks, _ = assemble_values(*given, found.prototypes.shape[:2])
    with torch.no_grad():
        ious = model.maskiou_net(masks[0, :, None]).gather(1, found.labels[:, None])[:, 0]
    torch.testing.assert_close(found.scores, found.box_scores * ious, rtol=1e-4, atol=ROUNDING)


def test_a_model_of_half_precision() -> None:
    model = create(size=SIZE, mask_rescoring=True).bfloat16()
    (found,) = model.predict(picture())
    assert found.scores.dtype == torch.float32
    assert len(found)


def test_instances_keep_both_scores(model: yolact.Model) -> None:
    (found,) = model.predict(picture())
    for key in (3, slice(2, 7), found.scores > found.scores.median(), [4, 0], []):
        rows = [key] if isinstance(key, int) else key
        chosen = found[key]
        for name in ("scores", "box_scores", "mask_scores"):
            assert torch.equal(getattr(chosen, name), getattr(found, name)[rows])
    assert found.plot().shape == found.picture.shape
    assert f"{found.scores[0]:.2f}" in repr(found)


def test_results_hold_both_scores(model: yolact.Model) -> None:
    for score in ("mask", "box"):
        (found,) = model.predict(picture(), score=score)
        results = json.loads(json.dumps(found.to_coco(1)))
        assert [result["score"] for result in results] == found.scores.tolist()
        assert [result["box_score"] for result in results] == found.box_scores.tolist()
        assert [result["mask_score"] for result in results] == found.mask_scores.tolist()
        assert [result[f"{score}_score"] for result in results] == found.scores.tolist()


def test_without_the_net_there_is_one_score() -> None:
    model = create()
    (found,) = model.predict(picture(), score="box")
    assert found.box_scores is found.scores or torch.equal(found.box_scores, found.scores)
    assert found.mask_scores is None
    assert found[:1].mask_scores is None
    assert not {"box_score", "mask_score"} & found.to_coco(1)[0].keys()
    with pytest.raises(ValueError, match="score must be 'box': yolact_lite0 does not score masks, got 'mask'"):
        model.predict(picture(), score="mask")


@pytest.mark.parametrize("score", ["both", "", 1])
def test_rejects_a_score_that_there_is_not(model: yolact.Model, score: object) -> None:
    with pytest.raises(ValueError, match=f"score must be one of 'mask', 'box', got {score!r}"):
        model.stream([], score=score)


def test_no_mask_is_made_as_large_as_the_picture(model: yolact.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("assemble_masks", "assemble_run_lengths"):
        monkeypatch.setattr(ops, name, lambda *_: pytest.fail("a mask was assembled"))
    (found,) = model.predict(picture(0, 400, 500))
    assert len(found.scores)
