"""What scores of masks cost (YOLACT++): all between detection and its results that is there for them.

Ours is what `Model.predict` runs, on a CPU for the detections that count alone, on a GPU for every row; beside it the
original's formulation. Nets have random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import cpu_jobs, cuda_jobs, inputs
from benchmarks.cuda_timing import Contender, InputSet
from yolact.bench.eager import eager_rescore
from yolact.engine.rescoring import MaskIoU, lean_mask_iou, rescore
from yolact.models.mask_iou import SMALLEST, MaskIoUNet
from yolact.structures import Rows

Way = Callable[..., Tensor]

CLASSES = 80
COUNTS = (1, 15, 100)  # detections of a picture


def random_net(device: torch.device) -> MaskIoUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MaskIoUNet(CLASSES).requires_grad_(False).to(device)


def detections(batch: int, count: int, side: int, seed: int = 0) -> InputSet:
    """Scores and labels [B, D], boxes [B, D, 4], coefficients [B, D, K] and prototypes [B, h, w, K]."""
    given, random = inputs.smooth_masks(batch, count, side, seed=seed), torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, count, generator=random).sort(1, descending=True).values
    labels = torch.randint(CLASSES, (batch, count), generator=random)
    return scores, labels, given.boxes, given.coefficients, given.prototypes


def ours(
    lean: MaskIoU, ragged: bool, scores: Tensor, labels: Tensor, boxes: Tensor, coefficients: Tensor, maps: Tensor
) -> Tensor:  # [B, D]
    """By falling score of the mask."""
    count = torch.full_like(labels[:, 0], scores.shape[1])
    rows = Rows(count, labels, scores, None, None, boxes, boxes, coefficients, maps)
    return rescore(rows, lean, "mask", 0.0, ragged=ragged).scores


def original(
    net: MaskIoUNet, scores: Tensor, labels: Tensor, boxes: Tensor, coefficients: Tensor, maps: Tensor
) -> Tensor:  # [B, D]
    """As the original has it, picture by picture."""
    return torch.stack([eager_rescore(net, *p) for p in zip(maps, coefficients, boxes, labels, scores, strict=True)])


def contenders(net: MaskIoUNet, ragged: bool) -> tuple[dict[str, Way], Callable[..., None]]:
    """Both ways, and what compares them."""
    ways = {"yolact": partial(ours, lean_mask_iou(net), ragged), "torch eager, as the original": partial(original, net)}

    def check(*tensors: Tensor) -> None:
        mine, theirs = (way(*tensors) for way in ways.values())
        assert mine.count_nonzero() > 0
        torch.testing.assert_close(mine, theirs.sort(1, descending=True).values, rtol=1e-3, atol=1e-5)

    return ways, check


def on_cpu() -> Iterator[cpu_jobs.Job]:
    """One picture, by how much was found in it."""
    ways, check = contenders(random_net(torch.device("cpu")), ragged=True)
    for count in COUNTS:
        given = detections(1, count, 138)
        runs = {name: partial(way, *given) for name, way in ways.items()}
        yield cpu_jobs.Job(f"scores of {count} masks of 138 x 138", runs, partial(check, *given))


def on_gpu(device: torch.device, sizes: cuda_jobs.Sizes) -> Iterator[cuda_jobs.Job]:
    """Every row of a picture, as the graph of `Model.predict` has them."""
    ways, check = contenders(random_net(device), ragged=False)
    side = max(SMALLEST, sizes.prototypes)
    for batch in sizes.batches:

        def draw(seed: int, batch: int = batch) -> InputSet:
            return tuple(tensor.to(device) for tensor in detections(batch, sizes.masks, side, seed))

        timed = {name: Contender(way) for name, way in ways.items()}
        yield cuda_jobs.Job(f"scores of {batch} x {sizes.masks} masks of {side} x {side}", draw, timed, check)
