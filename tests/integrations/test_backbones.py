"""Backbones beside the libraries that their ImageNet weights come from: torchvision, mmdetection and timm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mmcv_stub
import pytest
import torch
from installed import installed
from networks import ROUNDING, distance
from torch import Tensor, nn

import yolact
from yolact.config import Config, get_config
from yolact.engine.network import is_plain
from yolact.errors import UserError
from yolact.models.backbones import layers_to_c4, make_backbone, with_backbone
from yolact.models.checkpoint import save_checkpoint
from yolact.models.start import start_from
from yolact.models.timm_backbone import TimmBackbone, convert_sync_batch_norm
from yolact.predictor import Model

torchvision = installed("torchvision")
timm = installed("timm")

BASE = replace(get_config("yolact_mobilenetv2"), size=96).with_num_classes(2)
ODD = 90  # not a multiple of 32: C3 to C5 have 12, 6 and 3 pixels a side, rounded up
# One a family: plain, depthwise, patches without padding, squeeze and excite, windows of one input size, trees of
# branches, maps channels last, lists of stages by a getter, and a sum of maps that fits even sizes alone.
FAMILIES = [
    "resnet18", "mobilenetv3_small_050", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224",
    "repvgg_a0", "mambaout_femto", "hiera_tiny_224", "hrnet_w18_small",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_of(name: str, size: int = 96) -> Config:
    return replace(with_backbone(BASE, f"timm/{name}"), size=size)


def settled(module: nn.Module) -> nn.Module:
    """With statistics, scales and shifts of batch norm that are worth loading."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_mean", "running_var")) or "bn" in name or "norm" in name:
            if tensor.is_floating_point():
                tensor.uniform_(0.8, 1.2, generator=random)
    return module.eval()


def noise(size: int = 96) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


@torch.no_grad()
def assert_same_maps(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= ROUNDING * theirs.abs().max()


@torch.no_grad()
def test_torchvisions_mobilenet_v2_becomes_the_backbone(tmp_path: Path) -> None:
    theirs = settled(torchvision.models.mobilenet_v2())
    model = Yolact_of("mobilenet_v2")
    start_from(model, saved(tmp_path / "w.pth", theirs.state_dict()))
    maps, x = [], noise()
    for index, layer in enumerate(theirs.features[:18]):
        x = layer(x)
        if index in (6, 13, 17):
            maps.append(x)
    assert_same_maps(model.backbone(noise()), maps)


@torch.no_grad()
def test_torchvisions_resnet152_becomes_the_backbone(tmp_path: Path) -> None:
    theirs = settled(torchvision.models.resnet152())
    model = Yolact_of("resnet152")
    start_from(model, saved(tmp_path / "w.pth", theirs.state_dict()))
    x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(noise())))))
    c3 = theirs.layer2(x)
    c4 = theirs.layer3(c3)
    assert_same_maps(model.backbone(noise()), [c3, c4, theirs.layer4(c4)])
