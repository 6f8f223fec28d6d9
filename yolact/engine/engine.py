"""The networks for inference that a model keeps, made when first needed and again when its weights changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from yolact.engine.network import Network, is_plain, lean_network
from yolact.engine.precision import choose_dtype
from yolact.engine.replay import CudaGraphs, Recorder, Replays
from yolact.engine.rescoring import MaskIoU, lean_mask_iou, mask_iou_as_it_is
from yolact.engine.threads import ThreadTuner
from yolact.engine.transfer import mark
from yolact.models.timm_backbone import TimmBackbone
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ready:
    """What predicts with a model's weights as they are now, in one precision."""

    network: Network
    mask_iou: MaskIoU | None  # where masks are scored by themselves
    replays: Replays | None  # where the whole way is recorded and replayed


class Engine:
    """What a model keeps to predict with, one a precision; safe to use from several threads.

    It holds a second copy of the weights: reordered for oneDNN on a CPU (a third for a second batch size or number of
    threads), in half precision on a GPU. The model knows nothing of it: copies and pickles of an engine are empty.

    Args:
        recorder: what records for a device; None where nothing is recorded.
    """

    def __init__(self, recorder: Callable[[torch.device], Recorder | None] | None = None) -> None:
        self._recorder = recorder or _recorder
        self._weights: Weights | None = None
        self._ready: dict[torch.dtype, Ready] = {}
        self._lock = threading.Lock()
        self.tuner: ThreadTuner | None = None  # of the whole process

    def ready(self, model: Yolact, precision: str) -> Ready:
        """What computes as `model.eval()` does, as fast as it can be had.

        A network that is not as `yolact.models` builds it (hooks, other modules) runs as it is, in its own precision.

        Raises:
            ValueError: there is no such precision, or the network cannot be converted to it.
        """
        first = next(model.parameters())
        dtype = choose_dtype(precision, first.device, first.dtype)
        with self._lock:
            if self._weights is None or self._weights.changed():
                self._forget()
                self._weights = Weights(model)
            if dtype not in self._ready:
                net = model.maskiou_net
                if self._weights.plain:
                    # What a network of timm's does on the way may be such as cannot be recorded.
                    recorder = None if isinstance(model.backbone, TimmBackbone) else self._recorder(first.device)
                    replays = None if recorder is None else Replays(recorder)
                    mask_iou = None if net is None else lean_mask_iou(net)
                    self._ready[dtype] = Ready(lean_network(model, dtype), mask_iou, replays)
                    mark(first.device)()  # other threads' streams use it, too
                elif precision == "auto" or dtype == first.dtype:
                    self._ready[dtype] = Ready(_AsItIs(model), None if net is None else mask_iou_as_it_is(net), None)
                else:
                    raise ValueError(f"precision {precision!r}: a network with hooks or other modules runs as it is")
            return self._ready[dtype]

    def tuned(self, work: Callable[[], T], amount: int) -> T:
        """Return `work()`, timed where threads are to be chosen."""
        return work() if self.tuner is None else self.tuner.run(work, amount)

    def clear(self) -> None:
        """Forget everything, and free what it holds."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        for ready in self._ready.values():
            if ready.replays is not None:
                ready.replays.clear()
        self._weights, self._ready = None, {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return Engine()

    def __reduce__(self) -> tuple[type[Engine], tuple[()]]:
        return Engine, ()


def _recorder(device: torch.device) -> Recorder | None:
    return CudaGraphs(device) if device.type == "cuda" else None


class Weights:
    """The tensors and modules of a model at one time, and whether they are still the same.

    Seen is what torch counts (optimizers, `load_state_dict`, any operator in place) and what moves or replaces a
    tensor, a module or a hook. Writing through `.data` or a NumPy view is not: `Model.train` and `Model.eval` make an
    engine anew where they change the mode, so that it is not missed in training.
    """

    def __init__(self, model: Yolact) -> None:
        modules = list(model.modules())
        global_hooks = "_global_forward_hooks", "_global_forward_pre_hooks"  # not public: another torch may lack them
        self._hooks: list[dict[int, Any]] = [getattr(torch_module, name, {}) for name in global_hooks]
        self._hooks += chain.from_iterable((m._forward_hooks, m._forward_pre_hooks) for m in modules)
        self._children = [module._modules for module in modules if module._modules]
        self._tensors = [tensors for m in modules for tensors in (m._parameters, m._buffers) if tensors]
        self._kept = self._present()  # and so their memory is not used for others
        self.plain = (
            not any(self._hooks) and not any(tensor.is_inference() for tensor in self._kept) and is_plain(model)
        )
        self._state = self._now()

    def changed(self) -> bool:
        return self._now() != self._state

    def _now(self) -> tuple[object, ...]:
        modules = [*map(id, chain.from_iterable(map(dict.values, self._children)))]
        hooked = any(self._hooks)
        if not self.plain:
            return modules, hooked  # nothing was made of the tensors
        tensors = self._present()
        return modules, hooked, [*map(Tensor.data_ptr, tensors)], [*map(_VERSION, tensors)]

    def _present(self) -> list[Tensor]:
        return [tensor for named in self._tensors for tensor in named.values() if tensor is not None]


_VERSION = attrgetter("_version")


class _AsItIs:
    """A model's own forward, in inference mode while it lasts."""

    def __init__(self, model: Yolact) -> None:
        self._model = model
        self._lock = threading.Lock()  # the mode is all modules' own

    def __call__(self, images: Tensor) -> RawOutputs:
        with self._lock, _inference(self._model):
            return self._model(images)


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    """Inference mode for a while; every module returns to the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
