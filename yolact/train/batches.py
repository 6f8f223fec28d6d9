"""Batches of the sample stream, prepared by worker processes up to the point where the network is needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from yolact.config import Config
from yolact.data.samples import SampleStream
from yolact.distributed import rank, world_size
from yolact.errors import UserError
from yolact.train.assignment import Assignment, assign
from yolact.train.targets import Targets


@dataclass(frozen=True, eq=False)
class Batch:
    """What one pass through the network takes."""

    images: Tensor  # [B, S, S, 3] uint8 RGB
    assignment: Assignment
    unreadable: tuple[str, ...] = ()  # pictures that others stand in for, a line each

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, assignment=self.assignment.to(device))

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from while the processor goes on; for torch's DataLoader."""
        return replace(self, images=self.images.pin_memory(), assignment=self.assignment.pin_memory())


@dataclass(frozen=True, eq=False)
class Batches(torch.utils.data.Dataset[Batch | UserError]):
    """The sample stream cut into batches: a pure function of the stream, the size and the number of the batch."""

    stream: SampleStream
    config: Config
    priors: Tensor  # [P, 4], on the CPU
    size: int  # pictures

    def __getitem__(self, index: int) -> Batch | UserError:
        positions = range(index * self.size, (index + 1) * self.size)
        try:
            samples = [self.stream[position] for position in positions]
        except UserError as error:
            return error  # raised in a worker, it would come out with the worker's traceback for a message
        targets = [Targets.from_sample(sample) for sample in samples]
        generators = [self._generator(position) for position in positions]
        assignment = assign(targets, self.priors, self.config, self.config.train.max_masks, generators)
        images = torch.stack([torch.from_numpy(sample.image) for sample in samples])
        return Batch(images, assignment, sum((sample.unreadable for sample in samples), ()))

    def _generator(self, position: int) -> torch.Generator:
        """Draws a picture's masks, the same ones whatever process it falls to."""
        seed = np.random.SeedSequence((self.stream.seed, 2, position)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed))


def load(
    batches: Batches, start: int, stop: int, *, accumulate: int = 1, workers: int = 0, pin_memory: bool = False
) -> Generator[list[Batch | UserError], None, None]:
    """This process's `accumulate` batches of each iteration from `start` to `stop`.

    The batches of one iteration lie side by side in the stream, those of a process together.
    """
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,  # they are batches already
        sampler=(
            (iteration * world_size() + rank()) * accumulate + part
            for iteration in range(start, stop)
            for part in range(accumulate)
        ),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # shares the data set, which others would copy
        worker_init_fn=_be_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or the loader would draw from the caller's
    )
    iterator = iter(loader)
    while group := list(islice(iterator, accumulate)):
        yield group


def _be_worker(worker: int) -> None:
    """Out of the group that a terminal interrupts: the workers go on until the loop has ended, and end with it."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # as many workers as processors: threads of their own would only wait for one another
