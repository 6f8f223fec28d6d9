"""What a GPU is asked: each operator beside its peers, at the sizes that its users have.

A job draws input sets from seeds; its contenders, ours first, take the tensors of a set. It is checked before it is
timed: ours against ours on the CPU, and the peers against ours. Peers that end on the host, and those of torch.compile,
run on one picture in float32: eight take eight times as long, and to compile takes seconds a shape.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks import inputs, peers
from benchmarks.cuda_timing import Contender, InputSet
from yolact import ops
from yolact.ops.reference.detect import decode
from yolact.structures import Selection

MEAN, STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)


@dataclass(frozen=True)
class Sizes:
    """How large the jobs are."""

    batches: tuple[int, ...] = (1, 8)
    pictures: tuple[tuple[int, int], ...] = ((550, 550), (480, 640), (1080, 1920))
    masks: int = 100
    prototypes: int = 138  # pixels a side
    compiles: bool = True


TOY = Sizes(batches=(1, 2), pictures=((50, 50), (40, 60)), masks=6, prototypes=16, compiles=False)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Job:
    """One question: the same work by several contenders, ours first."""

    name: str
    draw: Callable[[int], InputSet]  # from a seed, on the device
    contenders: dict[str, Contender]
    check: Callable[..., None]  # takes the tensors of a set; raises AssertionError where contenders disagree


CROWDS = {
    "1200 survivors": {"survivors": 1200, "clusters": 60},
    "1200 survivors, 36 kept, then filled up": {"survivors": 1200, "clusters": 10},
    "40 survivors": {"survivors": 40, "clusters": 4},
}


@functools.cache
def head_outputs(batch: int, crowd: str, seed: int) -> inputs.DetectInputs:
    """Drawn once on the CPU, whatever the dtype that they are asked in."""
    return inputs.clustered_detections(batch, seed=seed, **CROWDS[crowd])


def detect(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Beside the original's formulation. Every logit is read once; what else moves is a hundredth of that."""
    for batch in sizes.batches:
        for dtype in (torch.float32, torch.float16):
            for crowd in CROWDS:
                everything = batch == 1 and dtype is torch.float32

                def draw(seed: int, batch=batch, dtype=dtype, crowd=crowd) -> InputSet:
                    given = head_outputs(batch, crowd, seed)
                    return (
                        given.box_deltas.to(device, dtype),
                        given.class_logits.to(device, dtype),
                        given.priors.to(device),
                    )

                def check(*tensors: Tensor, everything=everything) -> None:
                    ours = ops.detect(*tensors)
                    on_cpu = ops.detect(*(tensor.cpu() for tensor in tensors))
                    assert torch.equal(ours.count.cpu(), on_cpu.count)
                    torch.testing.assert_close(ours.score.cpu(), on_cpu.score, rtol=1e-6, atol=0)
                    # Of two scores that differ by a rounding, either may come first.
                    differ = (ours.prior.cpu() != on_cpu.prior) | (ours.label.cpu() != on_cpu.label)
                    assert differ.sum(1).amax() <= 4
                    for b, (_, label, score) in enumerate(peers.eager_detect(*tensors)) if everything else ():
                        assert ours.count[b] == len(label)
                        torch.testing.assert_close(ours.score[b, : len(score)], score)
                        assert (ours.label[b, : len(label)] != label).sum() <= 4

                shape = draw(0)[1].shape
                moved = shape.numel() * dtype.itemsize
                contenders = {
                    "yolact": Contender(ops.detect, moved),
                    "torch eager, as the original": Contender(peers.eager_detect, waits=True),
                }
                if everything and sizes.compiles:
                    contenders["torch.compile"] = Contender(peers.compiled(peers.eager_detect), waits=True)
                yield Job(f"detect {' x '.join(map(str, shape))} {name_of(dtype)}, {crowd}", draw, contenders, check)


def fast_nms(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Suppression alone, and traditional NMS beside torchvision's, over the best boxes of a picture."""
    for batch in sizes.batches:
        for count in (100, 1200):

            def draw(seed: int, batch=batch, count=count) -> InputSet:
                given = head_outputs(batch, "1200 survivors", seed)
                boxes = decode(given.box_deltas, given.priors, (0.1, 0.2), None, False)
                scores = given.class_logits.softmax(-1)[..., 1:].transpose(1, 2)  # [B, C, P]
                best = scores.amax(1).topk(min(count, boxes.shape[1])).indices[:, None]  # [B, 1, N]
                boxes = boxes.gather(1, best.mT.expand(-1, -1, 4))
                scores = scores.gather(2, best.expand(-1, scores.shape[1], -1))
                return boxes.to(device), scores.to(device)

            def eager(boxes: Tensor, scores: Tensor) -> list[tuple[Tensor, ...]]:
                return [peers.eager_fast_nms(*picture) for picture in zip(boxes, scores, strict=True)]

            def torchvision(boxes: Tensor, scores: Tensor) -> list[tuple[Tensor, ...]]:
                return [peers.torchvision_nms(*picture) for picture in zip(boxes, scores, strict=True)]

            def traditional(boxes: Tensor, scores: Tensor) -> Selection:
                options = {"method": "greedy", "score_threshold": 0.05, "top_k": boxes.shape[1]}
                return ops.fast_nms(boxes, scores, **options)

            def agree(ours: Selection, pictures: list[tuple[Tensor, ...]]) -> None:
                for b, (_, label, score) in enumerate(pictures):
                    assert ours.count[b] == len(score)
                    torch.testing.assert_close(ours.score[b, : len(score)], score)
                    assert (ours.label[b, : len(label)] != label).sum() <= 4  # equal scores, in torch's order

            def check(boxes: Tensor, scores: Tensor, agree=agree, traditional=traditional) -> None:
                ours, on_cpu = ops.fast_nms(boxes, scores), ops.fast_nms(boxes.cpu(), scores.cpu())
                for field in ("index", "label", "score", "count"):
                    assert torch.equal(getattr(ours, field).cpu(), getattr(on_cpu, field)), field
                agree(ours, eager(boxes, scores))
                if importlib.util.find_spec("torchvision"):
                    agree(traditional(boxes, scores), torchvision(boxes, scores))

            shape = draw(0)[1].shape
            contenders = {
                "yolact": Contender(ops.fast_nms, 4 * shape.numel() + 16 * batch * shape[2]),
                "yolact, traditional": Contender(traditional),
                "torch eager, as the original": Contender(eager, waits=True),
                "torchvision batched_nms, traditional": Contender(torchvision, waits=True),
            }
            yield Job(f"fast_nms {batch} x {shape[2]} boxes x {shape[1]}", draw, contenders, check)


def preprocess(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Pictures to the network's input: the pictures are read, three planes of float32 written."""
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    target = sizes.pictures[0]
    for batch in sizes.batches:
        for height, width in sizes.pictures[1:]:

            def draw(seed: int, shape=(batch, height, width, 3)) -> InputSet:
                random = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
                return (torch.from_numpy(random).to(device),)

            def ours(pictures: Tensor) -> Tensor:
                return ops.preprocess(pictures, target, MEAN, STD)

            def eager(pictures: Tensor) -> Tensor:
                return peers.eager_preprocess(pictures, target, mean, std)

            def check(pictures: Tensor, ours=ours, eager=eager) -> None:
                # Some 1e-4 of a pixel in a coordinate, times a step of 255 between pixels, over a deviation of 57.
                torch.testing.assert_close(ours(pictures), eager(pictures), rtol=0, atol=1e-3)
                torch.testing.assert_close(ours(pictures).cpu(), ours(pictures.cpu()), rtol=0, atol=1e-5)

            contenders = {
                "yolact": Contender(ours, batch * 3 * (height * width + 4 * target[0] * target[1])),
                "torch eager": Contender(eager),
            }
            if batch == 1 and sizes.compiles:
                compiled = peers.compiled(peers.eager_preprocess)
                contenders["torch.compile"] = Contender(lambda pictures, f=compiled: f(pictures, target, mean, std))
            name = f"preprocess {batch} x {height} x {width} to {target[0]} x {target[1]}"
            yield Job(name, draw, contenders, check)


def host(device: torch.device) -> dict[str, Callable[[], object]]:
    """A call of each operator on the smallest of inputs, where the host's own work is what takes the time."""
    prototypes, coefficients, boxes = (
        torch.rand(1, 4, 4, 2),
        torch.rand(1, 1, 2),
        torch.tensor([[[0.1, 0.1, 0.9, 0.9]]]),
    )
    masks = torch.eye(8, dtype=torch.bool, device=device)[None]
    assembled = tuple(tensor.to(device) for tensor in (prototypes, coefficients, boxes))
    nms = (torch.rand(1, 2, 4, device=device), torch.rand(1, 1, 2, device=device))
    head = (torch.zeros(1, 2, 4, device=device), torch.zeros(1, 2, 3, device=device), torch.rand(2, 4, device=device))
    pictures = torch.zeros(1, 4, 4, 3, dtype=torch.uint8, device=device)
    encoded, size = ops.encode_run_lengths(masks), torch.tensor([[8, 8]], device=device)
    pixel, offset = torch.rand(1, 2, 1, 1, device=device), torch.zeros(1, 2, 1, 1, device=device)
    return {
        "detect": lambda: ops.detect(*head),
        "fast_nms": lambda: ops.fast_nms(*nms),
        "assemble_masks": lambda: ops.assemble_masks(*assembled, (8, 8)),
        "assemble_run_lengths": lambda: ops.assemble_run_lengths(*assembled, size, capacity=64),
        "encode_run_lengths": lambda: ops.encode_run_lengths(masks, capacity=64),
        "decode_run_lengths": lambda: ops.decode_run_lengths(encoded, (8, 8)),
        "preprocess": lambda: ops.preprocess(pictures, 8, MEAN, STD),
        "deform_conv2d": lambda: ops.deform_conv2d(pixel, offset, pixel),
    }
