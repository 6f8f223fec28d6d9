"""One CUDA graph of all the operators, replayed with ten inputs: among them an overflow, no survivors, other sizes."""

from __future__ import annotations

import pytest
import torch
from calls import results_of
from torch import Tensor

from yolact import ops

pytestmark = pytest.mark.usefixtures("gpu")
BATCH, PRIORS, CLASSES, K, SIDE, CAPACITY = 2, 300, 5, 8, 20, 1000
DENSE = (45, 52)


def pipeline(
    box_deltas: Tensor,
    class_logits: Tensor,
    priors: Tensor,
    mask_coefficients: Tensor,
    prototypes: Tensor,
    sizes: Tensor,
    pictures: Tensor,
) -> dict[str, Tensor]:
    """Every operator once, each on what the one before it gave."""
    found = ops.detect(box_deltas, class_logits, priors, max_detections=20)
    rows = found.prior.clamp(min=0)[..., None].expand(-1, -1, K)
    assembly = (prototypes, mask_coefficients.gather(1, rows), found.boxes)
    strings = ops.assemble_run_lengths(*assembly, sizes, count=found.count, capacity=CAPACITY)
    masks = ops.assemble_masks(*assembly, DENSE, count=found.count)
    encoded = ops.encode_run_lengths(masks.flatten(0, 1), capacity=4000)
    row = torch.arange(BATCH * 16, device=prototypes.device)
    corners = torch.cat([priors[:K, :2], priors[:K].view(-1, 2, 2).sum(1) + 0.1], 1)
    truths = (prototypes, mask_coefficients[:, :16].flatten(0, 1), row // 16, row % K, corners)
    truths += (prototypes[0].permute(2, 0, 1) > 0.5,)
    loss = ops.mask_loss(*truths)
    # Whole numbers and quarters, of which every sum is exact, whatever way torch multiplies matrices; channels last.
    maps = prototypes.round().permute(0, 3, 1, 2)  # [B, K, h, w]
    weight = mask_coefficients[0, :72].sign().view(K, 3, 3, K).permute(0, 3, 1, 2)
    convolution = (maps, torch.cat([maps, maps, maps[:, :2]], 1) / 4, weight)
    options = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "deterministic": True}
    wanted = [True, True, True, False]
    results = {
        "deform_conv2d": ops.deform_conv2d(*convolution, padding=1),
        "deform_conv2d_backward": torch.ops.yolact.deform_conv2d_backward(
            maps, *convolution, None, **options, wanted=wanted
        ),
        "detect": found,
        "assemble_run_lengths": strings,
        "assemble_masks": masks,
        "encode_run_lengths": encoded,
        "decode_run_lengths": ops.decode_run_lengths(encoded, DENSE),
        "fast_nms": ops.fast_nms(found.boxes, found.score[:, None], iou_threshold=0.3),
        "mask_loss": loss,
        "mask_loss_backward": torch.ops.yolact.mask_loss_backward(loss, *truths, padding=1.0),
        "preprocess": ops.preprocess(pictures, 16, (1, 2, 3), (4, 5, 6)),
    }
    return {f"{name} {i}": tensor for name, found in results.items() for i, tensor in enumerate(results_of(found))}


def draw(seed: int, kind: str) -> list[Tensor]:
    """The arguments of `pipeline`, on the CPU."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(PRIORS, 2, generator=random)
    logits = 2 * torch.randn(BATCH, PRIORS, 1 + CLASSES, generator=random)
    logits[..., 0] += 100.0 if kind == "no survivors" else 3.0
    prototypes = torch.randn(BATCH, SIDE, SIDE, K, generator=random).relu()
    coefficients = torch.randn(BATCH, PRIORS, K, generator=random)
    sizes = torch.randint(30, 90, (BATCH, 2), generator=random)
    sides = torch.rand(PRIORS, 2, generator=random) * 0.4
    if kind == "overflow":  # noise in boxes as large as the picture
        sizes = torch.tensor([[700, 900], [650, 1300]])
        sides = sides + 2.0
    elif kind == "other sizes":
        sizes = torch.tensor([[1, 1], [200, 13]])
    pictures = torch.randint(0, 256, (BATCH, 30, 40, 3), dtype=torch.uint8, generator=random)
    deltas = torch.randn(BATCH, PRIORS, 4, generator=random)
    return [deltas, logits, torch.cat([corners, sides], 1), coefficients, prototypes, sizes, pictures]


KINDS = [
    "usual",
    "no survivors",
    "other sizes",
    "overflow",
    "usual",
    "other sizes",
    "no survivors",
    "overflow",
    *["usual"] * 2,
]


def test_one_graph_serves_ten_inputs(gpu):
    arguments = [tensor.to(gpu) for tensor in draw(99, "usual")]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        pipeline(*arguments)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = pipeline(*arguments)

    for seed, kind in enumerate(KINDS):
        inputs = draw(seed, kind)
        for static, tensor in zip(arguments, inputs, strict=True):
            static.copy_(tensor)
        graph.replay()
        expected = pipeline(*arguments)
        for name, tensor in expected.items():
            assert torch.equal(results[name], tensor), f"{name}, input {seed}: {kind}"
        count, needed = results["detect 4"].cpu(), results["assemble_run_lengths 2"]
        assert torch.equal(count, pipeline(*inputs)["detect 4"])
        assert (count == 0).all() if kind == "no survivors" else (count > 0).all()
        assert bool((needed > CAPACITY).any()) == (kind == "overflow"), kind
