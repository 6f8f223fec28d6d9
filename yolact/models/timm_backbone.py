"""Any network of timm (PyTorch Image Models) with feature maps at strides of 8, 16 and 32 as a feature extractor.

timm is an extra, imported where such a backbone is wanted and not before.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolact.errors import UserError
from yolact.options import Preprocessing

PREFIX = "timm/"  # of a configuration's `backbone`; timm's name of the network follows
_STRIDES = (8, 16, 32)


class TimmBackbone(nn.Module):
    """The feature maps C3, C4 and C5 of a network of timm, of random weights.

    The pyramid rounds the sides of its levels up. A network that rounds them otherwise, or that is made for one input
    size, gets its input padded to a multiple of 32, with zeros to the right and below; what its maps have of that is
    cut off.

    Args:
        name: timm's, such as "convnext_atto", with or without a tag of weights.
        size: S, of the input.

    Raises:
        UserError: timm cannot be imported, knows no such network, or the network does not make such feature maps.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.name, self.size, self.padding = name, size, 0
        self.options: dict[str, Any] = {"features_only": True}
        if _described(name).fixed_input_size:
            self.padding = -size % 32
            self.options["img_size"] = size + self.padding
        with torch.device("meta"):
            every = self._create().eval()
        strides = list(every.feature_info.reduction())
        if not set(_STRIDES) <= set(strides):
            told = ", ".join(map(str, strides))
            raise UserError(f"{PREFIX}{name}: has feature maps at strides {told}; 8, 16 and 32 are needed")
        last = {stride: index for index, stride in enumerate(strides)}  # the deepest of each
        if fault := self._fault(every, last):
            self.padding = -size % 32
            fault = self._fault(every, last)
        if fault:
            raise UserError(f"{PREFIX}{name}: does not work with an input of {size} x {size}: {fault}")
        self.options["out_indices"] = tuple(every.feature_info.out_indices[last[stride]] for stride in _STRIDES)
        self.net = self._create()
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels())  # of C3, C4, C5

    def forward(
        self,
        x: Tensor,  # [B, 3, S, S]
    ) -> list[Tensor]:  # C3, C4, C5, each [B, channels, S/stride, S/stride]
        if self.padding:
            x = F.pad(x, (0, self.padding, 0, self.padding))
        maps = _channels_first(self.net, self.net(x))
        return [feature[:, :, :side, :side] for feature, side in zip(maps, _sides_of(self.size), strict=True)]

    def layers_to_c4(self) -> list[nn.Module]:
        """The layers that C4 is computed by: whose every weight its gradient reaches."""
        with torch.device("meta"):
            net = self._create().eval()  # batch norm of a single value refuses to train
            c4 = _channels_first(net, net(self._input()))[1]
        names, parameters = zip(*net.named_parameters(), strict=True)
        gradients = torch.autograd.grad(c4.sum(), parameters, allow_unused=True)
        beyond = {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}

        def precedes(layer: str, module: nn.Module) -> bool:
            own = {f"{layer}.{name}" for name, _ in module.named_parameters()}
            return bool(own) and not own & beyond

        return [module for name, module in self.net.named_modules() if name and precedes(name, module)]

    def under_our_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a file of timm's, from under the names of the whole network, whose other layers are left out.

        What that network has not stays, under a name that this one has not.
        """
        size = {name: value for name, value in self.options.items() if name == "img_size"}
        with torch.device("meta"):
            left = set(tensors) - set(_timm().create_model(self.name, **size).state_dict())
        state = {}
        for name in self.state_dict():
            if (found := next((theirs for theirs in _names_in_whole(name) if theirs in tensors), None)) is not None:
                state[name] = tensors[found]
                left.discard(found)
        return state | {f"net.{name}": tensors[name] for name in left}

    def pretrained(self) -> dict[str, Tensor]:
        """The weights that timm knows of this network, fetched by it where they are not here yet.

        Raises:
            UserError: there are none, or they cannot be had.
        """
        state = self._create(weights=True).state_dict()
        return {f"net.{name}": tensor for name, tensor in state.items()}

    def _create(self, weights: bool = False) -> Any:
        """The network, with weights that timm fetches or random ones; its `feature_info` tells of its maps."""
        try:
            return _timm().create_model(self.name, pretrained=weights, **self.options)
        except Exception as error:  # each family has its own way to refuse, and what fetches weights others
            fault = "has no weights of it to fetch" if weights else "does not make it"
            raise UserError(f"{PREFIX}{self.name}: timm {fault} ({_first_line(error)})") from error

    def _input(self) -> Tensor:
        side = self.size + self.padding
        return torch.empty(1, 3, side, side, device="meta")

    def _fault(self, net: Any, last: Mapping[int, int]) -> str | None:
        """What is wrong with the maps at those places, by stride; they are computed without data."""
        try:
            maps = _channels_first(net, net(self._input()))
        except Exception as error:  # of whatever layer cannot take the size
            return _first_line(error)
        found, sides = [maps[last[stride]].shape[-1] for stride in _STRIDES], _sides_of(self.size + self.padding)
        return None if found == sides else f"its feature maps have sides {found}, not {sides}"


def timms_name(backbone: str) -> str | None:
    """What timm calls a configuration's backbone, if it is one of timm's."""
    return backbone.removeprefix(PREFIX) if backbone.startswith(PREFIX) else None


def preprocessing_of(name: str) -> Preprocessing:
    """How the input of a network of timm is normalised.

    Raises:
        UserError: timm cannot be imported, or knows no such network.
    """
    described = _described(name)
    return Preprocessing(tuple(255 * x for x in described.mean), tuple(255 * x for x in described.std))


def convert_sync_batch_norm(backbone: nn.Module) -> None:
    """`nn.SyncBatchNorm.convert_sync_batchnorm`; by timm's own of its networks, where batch norms hold activations."""
    if isinstance(backbone, TimmBackbone):
        _timm().layers.convert_sync_batchnorm(backbone)
    else:
        nn.SyncBatchNorm.convert_sync_batchnorm(backbone)


def _channels_first(net: Any, maps: Sequence[Tensor]) -> list[Tensor]:
    last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
    return [x.permute(0, 3, 1, 2) for x in maps] if last else list(maps)


def _sides_of(size: int) -> list[int]:
    return [-(-size // stride) for stride in _STRIDES]


def _names_in_whole(name: str) -> Iterator[str]:
    """What a tensor of a `TimmBackbone` may be called in timm's whole network, a likely name first."""
    yield name
    name = name.removeprefix("net.")
    yield name
    name = name.removeprefix("model.")
    yield name
    first, dot, rest = name.partition(".")
    for index, letter in enumerate(first):  # timm takes lists of stages apart: stages.0 becomes stages_0
        if letter == "_":
            yield f"{first[:index]}.{first[index + 1 :]}{dot}{rest}"


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbones of timm need it: pip install 'yolact[timm]' ({error})") from None
    return timm


def _described(name: str) -> Any:
    """What timm says of a network's input and weights."""
    timm = _timm()
    network = name.partition(".")[0]
    if not timm.is_model(network):
        close = difflib.get_close_matches(network, timm.list_models(), n=3)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise UserError(f"{PREFIX}{name}: timm {timm.__version__} has no network of that name{hint}")
    try:
        described = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # the tag after the dot is of no weights
        raise UserError(f"{PREFIX}{name}: {_first_line(error)}") from None
    return described or timm.models.PretrainedCfg()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
