"""The loss of the net that predicts how good masks are, beside the rule written out mask by mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_losses import ellipse_targets
from torch import Tensor

from yolact.config import get_config
from yolact.models.mask_iou import MaskIoUNet
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs
from yolact.train.assignment import Assignment, assign
from yolact.train.losses import losses, term_names
from yolact.train.targets import Targets

CONFIG = replace(get_config("yolact_plus_base").with_classes(("a", "b", "c")), size=252)  # prototypes of 64 x 64
SIDE = 64
LARGE, LARGER, SMALL = (0.4, 0.4, 0.3, 0.3, 1), (0.55, 0.6, 0.25, 0.4, 2), (0.8, 0.2, 0.04, 0.04, 0)
TARGETS = ((LARGE, SMALL), (), (LARGER, LARGE))


@pytest.fixture(scope="module")
def net() -> MaskIoUNet:
    torch.manual_seed(0)
    net = MaskIoUNet(3)
    with torch.no_grad():
        net.maskiou_net[-2].bias.fill_(0.3)  # or the ReLU would stop some gradients
    return net


def outputs(batch: int) -> RawOutputs:
    """Random answers of a grid of priors of two sizes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.cartesian_prod(torch.arange(6), torch.arange(6)) / 6 + 1 / 12
    priors = torch.cat([torch.cat([centres, torch.full((36, 2), size)], 1) for size in (0.4, 0.7)])

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    prototypes = random(batch, SIDE, SIDE, 4)
    return RawOutputs(random(batch, 72, 4), random(batch, 72, 4), random(batch, 72, 4), priors, prototypes)


def targets(pictures: tuple = TARGETS) -> list[Targets]:
    return [ellipse_targets(truths, (), CONFIG.size) for truths in pictures]


def term(net: MaskIoUNet, raw: RawOutputs, assignment: Assignment) -> Tensor:
    semantic = torch.zeros(len(raw.prototypes), 3, SIDE // 2, SIDE // 2)
    found = losses(raw, semantic, assignment, assignment.totals, CONFIG.train, net)
    assert tuple(found) == term_names(CONFIG)
    return found["mask_iou"]


def gradients(loss: Tensor, net: MaskIoUNet, raw: RawOutputs) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [raw.prototypes, raw.mask_coefficients, *net.parameters()]))


def test_it_follows_the_rule(net: MaskIoUNet) -> None:
    raw = outputs(3)
    assignment = assign(targets(), raw.priors, CONFIG, None)
    centres = torch.arange(SIDE)
    total, small = torch.zeros(()), 0
    for picture, row, truth in zip(assignment.picture, assignment.drawn, assignment.truth, strict=True):
        wanted = assignment.masks[truth]
        if wanted.sum() <= CONFIG.train.min_mask_iou_area:
            small += 1
            continue
        coefficients = raw.mask_coefficients[picture, row - picture * 72]
        x1, y1, x2, y2 = assignment.boxes[truth] * SIDE
        columns, rows = (centres >= x1 - 1) & (centres < x2 + 1), (centres >= y1 - 1) & (centres < y2 + 1)
        mask = (raw.prototypes[picture] @ coefficients).sigmoid() * (rows[:, None] & columns)
        iou = ((mask > 0.5) & wanted).sum() / ((mask > 0.5) | wanted).sum()
        label = assignment.channel[truth] - picture * 3
        total = total + 25 * F.smooth_l1_loss(net(mask[None, None])[0, label], iou)
    assert (small, len(assignment.drawn)) == (1, 10)
    found, expected = term(net, raw, assignment), total / len(assignment.positive)
    torch.testing.assert_close(found, expected)
    mine, theirs = gradients(found, net, raw), gradients(expected, net, raw)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)  # sums in another order
    assert all(gradient.any() for gradient in mine), "the masks learn from it, too"


def test_truths_too_small_teach_nothing_but_have_a_gradient(net: MaskIoUNet) -> None:
    raw = outputs(2)
    assignment = assign(targets(((SMALL,), ())), raw.priors, CONFIG, None)
    assert len(assignment.drawn) > 0
    found = term(net, raw, assignment)
    assert found == 0
    assert not any(gradient.any() for gradient in gradients(found, net, raw))
    area = int(assignment.masks.sum())
    for least, count in ((area, 0), (area - 1, len(assignment.drawn))):
        config = replace(CONFIG, train=replace(CONFIG.train, min_mask_iou_area=float(least)))
        assert len(assign(targets(((SMALL,), ())), raw.priors, config, None).rescored) == count


def test_a_picture_gives_as_many_masks_as_are_drawn(net: MaskIoUNet) -> None:
    raw = outputs(3)
    assignment = assign(targets(), raw.priors, CONFIG, 2)
    assert assignment.rescored_counts == tuple(
        sum(bool(assignment.masks[t].sum() > 25) for t in assignment.truth[assignment.picture == b]) for b in range(3)
    )
    assert assignment.rescored_counts[2] == 2
    shapes = []
    handle = net.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    term(net, raw, assignment)
    handle.remove()
    assert shapes == [(len(assignment.rescored), 1, SIDE, SIDE)], "one batch of the net, whatever the pictures"


def test_parts_of_a_batch_add_up_to_the_whole(net: MaskIoUNet) -> None:
    raw = outputs(3)

    def generators(pictures: list[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(b) for b in pictures]

    whole = assign(targets(), raw.priors, CONFIG, 5, generators([0, 1, 2]))
    semantic = torch.zeros(3, 3, SIDE // 2, SIDE // 2)
    expected = losses(raw, semantic, whole, whole.totals, CONFIG.train, net)["mask_iou"]
    found = torch.zeros(())
    for part in ([0, 1], [2]):
        answers = RawOutputs(
            *(t[part] for t in (raw.box_deltas, raw.class_logits, raw.mask_coefficients)),
            raw.priors,
            raw.prototypes[part],
        )
        assignment = assign([targets()[b] for b in part], raw.priors, CONFIG, 5, generators(part))
        found = found + losses(answers, semantic[part], assignment, whole.totals, CONFIG.train, net)["mask_iou"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_every_class_of_a_new_net_can_learn(seed: int) -> None:
    """A ReLU that gives 0 for whatever mask has no gradient: such a class would never have a score."""
    torch.manual_seed(seed)
    net = Yolact(CONFIG.with_num_classes(20)).maskiou_net
    assert net is not None
    masks = torch.stack([(planes @ torch.randn(4, 5)).sigmoid() for planes in outputs(3).prototypes])
    predicted = net(masks.permute(0, 3, 1, 2).flatten(0, 1)[:, None])
    assert (predicted > 0).any(0).all()
    assert 0.5 < predicted.mean() < 1.5


def test_the_net_learns_which_masks_are_good() -> None:
    """Half planes inside the boxes of ellipses: some fit, some are on the wrong side."""
    torch.manual_seed(0)
    net = Yolact(CONFIG).maskiou_net
    assert net is not None
    ramps = torch.cartesian_prod(*2 * [torch.linspace(-1, 1, SIDE)]).view(SIDE, SIDE, 2)
    prototypes = torch.cat([ramps, torch.ones(SIDE, SIDE, 1)], 2).expand(12, -1, -1, -1)
    raw = replace(outputs(12), prototypes=prototypes, mask_coefficients=10 * torch.randn(12, 72, 3))
    assignment = assign(targets(4 * TARGETS), raw.priors, CONFIG, None)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        term(net, raw, assignment).backward()
        optimizer.step()
    cost = term(net, raw, assignment)
    last, same_for_all = net.maskiou_net[-2], []
    torch.nn.init.zeros_(last.weight)
    for iou in range(21):
        torch.nn.init.constant_(last.bias, iou / 20)
        same_for_all.append(term(net, raw, assignment))
    assert cost < 0.2 * min(same_for_all)


def test_half_precision_answers_are_taken_in_single(net: MaskIoUNet) -> None:
    raw = outputs(3)
    half = replace(raw, prototypes=raw.prototypes.bfloat16(), mask_coefficients=raw.mask_coefficients.bfloat16())
    rounded = replace(raw, prototypes=half.prototypes.float(), mask_coefficients=half.mask_coefficients.float())
    assignment = assign(targets(), raw.priors, CONFIG, None)
    expected = term(net, rounded, assignment)
    torch.testing.assert_close(term(net, half, assignment), expected, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(term(net, half, assignment), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_precisions_are_taken(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, raw = Yolact(CONFIG).maskiou_net, outputs(3)
    assert net is not None
    assignment = assign(targets(), raw.priors, CONFIG, None)
    expected = term(net, raw, assignment)
    other = replace(raw, prototypes=raw.prototypes.to(dtype), mask_coefficients=raw.mask_coefficients.to(dtype))
    found = term(net.to(dtype), other, assignment)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=0)


def test_other_configurations_have_no_such_loss() -> None:
    raw = outputs(3)
    assignment = assign(targets(), raw.priors, CONFIG, None)
    found = losses(raw, torch.zeros(3, 3, 32, 32), assignment, assignment.totals, CONFIG.train)
    assert tuple(found) == term_names(get_config("yolact_base")) == ("box", "classification", "mask", "semantic")
