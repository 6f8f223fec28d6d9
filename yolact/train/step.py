"""One step downhill: the network forward and backward over the parts of a batch, then the optimizer."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from yolact.distributed import world_size
from yolact.models.yolact import Yolact
from yolact.ops import preprocess
from yolact.structures import RawOutputs
from yolact.train.assignment import Totals
from yolact.train.batches import Batch
from yolact.train.losses import losses, term_names

Precision = Literal["fp32", "bf16", "fp16"]

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainStep:
    """What a step needs beside its batch. No call of it waits for a GPU.

    Args:
        model: in train mode, on its device; its weights are those that change.
        precision: what the network computes in; weights and losses are single precision always. "fp16" scales the
            loss, and leaves out the steps in which a gradient overflows.
        channels_last: the layout of tensors in which GPUs and CPUs convolve faster, depthwise above all.
        compiled: by torch.compile.
    """

    def __init__(
        self, model: Yolact, precision: Precision = "fp32", *, channels_last: bool = True, compiled: bool = False
    ) -> None:
        self.model = model
        self.terms = term_names(model.config)
        self.device = model.priors.device
        self.half = HALF.get(precision)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        model.to(memory_format=self.format)  # type: ignore[call-overload]  # torch's own hints lack it
        self.optimizer = make_optimizer(model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        network: nn.Module = _Forward(model)
        self._parallel: DistributedDataParallel | None = None
        if world_size() > 1:
            network = self._parallel = DistributedDataParallel(
                network,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
            )
        self.network: Callable[[Tensor], tuple[RawOutputs, Tensor]] = torch.compile(network) if compiled else network

    def __call__(
        self, batches: Sequence[Batch], totals: Totals, rate: float
    ) -> Tensor:  # [T + 1] the share of the batches in each of the T `terms`, and the norm of the whole gradient
        """Accumulate the gradients of the batches, all that this process has of a step, and go downhill."""
        self.optimizer.zero_grad()
        terms = torch.zeros(len(self.terms), device=self.device)
        for number, batch in enumerate(batches, 1):
            with self._kept_apart(until_last=number < len(batches)):
                terms += self._backward(batch.to(self.device), totals)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return torch.cat([terms, norm[None]])

    def close(self) -> None:
        """Let go of the other processes while their group is there.

        DistributedDataParallel that outlives the group destroys it in the end, and may wait for ever: with Python's
        lock held, for a thread of gloo that asks for that lock.
        """
        self.network, self._parallel = self.model.forward_train, None
        gc.collect()  # it holds itself, in circles

    def _backward(self, batch: Batch, totals: Totals) -> Tensor:  # [T] the `terms`
        terms = self._forward(batch, totals)  # what the network answered is let go of before the gradients come
        # Processes hold shares of one sum, and DistributedDataParallel takes the mean of their gradients.
        self.scaler.scale(terms.sum() * world_size()).backward()
        return terms.detach()

    def _forward(self, batch: Batch, totals: Totals) -> Tensor:  # [T] the `terms`
        config = self.model.config
        images = preprocess(batch.images, config.size, config.preprocessing.mean, config.preprocessing.std)
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            raw, semantic_logits = self.network(images.contiguous(memory_format=self.format))
        found = losses(raw, semantic_logits, batch.assignment, totals, config.train, self.model.maskiou_net)
        return torch.stack([found[name] for name in self.terms])

    def _kept_apart(self, *, until_last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged between processes once, with the last batch's."""
        return self._parallel.no_sync() if self._parallel is not None and until_last else nullcontext()

    def _clip(self) -> Tensor:
        """The gradient's norm before it is clipped."""
        clip_norm = self.model.config.train.clip_norm
        trained = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
        return norm


class _Forward(nn.Module):
    """`forward_train` as the forward that DistributedDataParallel and torch.compile take hold of."""

    def __init__(self, model: Yolact) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[RawOutputs, Tensor]:
        return self.model.forward_train(images)


def make_optimizer(model: Yolact) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay over everything that is not frozen."""
    options = model.config.train
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        trained,
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        fused=True,
    )
    for parameter in trained:
        # Where the first step is left out, for a gradient that overflowed, torch's own buffers hold whatever was there.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
