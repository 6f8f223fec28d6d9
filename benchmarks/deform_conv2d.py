"""What does the deformable convolution cost, forward and backward? `python -m benchmarks.deform_conv2d`

At the shapes of YOLACT++ with ResNet-50 and ResNet-101 at 550 pixels, on CPUs, beside torchvision's operator where
torchvision can be imported, the reference in plain torch, and a plain convolution of the same size, which is as fast as
any could be. Results are compared first, then times are medians of alternating runs. Tensors are laid out as networks
hand them over: ours channels last; torchvision's, which would lay them out anew, in planes.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import machine, write
from yolact import ops
from yolact.bench.timing import Timing, compare
from yolact.ops import reference


@dataclass(frozen=True)
class Shape:
    """The second convolution of a bottleneck."""

    channels: int
    size: int  # of the input, a square
    stride: int = 1


SHAPES = {
    "stage 2, first block": Shape(128, 138, 2),
    "stage 2": Shape(128, 69),
    "stage 3, first block": Shape(256, 69, 2),
    "stage 3": Shape(256, 35),
    "stage 4, first block": Shape(512, 35, 2),
    "stage 4": Shape(512, 18),
}

# input, offset, weight, bias, mask, stride -> result
Convolution = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]


def ours(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, stride: int) -> Tensor:
    return ops.deform_conv2d(input, offset, weight, bias, stride, 1, 1, mask)


def plain_torch(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, stride: int) -> Tensor:
    return reference.deform_conv2d(input, offset, weight, bias, stride, 1, 1, mask)


def no_offsets(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, stride: int) -> Tensor:
    return F.conv2d(input, weight, bias, stride, 1)


def contenders() -> dict[str, Convolution]:
    """The operators that compute the same, ours first."""
    found: dict[str, Convolution] = {"yolact": ours}
    if importlib.util.find_spec("torchvision"):
        theirs = importlib.import_module("torchvision.ops").deform_conv2d

        def torchvision(
            input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, stride: int
        ) -> Tensor:
            return theirs(input, offset, weight, bias, stride, 1, 1, mask)

        found["torchvision"] = torchvision
    return found | {"plain torch": plain_torch}


def inputs(shape: Shape, batch: int, layout: torch.memory_format) -> tuple[Tensor, ...]:
    """Input, offset, weight, bias and mask, with offsets of about a pixel."""
    random = torch.Generator().manual_seed(0)
    channels, size, side = shape.channels, shape.size, (shape.size - 1) // shape.stride + 1
    tensors = (
        torch.randn(batch, channels, size, size, generator=random),
        torch.randn(batch, 18, side, side, generator=random),
        torch.randn(channels, channels, 3, 3, generator=random) / (9 * channels) ** 0.5,
        torch.randn(channels, generator=random),
        torch.rand(batch, 9, side, side, generator=random),
    )
    return tuple(t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in tensors)


def forward(convolution: Convolution, tensors: tuple[Tensor, ...], stride: int) -> list[Tensor]:
    with torch.no_grad():
        return [convolution(*tensors, stride)]


def both_ways(convolution: Convolution, tensors: tuple[Tensor, ...], stride: int) -> list[Tensor]:
    """The result, and the gradients of all tensors that it depends on, of its sum."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    result = convolution(*leaves, stride)
    result.sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


WAYS = {"forward": forward, "forward and backward": both_ways}


def layout_of(name: str) -> torch.memory_format:
    return torch.contiguous_format if name == "torchvision" else torch.channels_last


def check(shape: Shape, batch: int) -> None:
    """Raise AssertionError where the contenders disagree."""
    first: list[Tensor] = []
    for name, convolution in contenders().items():
        found = both_ways(convolution, inputs(shape, batch, layout_of(name)), shape.stride)
        first = first or found
        for mine, theirs in zip(first, found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def measure(shape: Shape, batch: int, way: str, seconds: float, threads: int) -> dict[str, Timing]:
    rivals = contenders() | {"plain convolution": no_offsets}
    tensors = {name: inputs(shape, batch, layout_of(name)) for name in rivals}
    runs = {
        name: lambda name=name, convolution=convolution: WAYS[way](convolution, tensors[name], shape.stride)
        for name, convolution in rivals.items()
    }
    return compare(runs, seconds=seconds, least=3, threads=threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}; all by default")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="pictures")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=4.0, help="a row of contenders")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    if unknown := set(options.shapes) - set(SHAPES):
        parser.error(f"no shape is named {', '.join(sorted(unknown))}")
    rows = []
    for scene in options.shapes or SHAPES:
        shape = SHAPES[scene]
        check(shape, min(options.batch))
        for batch, way, threads in (
            (batch, way, threads) for batch in options.batch for way in WAYS for threads in options.threads
        ):
            timings = measure(shape, batch, way, options.seconds, threads)
            about = f"{shape.channels} channels, {shape.size} x {shape.size}, stride {shape.stride}"
            print(f"\n{scene}: {about}, batch {batch}, {way}, {threads} threads")
            for name, timing in timings.items():
                print(
                    f"  {name:<18} {timing.median:9.2f} ms ({timing.low:.2f} to {timing.high:.2f})"
                    f" {timings['yolact'].times(timing):7.2f}x",
                    flush=True,
                )
                row = {"scene": scene, "batch": batch, "way": way, "threads": threads, "contender": name}
                rows.append(row | asdict(shape) | {"milliseconds": asdict(timing)})
    write({"machine": machine(), "rows": rows}, options.json)


if __name__ == "__main__":
    main()
