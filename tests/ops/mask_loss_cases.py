"""Cases of `mask_loss`, and its gradients."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

# Sums of up to a thousand terms in another order, beside the largest of them: a gradient may be the rest of many.
TOLERANCE = {"rtol": 3e-5, "atol": 3e-5}
DOUBLE = {"rtol": 1e-9, "atol": 1e-9}  # float64 knows nothing of the orders of sums, but boxes are in float32
HALF = {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}  # of a value: half a unit in the last place


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call."""

    prototypes: Tensor
    coefficients: Tensor
    picture: Tensor
    truth: Tensor
    boxes: Tensor
    masks: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return astuple(self)


def simple_case(batch: int = 2, positives: int = 7, size: tuple[int, int] = (20, 23), channels: int = 8) -> Case:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(4, 2, generator=generator) * 0.5
    return Case(
        torch.randn(batch, *size, channels, generator=generator).relu(),
        torch.randn(positives, channels, generator=generator),
        torch.randint(0, batch, (positives,), generator=generator),
        torch.randint(0, 4, (positives,), generator=generator),
        torch.cat([low, low + 0.1 + torch.rand(4, 2, generator=generator) * 0.4], 1),
        torch.rand(4, *size, generator=generator) < 0.5,
    )


def random_case(seed: int, dtype: torch.dtype | None = None) -> tuple[Case, float]:
    """One call with everything drawn, and its padding: sizes, types, strides, boxes of any order and off the map."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    batch, positives, truths = draw.choice([1, 2, 3]), draw.choice([1, 4, 9]), draw.choice([1, 5])
    height, width, channels = (draw.choice(sizes) for sizes in ([1, 5, 16, 17, 40], [1, 7, 16, 33], [1, 5, 32, 33]))
    prototypes = torch.randn(batch, height, width, channels, generator=generator)
    coefficients = torch.randn(positives, channels, generator=generator) * draw.choice([0.1, 1.0, 4.0])
    strides = draw.choice(["contiguous", "planes", "sliced"])
    if strides == "planes":
        prototypes = prototypes.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    elif strides == "sliced":
        prototypes, coefficients = prototypes.repeat(1, 1, 1, 2)[..., ::2], coefficients.repeat(2, 1)[::2]
    masks = torch.rand(truths, width, height, generator=generator) < 0.5
    dtypes = [dtype] if dtype else [torch.float32, torch.float16, torch.bfloat16]
    case = Case(
        prototypes.to(draw.choice(dtypes)),
        coefficients.to(draw.choice(dtypes)),
        torch.randint(0, batch, (positives,), generator=generator),
        torch.randint(0, truths, (positives,), generator=generator),
        torch.rand(truths, 4, generator=generator) * 1.4 - 0.2,
        masks.mT if draw.random() < 0.5 else masks.view(truths, height, width),
    )
    return case, draw.choice([0.0, 0.5, 1.0, 3.0])


def with_gradients(function, case: Case, padding: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The losses and the gradients of the prototypes and the coefficients of a weighted sum of them."""
    prototypes, coefficients = case.prototypes.detach().requires_grad_(), case.coefficients.detach().requires_grad_()
    loss = function(prototypes, coefficients, *case.tensors[2:], padding=padding)
    weights = torch.linspace(-1, 2, len(loss), dtype=loss.dtype)
    return loss.detach(), *torch.autograd.grad((loss * weights).sum(), (prototypes, coefficients))
