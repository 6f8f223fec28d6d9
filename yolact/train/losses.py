"""The losses (section 3 of the paper; mask re-scoring is of YOLACT++), in single precision whatever the network ran in.

Every one is a sum over the batch, divided by counts that are handed in: the parts of a batch, on several processes or
one after the other, add up to what the whole would have given. Nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact import ops
from yolact.config import Config
from yolact.models.mask_iou import MaskIoUNet
from yolact.models.yolact import Yolact
from yolact.ops._checks import check_count
from yolact.options import TrainOptions
from yolact.structures import RawOutputs
from yolact.train.assignment import Assignment, Totals, assign
from yolact.train.mask_iou import mask_iou_loss
from yolact.train.targets import Targets

TERMS = ("box", "classification", "mask", "semantic")


def term_names(config: Config) -> tuple[str, ...]:
    """The losses that a configuration is trained with, in their order."""
    return (*TERMS, "mask_iou") if config.mask_rescoring else TERMS


def loss_terms(
    model: Yolact,
    images: Tensor,  # [B, 3, S, S] preprocessed
    targets: Sequence[Targets],
    max_masks: int | None = 100,
) -> dict[str, Tensor]:
    """The network's losses on a batch; their sum is what training minimises.

    Args:
        model: in train mode for training; its configuration tells thresholds and weights.
        images: [B, 3, S, S] float, preprocessed.
        targets: one a picture.
        max_masks: positives drawn at random for the mask loss in a picture; None: all of them.

    Returns:
        "box", "classification", "mask" and "semantic", with mask re-scoring also "mask_iou": scalars, weighted as
        trained.

    Raises:
        TypeError: a tensor of the targets is of another dtype.
        ValueError: there is no picture, or not one Targets a picture, or boxes, labels or masks that are no truths.
    """
    if len(targets) != len(images):
        raise ValueError(f"targets: one a picture is needed, got {len(targets)} for {len(images)} pictures")
    if not targets:
        raise ValueError("images must hold at least one picture")
    if max_masks is not None:
        max_masks = check_count(max_masks, "max_masks")
    truths = [target.to("cpu") for target in targets]
    for b, truth in enumerate(truths):
        truth.check(f"targets[{b}]", model.config)
    assignment = assign(truths, model.priors.cpu(), model.config, max_masks)
    raw, semantic_logits = model.forward_train(images)
    return losses(
        raw, semantic_logits, assignment.to(images.device), assignment.totals, model.config.train, model.maskiou_net
    )


def losses(
    raw: RawOutputs,
    semantic_logits: Tensor,  # [B, C, h, w]
    assignment: Assignment,
    totals: Totals,
    options: TrainOptions,
    maskiou_net: MaskIoUNet | None = None,
) -> dict[str, Tensor]:
    """The share of a batch in the losses of all that `totals` counts; see `loss_terms`."""
    positives = max(totals.positives, 1)
    # Negatives of pictures without truths have no positives; without a share of theirs, a batch with few positives and
    # such pictures would take a step many times too long.
    answers = max(positives, totals.negatives / max(options.negatives_per_positive, 1))
    masks = positives if options.rescale_sampled_masks else max(totals.masks, 1)
    deltas = raw.box_deltas.flatten(0, 1).index_select(0, assignment.positive)
    coefficients = raw.mask_coefficients.flatten(0, 1).index_select(0, assignment.drawn)
    mask = ops.mask_loss(
        raw.prototypes, coefficients, assignment.picture, assignment.truth, assignment.boxes, assignment.masks
    )
    box = F.smooth_l1_loss(deltas.float(), assignment.deltas, reduction="sum")
    found = {
        "box": options.box_weight / positives * box,
        "classification": options.classification_weight / answers * classification_loss(raw.class_logits, assignment),
        "mask": options.mask_weight / masks * (mask * assignment.weight).sum(),
        "semantic": options.semantic_weight / totals.pictures * semantic_loss(semantic_logits, assignment),
    }
    if maskiou_net is not None:
        found["mask_iou"] = options.mask_iou_weight / positives * mask_iou_loss(maskiou_net, raw, assignment)
    return found


def classification_loss(
    logits: Tensor,  # [B, P, 1 + C], background first
    assignment: Assignment,
) -> Tensor:
    """Cross entropy, summed over the positives and the hardest negatives of each picture, three a positive.

    The hardest are those of the largest cross entropy, which of background is logsumexp(logits) - logits[0]. Entropies
    that a gradient flows through are taken of the rows that count alone, a small part of all.
    """
    with torch.no_grad():
        hardness = torch.stack([picture.float().logsumexp(1) - picture[:, 0].float() for picture in logits])  # [B, P]
        hardness = hardness.masked_fill(~assignment.background, -torch.inf)
        hardest = hardness.argsort(dim=1, descending=True, stable=True)[:, : assignment.most_negatives]
        rank = torch.arange(assignment.most_negatives, device=logits.device)
        counted = rank < assignment.negatives[:, None]  # [B, most_negatives]
        first_rows = torch.arange(len(logits), device=logits.device)[:, None] * logits.shape[1]
        rows = torch.cat([assignment.positive, (hardest + first_rows).flatten()])
    entropy = F.cross_entropy(
        logits.flatten(0, 1).index_select(0, rows).float(),
        F.pad(assignment.classes, (0, hardest.numel())),  # background
        reduction="none",
    )
    positive, negative = entropy.split([len(assignment.positive), hardest.numel()])
    return positive.sum() + negative.where(counted.flatten(), 0).sum()


def semantic_loss(
    logits: Tensor,  # [B, C, h, w]
    assignment: Assignment,
) -> Tensor:
    """Binary cross entropy of each class with the union of its objects, over h * w, summed over the pictures."""
    *_, h, w = logits.shape
    logits = logits.flatten(0, 1).float()  # [B * C, h, w]
    objects = torch.zeros_like(logits).index_add_(0, assignment.channel, assignment.semantic.float())
    return F.binary_cross_entropy_with_logits(logits, objects.clamp_(max=1), reduction="sum") / (h * w)
