"""Work of fixed shapes recorded once and replayed: CUDA graphs, chosen from a small cache."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

# Capturing stops the device and takes as long as many pictures, so it has to pay: nothing is captured before it was
# asked for more often than this, and of a folder whose pictures all differ in size nothing ever is. Where a recording
# goes for another, twice as often from then on: sizes that take turns would push each other out for ever.
USES_BEFORE = 3
_KEYS_COUNTED = 64

# Graphs share the memory of what they compute on the way. Each has inputs and outputs of its own, at a picture of
# 640 x 480 and a network of 550 x 550: 0.9 MB, and 2.4 MB of prototypes with 0.4 MB of run lengths.
CAPACITY = 8

_capturing = threading.Lock()  # CUDA captures one graph of a process at a time

T = TypeVar("T")
Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]  # of tensors


@dataclass(frozen=True, eq=False)
class Recording:
    """A function's work on inputs that lie always in the same place, with results that each replay overwrites."""

    inputs: tuple[Tensor, ...]
    outputs: Outputs
    replay: Callable[[], None]


class Recorder(Protocol):
    """How work is recorded: CUDA graphs, or in tests what runs it again."""

    def record(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording: ...

    def turn(self) -> AbstractContextManager[None]:
        """While it lasts recordings may be used: after whatever was asked for in the turns before."""

    def wait(self) -> None:
        """Wait for what was asked for in any turn."""


class Replays:
    """Recordings by key; the least recently used one goes when there are too many. Safe to use from several threads."""

    def __init__(self, recorder: Recorder, capacity: int = CAPACITY) -> None:
        self._recorder, self._capacity = recorder, capacity
        self._recordings: OrderedDict[Hashable, Recording] = OrderedDict()
        self._uses: OrderedDict[Hashable, int] = OrderedDict()
        self._uses_before = USES_BEFORE
        self._lock = threading.Lock()

    def run(
        self,
        key: Hashable,  # tells apart all that the function does, but for the values of its inputs
        function: Function,
        inputs: Sequence[Tensor],
        take: Callable[[Outputs], T],
    ) -> T:
        """Return `take(function(*inputs))`: `take` copies what it wants of outputs that the next call overwrites.

        The first uses of a key call the function, then it is recorded: it has to do the same work whatever the values,
        and must not wait for the device.
        """
        with self._lock, self._recorder.turn():
            recording = self._recordings.get(key)
            if recording is None:
                if self._count(key) <= self._uses_before:
                    return take(function(*inputs))
                while len(self._recordings) >= self._capacity:
                    self._drop(next(iter(self._recordings)))
                    self._uses_before *= 2
                recording = self._recorder.record(function, tuple(given.clone() for given in inputs))
                self._recordings[key] = recording
            self._recordings.move_to_end(key)
            for place, given in zip(recording.inputs, inputs, strict=True):
                place.copy_(given)
            recording.replay()
            return take(recording.outputs)

    def clear(self) -> None:
        """Drop every recording."""
        with self._lock:
            for key in list(self._recordings):
                self._drop(key)
            self._uses.clear()
            self._uses_before = USES_BEFORE

    def __len__(self) -> int:
        return len(self._recordings)

    def _count(self, key: Hashable) -> int:
        uses = self._uses.pop(key, 0) + 1
        self._uses[key] = uses
        if len(self._uses) > _KEYS_COUNTED:
            self._uses.popitem(last=False)
        return uses

    def _drop(self, key: Hashable) -> None:
        self._recorder.wait()  # its memory is somebody else's from here on
        del self._recordings[key]
        self._uses.pop(key, None)


class CudaGraphs:
    """Records into CUDA graphs that share one pool of memory, which is safe while they run one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()  # those that use the pool
        self._done = torch.cuda.Event()

    def record(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording:
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            function(*inputs)  # what libraries set up on a stream's first use cannot be captured
        if not self._graphs:  # a pool goes with the last graph that used it
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile: only what this one does is held to what can be captured.
        with _capturing, torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            outputs = function(*inputs)
        self._graphs.add(graph)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return Recording(inputs, outputs, graph.replay)

    @contextmanager
    def turn(self) -> Iterator[None]:
        with torch.cuda.device(self._device), _autotuned():
            torch.cuda.current_stream().wait_event(self._done)  # the turn before may have been another stream's
            try:
                yield
            finally:
                self._done.record()

    def wait(self) -> None:
        self._done.synchronize()


@contextmanager
def _autotuned() -> Iterator[None]:
    """cuDNN measures its algorithms once for each shape, where the caller did not ask for deterministic ones."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
