"""Backbones by their names; tests/integrations/test_backbone_peers.py asks torchvision, mmdetection and timm."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import write

import yolact
from yolact.config import CONFIGS, get_config
from yolact.errors import UserError
from yolact.models.backbones import layers_to_c4, make_backbone, with_backbone
from yolact.models.checkpoint import read_checkpoint
from yolact.models.start import start_from
from yolact.models.yolact import Yolact
from yolact.options import Preprocessing

SMALL = replace(get_config("yolact_mobilenetv2"), size=64).with_num_classes(2)
BUILT_IN = sorted({config.backbone for config in CONFIGS.values()})


@pytest.fixture
def no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)


@pytest.mark.parametrize("name", BUILT_IN)
def test_feature_maps_have_the_pyramids_sizes(name: str) -> None:
    size = 90  # does not divide by 8, 16 and 32: sides are rounded up
    config = replace(get_config("yolact_base"), backbone=name, size=size)
    with torch.device("meta"):
        backbone = make_backbone(config).eval()
        maps = backbone(torch.empty(2, 3, size, size))
    sides = config.feature_sizes[:3]
    expected = [(2, channels, side, side) for channels, side in zip(backbone.channels, sides, strict=True)]
    assert [tuple(feature.shape) for feature in maps] == expected


@pytest.mark.parametrize("name", ["resnet50", "darknet53", "efficientnet_lite0", "mobilenet_v2"])
def test_layers_to_c4_are_those_that_c4_depends_on(name: str) -> None:
    with torch.device("meta"):
        backbone = make_backbone(replace(get_config("yolact_base"), backbone=name, size=64))
        c4 = backbone(torch.empty(2, 3, 64, 64))[1]
    before = {parameter for layer in layers_to_c4(backbone) for parameter in layer.parameters()}
    parameters = list(backbone.parameters())
    gradients = torch.autograd.grad(c4.sum(), parameters, allow_unused=True)
    assert before == {p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def test_another_backbone_is_fed_as_its_weights_want_it() -> None:
    base = get_config("yolact_base")
    config = with_backbone(base, "efficientnet_lite0")
    assert config.name == "yolact_base with efficientnet_lite0"
    assert config.preprocessing == get_config("yolact_lite0").preprocessing
    assert replace(config, name=base.name, backbone="resnet101", preprocessing=base.preprocessing) == base
    assert with_backbone(base, None) is with_backbone(base, "resnet101") is base
    mmdet = with_backbone(get_config("mmdet_yolact_r50_1xb8"), "darknet53")
    assert mmdet.preprocessing == Preprocessing((0, 0, 0), (255, 255, 255), resize="uint8")
    plus = with_backbone(get_config("yolact_plus_base"), "resnet50")
    assert plus.deformable == get_config("yolact_plus_base").deformable


@pytest.mark.parametrize(
    ("config", "backbone", "message"),
    [
        ("yolact_base", "resnet18", "backbone must be one of resnet50, .*, mobilenet_v2 or timm/NAME, got 'resnet18'"),
        ("yolact_base", "", "backbone must be one of .*, got ''"),
        ("yolact_base", "timm/", "backbone must be one of .*, got 'timm/'"),
        ("yolact_plus_base", "mobilenet_v2", "deformable: of ResNets alone, .* for mobilenet_v2"),
        ("yolact_plus_base", "timm/resnet50", "deformable: of ResNets alone, .* for timm/resnet50"),
    ],
)
def test_create_rejects_another_backbone(config: str, backbone: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        yolact.create(config, backbone=backbone)


@pytest.mark.usefixtures("no_timm")
def test_without_timm_its_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^backbones of timm need it: pip install 'yolact\[timm\]'"):
        yolact.create("yolact_base", backbone="timm/resnet18")
    content = {
        "format": "yolact checkpoint 1",
        "config": replace(SMALL, backbone="timm/resnet18").to_dict(),
        "state_dict": Yolact(SMALL).state_dict(),
    }
    file = write(tmp_path / "w.pth", content)
    assert read_checkpoint(file).backbone == "timm/resnet18", "what the file holds can be told all the same"
    with pytest.raises(UserError, match=r"pip install 'yolact\[timm\]'"):
        yolact.load(file)


def test_pretrained_weights_that_nobody_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Yolact(SMALL)
    with pytest.raises(UserError, match="pretrained weights of mobilenet_v2 have to be named as a file"):
        start_from(model, "pretrained")
    write(tmp_path / "pretrained", {f"backbone.{n}": t for n, t in model.backbone.state_dict().items()})
    assert start_from(model, "pretrained") == "starting from pretrained, weights of the backbone", "a file of that name"


def test_a_deeper_mobilenet_is_refused(tmp_path: Path) -> None:
    model = Yolact(SMALL)
    state = model.backbone.state_dict() | {"features.19.0.weight": torch.zeros(1), "classifier.1.bias": torch.zeros(9)}
    with pytest.raises(UserError, match=r"holds no mobilenet_v2: holds besides 1 \(features\.19\.0\.weight\)"):
        start_from(model, write(tmp_path / "w.pth", state))
