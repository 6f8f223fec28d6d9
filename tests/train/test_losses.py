"""The losses against the original's, values and gradients, on stand-in weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import stand_ins
import torch
from conftest import shared_path
from torch import Tensor

from yolact.config import Config, get_config
from yolact.models.checkpoint import load_into, read_checkpoint
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs
from yolact.train import Targets, loss_terms
from yolact.train.assignment import EMPTY_PICTURE_NEGATIVES, assign, shrink_masks
from yolact.train.losses import losses
from yolact.train.matching import BACKGROUND, match

RELATIVE = 1e-3  # a hundred convolutions add up in another order than where the golden values were made

# Relative centre, radii and class of the elliptic truths of the golden batch, a picture and its mirror image.
ELLIPSES = (
    (
        (0.30, 0.40, 0.18, 0.22, 0),
        (0.70, 0.60, 0.25, 0.30, 17),
        (0.15, 0.80, 0.06, 0.05, 2),
        (0.85, 0.20, 0.10, 0.15, 0),
    ),
    ((0.50, 0.50, 0.40, 0.35, 56), (0.25, 0.25, 0.08, 0.12, 17), (0.75, 0.85, 0.12, 0.08, 79)),
)
CROWDS = ((3,), ())


def ellipse_targets(ellipses: tuple, crowds: tuple[int, ...], size: int) -> Targets:
    """In double precision, as the golden values were made: a pixel on an edge makes a difference."""
    cx, cy, rx, ry = torch.tensor([e[:4] for e in ellipses], dtype=torch.float64).view(-1, 4).T
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    masks = ((centres - cx[:, None]) / rx[:, None])[:, None, :] ** 2 + ((centres - cy[:, None]) / ry[:, None])[
        ..., None
    ] ** 2
    return Targets(
        boxes=torch.stack([cx - rx, cy - ry, cx + rx, cy + ry], 1).clamp(0, 1).float(),
        labels=torch.tensor([e[4] for e in ellipses], dtype=torch.int64),
        masks=masks < 1,
        crowd=torch.tensor([i in crowds for i in range(len(ellipses))], dtype=torch.bool),
    )


@pytest.mark.parametrize("name", ["yolact_base", "yolact_plus_resnet50"])
def test_loss_terms_match_the_originals(name: str, tmp_path: Path) -> None:
    expected = json.loads(shared_path(f"golden/{name}.loss.json").read_text())
    config = get_config(name)
    path = tmp_path / f"{name}.pth"
    torch.save(stand_ins.state(stand_ins.outputs(name)["keys"]), path)
    model = Yolact(config, freeze_batch_norm=True).train()
    load_into(model, read_checkpoint(path))

    rgb = stand_ins.generator().image()[..., ::-1]
    pictures = torch.from_numpy(np.stack([rgb, rgb[:, ::-1]]).astype(np.float32)).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(pictures, (550, 550), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    targets = [ellipse_targets(e, c, 550) for e, c in zip(ELLIPSES, CROWDS, strict=True)]
    terms = loss_terms(model, (images - mean) / std, targets, max_masks=None)
    names = {"B": "box", "M": "mask", "C": "classification", "S": "semantic", "I": "mask_iou"}
    assert {n: t.item() for n, t in terms.items()} == {
        names[short]: pytest.approx(loss, rel=RELATIVE) for short, loss in expected["losses"].items()
    }

    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    found = {name: gradients[name] for name in expected["grad_norms"]}
    assert found == {name: pytest.approx(norm, rel=RELATIVE) for name, norm in expected["grad_norms"].items()}
    assert np.linalg.norm(list(gradients.values())) == pytest.approx(expected["all_grad_norm"], rel=RELATIVE)


SMALL = replace(get_config("yolact_base").with_classes(("a", "b", "c")), size=64)


def random_outputs(seed: int, batch: int = 2) -> tuple[RawOutputs, Tensor]:
    """Random answers over a grid of priors of three sizes, and random semantic logits."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.cartesian_prod(torch.arange(8), torch.arange(8)) / 8 + 1 / 16
    priors = torch.cat([torch.cat([centres, torch.full((64, 2), size)], 1) for size in (0.15, 0.3, 0.6)])

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    raw = RawOutputs(
        random(batch, 192, 4), random(batch, 192, 4), random(batch, 192, 6), priors, random(batch, 16, 16, 6)
    )
    return raw, random(batch, 3, 8, 8)


def terms_of(
    raw: RawOutputs, semantic: Tensor, targets: list[Targets], config: Config = SMALL, max_masks: int | None = 100
) -> dict[str, Tensor]:
    assignment = assign(targets, raw.priors, config, max_masks)
    return losses(raw, semantic, assignment, assignment.totals, config.train)


def small_targets() -> list[Targets]:
    truths = ((0.4, 0.4, 0.3, 0.3, 1), (0.7, 0.7, 0.2, 0.25, 2), (0.2, 0.8, 0.15, 0.1, 1))
    return [ellipse_targets(truths, (), 64), ellipse_targets(truths[:2], (1,), 64)]


def test_classification_loss_follows_the_rule() -> None:
    """Three negatives a positive, the hardest of each picture, counted one by one."""
    raw, semantic = random_outputs(0)
    expected, positives = 0.0, 0
    for logits, target in zip(raw.class_logits, small_targets(), strict=True):
        matched = match(raw.priors, target.boxes[~target.crowd], target.boxes[target.crowd], SMALL.train)
        probabilities = logits.softmax(1)
        costs = sorted((-probabilities[p, 0].log() for p in (matched == BACKGROUND).nonzero()[:, 0]), reverse=True)
        answers = [(p, target.labels[~target.crowd][matched[p]] + 1) for p in (matched >= 0).nonzero()[:, 0]]
        expected += sum(costs[: 3 * len(answers)]) - sum(probabilities[p, label].log() for p, label in answers)
        positives += len(answers)
    found = terms_of(raw, semantic, small_targets())["classification"]
    torch.testing.assert_close(found, expected / positives)


def test_only_the_box_and_a_cell_around_it_teaches_a_mask() -> None:
    raw, semantic = random_outputs(1, batch=1)
    target = ellipse_targets(((0.5, 0.5, 0.25, 0.25, 0),), (), 64)
    terms_of(raw, semantic, [target])["mask"].backward()
    assert raw.prototypes.grad is not None
    taught = raw.prototypes.grad[0].abs().sum(2) > 0
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[3:13, 3:13] = True  # the box is cells 4 to 11
    assert torch.equal(taught, expected)


def test_masks_drawn_stand_for_all() -> None:
    """With positives that all cost the same, a part of them scaled back costs what all of them cost."""
    raw, semantic = random_outputs(2, batch=1)
    raw = replace(raw, mask_coefficients=torch.ones(1, 192, 6))
    target = [ellipse_targets(((0.5, 0.5, 0.3, 0.3, 0),), (), 64)]
    every, some = (terms_of(raw, semantic, target, SMALL, max_masks)["mask"] for max_masks in (None, 2))
    torch.testing.assert_close(every, some)
    mmdetection = replace(SMALL, train=replace(SMALL.train, rescale_sampled_masks=False))
    torch.testing.assert_close(terms_of(raw, semantic, target, mmdetection, 2)["mask"], every)


def test_a_picture_without_truths_teaches_background() -> None:
    raw, semantic = random_outputs(3, batch=1)
    terms = terms_of(raw, semantic, [ellipse_targets((), (), 64)])
    assert (terms["box"], terms["mask"]) == (0, 0)
    sum(terms.values()).backward()
    assert raw.class_logits.grad is not None
    assert (raw.class_logits.grad[..., 0] <= 0).all()
    assert raw.class_logits.grad[..., 0].min() < 0
    entropies = raw.class_logits.logsumexp(2) - raw.class_logits[..., 0]
    hardest = entropies.flatten().topk(EMPTY_PICTURE_NEGATIVES).values
    expected = 3 * hardest.mean()  # a negative weighs what it does beside positives, of which it takes a third
    torch.testing.assert_close(terms["classification"], expected)


def test_a_wrong_and_certain_mask_is_finite() -> None:
    raw, semantic = random_outputs(4, batch=1)
    raw = replace(
        raw, mask_coefficients=torch.full((1, 192, 6), 1e4), prototypes=torch.ones(1, 16, 16, 6).requires_grad_()
    )
    term = terms_of(raw, semantic, [ellipse_targets(((0.5, 0.5, 0.3, 0.3, 0),), (), 64)])["mask"]
    term.backward()
    assert term.isfinite()
    assert raw.prototypes.grad is not None
    assert (raw.prototypes.grad == 0).all()


def test_semantic_loss_takes_the_union_of_a_class() -> None:
    raw, _ = random_outputs(5, batch=1)
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, :32], masks[1, 16:48], masks[2, :, :8] = True, True, True
    boxes = torch.tensor([[0, 0, 1, 0.5], [0, 0.25, 1, 0.75], [0, 0, 0.125, 1]])
    target = Targets(boxes, torch.tensor([1, 1, 2]), masks, torch.zeros(3, dtype=torch.bool))
    wanted = torch.zeros(1, 3, 8, 8)
    wanted[0, 1, :6], wanted[0, 2, :, 0] = 1, 1
    logits = torch.where(wanted > 0, 30.0, -30.0)
    assert terms_of(raw, logits, [target])["semantic"] < 1e-6
    assert terms_of(raw, -logits, [target])["semantic"] == pytest.approx(3 * 30)


@pytest.mark.parametrize("rescale", [True, False])
def test_parts_of_a_batch_add_up_to_the_whole(rescale: bool) -> None:
    config = replace(SMALL, train=replace(SMALL.train, rescale_sampled_masks=rescale))
    raw, semantic = random_outputs(6, batch=3)
    targets = [*small_targets(), ellipse_targets((), (), 64)]

    def generators(pictures: range) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(b) for b in pictures]

    whole = assign(targets, raw.priors, config, 5, generators(range(3)))
    assert (whole.totals.masks, whole.totals.pictures) == (10, 3), "five of either picture with truths"
    assert whole.negatives[2] == EMPTY_PICTURE_NEGATIVES
    expected = losses(raw, semantic, whole, whole.totals, config.train)
    found = dict.fromkeys(expected, torch.zeros(()))
    for part in (range(2), range(2, 3)):
        outputs = (raw.box_deltas, raw.class_logits, raw.mask_coefficients)
        answers = RawOutputs(*(t[list(part)] for t in outputs), raw.priors, raw.prototypes[list(part)])
        assignment = assign([targets[b] for b in part], raw.priors, config, 5, generators(part))
        terms = losses(answers, semantic[list(part)], assignment, whole.totals, config.train)
        found = {name: found[name] + term for name, term in terms.items()}
    torch.testing.assert_close(found, expected)


def test_loss_terms_rejects_another_number_of_targets() -> None:
    with pytest.raises(ValueError, match="targets: one a picture is needed, got 1 for 2 pictures"):
        loss_terms(None, torch.zeros(2, 3, 64, 64), small_targets()[:1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("masks", torch.ones(1, 320, 320), TypeError, r"targets\[1\].masks must be of dtype bool, got float32"),
        ("masks", torch.ones(1, 80, 80, dtype=torch.bool), ValueError, r"masks must be of shape \[1, 320, 320\]"),
        ("crowd", torch.tensor([0]), TypeError, "crowd must be of dtype bool, got int64"),
        ("labels", torch.tensor([2]), ValueError, r"targets\[1\].labels must be from 0 to 1, got 2"),
        ("labels", torch.tensor([-1]), ValueError, "labels must be from 0 to 1, got -1"),
        ("labels", torch.tensor([0, 1]), ValueError, r"labels must be of shape \[1\], got \[2\]"),
        ("boxes", torch.tensor([[20.0, 20, 80, 80]]), ValueError, r"fractions of the input, .*, got \[20.0, 20.0, 80"),
        ("boxes", torch.tensor([[0.5, 0.1, 0.5, 0.9]]), ValueError, "x1 < x2 and y1 < y2"),
        ("boxes", torch.tensor([[0.1, 0.1, torch.nan, 0.9]]), ValueError, "x1 < x2 and y1 < y2"),
    ],
)
def test_loss_terms_rejects_what_is_no_truth(field: str, value: Tensor, error: type[Exception], message: str) -> None:
    config = get_config("yolact_lite0").with_classes(("one", "two"))
    model = SimpleNamespace(config=config, priors=torch.zeros(0, 4))
    square = torch.ones(1, config.size, config.size, dtype=torch.bool)
    truth = Targets(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]), square, torch.tensor([False]))
    images = torch.zeros(2, 3, config.size, config.size)
    with pytest.raises(error, match=message):
        loss_terms(model, images, [truth, replace(truth, **{field: value})])  # type: ignore[arg-type]


def test_loss_terms_rejects_an_empty_batch_and_no_masks_to_draw() -> None:
    with pytest.raises(ValueError, match="images must hold at least one picture"):
        loss_terms(None, torch.zeros(0, 3, 64, 64), [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_masks must be at least 1, got 0"):
        loss_terms(None, torch.zeros(1, 3, 64, 64), small_targets()[:1], max_masks=0)  # type: ignore[arg-type]


def test_shrink_masks_takes_more_than_half() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 0, 2:] = mask[0, 1, 2] = True
    assert shrink_masks(mask, (2, 2)).tolist() == [[[False, True], [False, False]]]
    assert shrink_masks(mask[:0], (2, 2)).shape == (0, 2, 2)
