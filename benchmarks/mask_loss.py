"""What does the mask loss cost, forward and backward, in time and memory? `python -m benchmarks.mask_loss`

Eight pictures of a hundred positives on 138 x 138 x 32 prototypes, beside plain torch and the original's formulation.
Results are compared first. Times are medians of alternating runs; memory is what is needed at the peak beyond the
inputs, the gradients among it: of a GPU as torch counts it, else of a process of each contender's own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.inputs import smooth_masks
from benchmarks.kernels import machine, write
from yolact import ops
from yolact.bench.timing import compare

SCENES = {"boxes of 4 %": 0.04, "boxes of 50 %": 0.5}  # of the picture
TRUTHS, POSITIVES = 10, 100  # of a picture
Loss = Callable[..., Tensor]


def inputs(coverage: float, device: str, batch: int, side: int) -> tuple[Tensor, ...]:
    """What `ops.mask_loss` takes: every truth an ellipse in its box, answered for by as many positives as another."""
    given = smooth_masks(batch, TRUTHS, side, 32, coverage=coverage)
    boxes = given.boxes.flatten(0, 1)  # [T, 4]
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    centres = (torch.arange(side) + 0.5) / side
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)  # [h, w, 2]
    masks = (((pixels - (low + high) / 2) / (high - low) * 2) ** 2).sum(-1) < 1
    truth = torch.arange(batch * TRUTHS).repeat_interleave(POSITIVES // TRUTHS)
    coefficients = given.coefficients.flatten(0, 1)[truth]
    coefficients = coefficients + 0.1 * torch.randn(coefficients.shape, generator=torch.Generator().manual_seed(0))
    tensors = (given.prototypes, coefficients, truth // TRUTHS, truth, boxes, masks)
    return tuple(tensor.to(device) for tensor in tensors)


def inside(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:  # [n, h] and [n, w] bool
    """The rows and the columns of each box, a pixel wider on every side."""
    x1, y1, x2, y2 = (boxes * boxes.new_tensor((width, height, width, height))).unbind(1)
    columns, rows = torch.arange(width, device=boxes.device), torch.arange(height, device=boxes.device)
    in_x = (columns >= x1[:, None] - 1) & (columns < x2[:, None] + 1)
    in_y = (rows >= y1[:, None] - 1) & (rows < y2[:, None] + 1)
    return in_y, in_x


def area(boxes: Tensor, height: int, width: int) -> Tensor:  # [n], in pixels
    return (boxes[:, 2] - boxes[:, 0]) * width * (boxes[:, 3] - boxes[:, 1]) * height


def plain(prototypes: Tensor, coefficients: Tensor, picture: Tensor, truth: Tensor, boxes: Tensor, masks: Tensor):
    """In plain torch, as few passes over the masks as it takes: logits, their entropy, and two sums over the box."""
    height, width = prototypes.shape[1:3]
    counts = picture.bincount(minlength=len(prototypes)).tolist()
    logits = torch.cat([c @ p.flatten(0, 1).T for c, p in zip(coefficients.split(counts), prototypes, strict=True)])
    logits = logits.view(-1, height, width)
    entropy = F.binary_cross_entropy_with_logits(logits, masks[truth].float(), reduction="none")
    in_y, in_x = inside(boxes[truth], height, width)
    return torch.einsum("phw,ph,pw->p", entropy, in_y.float(), in_x.float()) / area(boxes[truth], height, width)


def original(prototypes: Tensor, coefficients: Tensor, picture: Tensor, truth: Tensor, boxes: Tensor, masks: Tensor):
    """As the original has it, picture by picture: probabilities, cropped by a mask of the box, and their entropy."""
    height, width = prototypes.shape[1:3]
    losses = []
    for b, maps in enumerate(prototypes):
        answers = truth[picture == b]
        probability = (maps @ coefficients[picture == b].T).sigmoid()  # [h, w, n]
        in_y, in_x = inside(boxes[answers], height, width)
        probability = probability * (in_y.T[:, None] & in_x.T[None]).float()
        wanted = masks[answers].permute(1, 2, 0).float()
        entropy = F.binary_cross_entropy(probability.clamp(0, 1), wanted, reduction="none")
        losses.append(entropy.sum((0, 1)) / area(boxes[answers], height, width))
    return torch.cat(losses)


CONTENDERS: dict[str, Loss] = {"yolact": ops.mask_loss, "plain torch": plain, "torch, as the original": original}


def both_ways(loss: Loss, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The losses, and the gradients of their sum."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors[:2]]
    found = loss(*leaves, *tensors[2:])
    return found.detach(), *torch.autograd.grad(found.sum(), leaves)


def check(tensors: tuple[Tensor, ...]) -> None:
    """Raise AssertionError where the contenders disagree."""
    ours = both_ways(ops.mask_loss, tensors)
    for loss in (plain, original):
        for mine, theirs in zip(ours, both_ways(loss, tensors), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def peak_on_gpu(run: Callable[[], object]) -> int:
    """The bytes of a GPU's memory that are needed at the peak beyond those held before."""
    run()  # what libraries allocate once
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def peak_here(name: str, coverage: float, batch: int, side: int, threads: int) -> int:
    """The bytes that this process needs at its peak beyond the inputs; it must have done nothing else."""
    torch.set_num_threads(threads)
    tensors = inputs(coverage, "cpu", batch, side)
    both_ways(CONTENDERS[name], inputs(coverage, "cpu", 1, 8))  # what libraries allocate once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew from what is resident now
    before = resident_at_most()
    both_ways(CONTENDERS[name], tensors)
    return resident_at_most() - before


def resident_at_most() -> int:
    """The most bytes of memory that this process has had. (What getrusage tells counts the parent's, too.)"""
    told = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert told is not None
    return 1024 * int(told[1])


def peak(name: str, coverage: float, options: argparse.Namespace) -> int:
    """The same, of a process of its own."""
    numbers = (options.batch, options.side, options.threads)
    command = [sys.executable, "-m", "benchmarks.mask_loss", "--peak", name, str(coverage)]
    command += map(str, numbers)
    # No large piece of freed memory stays resident, to be counted as there before.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="pictures")
    parser.add_argument("--side", type=int, default=138, help="of the prototypes")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--seconds", type=float, default=20.0, help="a scene")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, coverage, *numbers = options.peak
        print(peak_here(name, float(coverage), *map(int, numbers)))
        return
    rows = []
    for scene, coverage in SCENES.items():
        tensors = inputs(coverage, options.device, options.batch, options.side)
        check(tensors)

        def run(loss: Loss, tensors: tuple[Tensor, ...] = tensors) -> None:
            both_ways(loss, tensors)
            if options.device == "cuda":
                torch.cuda.synchronize()

        contenders = {name: lambda loss=loss: run(loss) for name, loss in CONTENDERS.items()}
        timings = compare(contenders, seconds=options.seconds, threads=options.threads)
        print(f"\n{scene}, {options.batch} x {POSITIVES} positives, {options.side} x {options.side} x 32")
        for name, timing in timings.items():
            on_gpu = options.device == "cuda"
            size = peak_on_gpu(contenders[name]) if on_gpu else peak(name, coverage, options)
            ratio = timings["yolact"].times(timing)
            print(f"  {name:<24} {timing.median:9.2f} ms ({timing.low:.2f} to {timing.high:.2f}) {ratio:6.1f}x", end="")
            print(f"  {size / 1e6:8.1f} MB")
            rows.append({"scene": scene, "contender": name, "milliseconds": asdict(timing), "peak_bytes": size})
    what = {name: getattr(options, name) for name in ("device", "batch", "side", "threads")}
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    write({"machine": machine(), "device": device, "options": what, "rows": rows}, options.json)


if __name__ == "__main__":
    main()
