"""What a GPU is asked of the deformable convolution: the sizes of YOLACT++ at 550 pixels, beside torchvision's.

Tensors are laid out as networks hand them over: ours channels last, torchvision's in planes, as it would lay them anew.
Offsets are multiples of a sixteenth, which a position still holds in half precision: torchvision computes it so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import cuda_jobs
from benchmarks.cuda_timing import Contender, InputSet
from yolact import ops

STAGES = ((128, 69), (256, 35), (512, 18))  # channels, in and out, and the side: of ResNet-50 and ResNet-101
# Of the largest value: sums of up to 4608 products in another order, in half of samples that are rounded to it, and
# torchvision adds the gradients of offsets and masks up in half.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2}

Way = Callable[..., Tensor]


def yolact(
    input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, *, deterministic: bool = False
) -> Tensor:
    return ops.deform_conv2d(input, offset, weight, bias, padding=1, mask=mask, deterministic=deterministic)


def torchvision(input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from torchvision.ops import deform_conv2d

    return deform_conv2d(input, offset, weight, bias, padding=1, mask=mask)


WAYS: dict[str, Way] = {"yolact": yolact, "torchvision": torchvision}
WAYS_BACK = {"yolact": yolact, "yolact, deterministic": partial(yolact, deterministic=True), "torchvision": torchvision}


def gradients(way: Way, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The gradients of all five, by one for every output."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = way(*leaves)
    return torch.autograd.grad(output, leaves, torch.ones_like(output))


def in_its_layout(name: str, run: Callable[..., object]) -> Contender:
    """Takes what `draw` gives."""
    return Contender(lambda *given: run(*(given[:5] if name == "torchvision" else given[5:])))


def draw(seed: int, batch: int, channels: int, side: int, dtype: torch.dtype, device: torch.device) -> InputSet:
    """Input, offsets, mask, weight and bias; and once more, channels last."""
    random = torch.Generator().manual_seed(seed)
    drawn = (
        torch.randn(batch, channels, side, side, generator=random),
        (torch.randn(batch, 18, side, side, generator=random) * 16).round() / 16,
        torch.rand(batch, 9, side, side, generator=random),
        torch.randn(channels, channels, 3, 3, generator=random) / (3 * channels**0.5),
        torch.randn(channels, generator=random),
    )
    planes = [tensor.to(device, dtype) for tensor in drawn]
    return *planes, *(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in planes)


def check(contenders: dict[str, Contender], dtype: torch.dtype, *given: Tensor) -> None:
    """Ours beside ours on the CPU, and beside torchvision's where there is one."""
    ours = contenders["yolact"].run
    mine, others = ours(*given), [ours(*(tensor.cpu() for tensor in given))]
    others += [one.run(*given) for name, one in contenders.items() if name != "torchvision" or has_torchvision()]
    for theirs in others:
        pairs = zip(mine, theirs, strict=True) if isinstance(mine, tuple) else [(mine, theirs)]
        for here, there in pairs:
            most = TOLERANCE[dtype] * there.abs().max().item()
            torch.testing.assert_close(here.cpu(), there.cpu(), rtol=0, atol=most)


def has_torchvision() -> bool:
    return importlib.util.find_spec("torchvision") is not None


def jobs(device: torch.device, sizes: cuda_jobs.Sizes) -> Iterator[cuda_jobs.Job]:
    """Forward on all batches; forward and backward on the largest, as in training."""
    for stage in STAGES:
        channels, side = (max(2, full * sizes.prototypes // 138) for full in stage)
        for batch in sizes.batches:
            for dtype in (torch.float32, torch.float16):
                shape = f"{batch} x {channels} x {side} x {side} {cuda_jobs.name_of(dtype)}"
                draws = partial(draw, batch=batch, channels=channels, side=side, dtype=dtype, device=device)
                forward = {name: in_its_layout(name, way) for name, way in WAYS.items()}
                yield cuda_jobs.Job(f"deform_conv2d {shape}", draws, forward, partial(check, forward, dtype))
                if batch == max(sizes.batches):
                    both = {name: in_its_layout(name, partial(gradients, way)) for name, way in WAYS_BACK.items()}
                    name = f"deform_conv2d forward and backward {shape}"
                    yield cuda_jobs.Job(name, draws, both, partial(check, both, dtype))
