"""The four losses (sections 3 and 6 of the paper), in single precision whatever the network computed in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.config import Config, TrainOptions
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs
from yolact.train.matching import BACKGROUND, encode, match
from yolact.train.targets import Targets

# A picture without truths has no positives to mine three negatives for each of; this many teach background instead,
# about as many as one truth brings.
EMPTY_PICTURE_NEGATIVES = 64


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
        targets: one a picture, on the device of the images.
        max_masks: positives drawn at random for the mask loss in a picture; None: all of them.

    Returns:
        "box", "classification", "mask" and "semantic": scalars, weighted as trained.

    Raises:
        ValueError: there is not one Targets a picture.
    """
    if len(targets) != len(images):
        raise ValueError(f"targets: one a picture is needed, got {len(targets)} for {len(images)} pictures")
    raw, semantic_logits = model.forward_train(images)
    return losses(raw, semantic_logits, targets, model.config, max_masks)


def losses(
    raw: RawOutputs,
    semantic_logits: Tensor,  # [B, C, h, w]
    targets: Sequence[Targets],
    config: Config,
    max_masks: int | None = 100,
) -> dict[str, Tensor]:
    """The losses of what the network answered; see `loss_terms`."""
    options = config.train
    matched = torch.stack([match(raw.priors, t.boxes[~t.crowd], t.boxes[t.crowd], options) for t in targets])  # [B, P]
    box = raw.box_deltas.new_zeros((), dtype=torch.float32)
    mask = box.clone()
    semantic = box.clone()
    masks_drawn = 0
    for i, target in enumerate(targets):
        boxes, labels, masks = (x[~target.crowd] for x in (target.boxes, target.labels, target.masks))
        prior = (matched[i] >= 0).nonzero()[:, 0]
        truth = matched[i, prior]
        deltas = encode(boxes[truth], raw.priors[prior], config.detect.variances)
        box = box + F.smooth_l1_loss(raw.box_deltas[i, prior].float(), deltas, reduction="sum")
        term, drawn = mask_loss(
            raw.prototypes[i].float(), raw.mask_coefficients[i, prior].float(), truth, boxes, masks, options, max_masks
        )
        mask, masks_drawn = mask + term, masks_drawn + drawn
        semantic = semantic + semantic_loss(semantic_logits[i].float(), labels, masks)
    positives = (matched >= 0).sum().clamp(min=1)
    classification = classification_loss(raw.class_logits.float(), matched, targets, options)
    return {
        "box": options.box_weight * box / positives,
        "classification": options.classification_weight * classification / positives,
        "mask": options.mask_weight * mask / (positives if options.rescale_sampled_masks else max(masks_drawn, 1)),
        "semantic": options.semantic_weight * semantic / len(targets),
    }


def classification_loss(
    logits: Tensor,  # [B, P, 1 + C], background first
    matched: Tensor,  # [B, P]
    targets: Sequence[Targets],
    options: TrainOptions,
) -> Tensor:
    """Cross entropy, summed over the positives and the hardest negatives of each picture, three a positive.

    The hardest are those of the largest cross entropy, which of background is logsumexp(logits) - logits[0].
    """
    wanted = torch.zeros_like(matched)
    for row, answers, target in zip(wanted, matched, targets, strict=True):
        positive = answers >= 0
        row[positive] = target.labels[~target.crowd][answers[positive]] + 1
    entropy = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(matched)
    with torch.no_grad():
        hardness = entropy.masked_fill(matched != BACKGROUND, -torch.inf)
        positives = (matched >= 0).sum(1, keepdim=True)
        quota = torch.where(positives > 0, options.negatives_per_positive * positives, EMPTY_PICTURE_NEGATIVES)
        rank = hardness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        counted = (matched >= 0) | ((matched == BACKGROUND) & (rank < quota))
    return (entropy * counted).sum()


def mask_loss(
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [p, K] of the positives
    truth: Tensor,  # [p] which truth each answers for
    boxes: Tensor,  # [n, 4] xyxy, fractions
    masks: Tensor,  # [n, S, S] bool
    options: TrainOptions,
    max_masks: int | None,
) -> tuple[Tensor, int]:
    """Binary cross entropy of the assembled masks inside the true boxes, a sum over each box's area in prototype cells.

    Returns:
        the sum over the positives, and how many of them were drawn.
    """
    h, w, _ = prototypes.shape
    count = len(truth)
    if max_masks is not None and count > max_masks:
        drawn = torch.randperm(count, device=truth.device)[:max_masks]
        coefficients, truth = coefficients[drawn], truth[drawn]
    wanted = shrink_masks(masks, (h, w))[truth]  # [p, h, w]
    boxes = boxes[truth] * boxes.new_tensor((w, h, w, h))
    x1, y1, x2, y2 = boxes.unbind(1)
    columns = torch.arange(w, device=boxes.device)
    rows = torch.arange(h, device=boxes.device)
    # Cropped as the predictions are: by the box, a cell wider on every side.
    inside_x = (columns >= (x1 - 1).clamp(min=0)[:, None]) & (columns < (x2 + 1).clamp(max=w)[:, None])  # [p, w]
    inside_y = (rows >= (y1 - 1).clamp(min=0)[:, None]) & (rows < (y2 + 1).clamp(max=h)[:, None])  # [p, h]
    logits = (coefficients @ prototypes.flatten(0, 1).T).view(-1, h, w)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    # The original takes it from probabilities: one that rounds to 0 or 1 and is wrong costs 100 and has no gradient.
    entropy = entropy.masked_fill((torch.sigmoid(logits) - wanted).abs() == 1, 100.0)
    entropy = torch.einsum("phw,ph,pw->p", entropy, inside_y.float(), inside_x.float())
    term = (entropy / ((x2 - x1) * (y2 - y1))).sum()
    if options.rescale_sampled_masks and len(truth):
        term = term * (count / len(truth))
    return term, len(truth)


def semantic_loss(
    logits: Tensor,  # [C, h, w]
    labels: Tensor,  # [n]
    masks: Tensor,  # [n, S, S] bool
) -> Tensor:
    """Binary cross entropy of each class with the union of its objects, over h * w."""
    classes, h, w = logits.shape
    wanted = logits.new_zeros(classes, h, w).index_add_(0, labels, shrink_masks(masks, (h, w))).clamp_(max=1)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / (h * w)


def shrink_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:  # [n, S, S] bool -> [n, h, w] float, 0 or 1
    """Masks at another size: bilinear, then more than half."""
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.float32)
    shrunk = F.interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0]
    return (shrunk > 0.5).float()
