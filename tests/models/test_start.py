"""What training starts from: a whole model, a backbone under anybody's names, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from yolact.config import get_config
from yolact.errors import UserError
from yolact.models.checkpoint import save_checkpoint
from yolact.models.start import start_from
from yolact.models.yolact import Yolact

R50 = replace(get_config("yolact_resnet50"), size=64)


@pytest.fixture(scope="module")
def torchvision() -> dict[str, Tensor]:
    """A ResNet-50 for ImageNet under torchvision's names, which are timm's too, of random weights."""
    torch.manual_seed(1)
    state = {}
    for name, tensor in Yolact(R50).backbone.state_dict().items():
        stage, _, rest = name.removeprefix("layers.").partition(".")
        state[f"layer{int(stage) + 1}.{rest}" if name.startswith("layers.") else name] = tensor
    assert "layer4.2.conv3.weight" in state
    return {**state, "fc.weight": torch.rand(1000, 2048), "fc.bias": torch.rand(1000)}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: s, id="torchvision's weights"),
        pytest.param(lambda s: {"model": s, "epoch": 90}, id="torchvision's training script"),
        pytest.param(lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}}, id="DataParallel"),
        pytest.param(
            lambda s: {"state_dict": {("head." if n.startswith("fc") else "backbone.") + n: t for n, t in s.items()}},
            id="mmpretrain",
        ),
        pytest.param(
            lambda s: {n: t for n, t in s.items() if "num_batches" not in n}, id="a torch that counted no batches"
        ),
    ],
)
def test_a_resnet_for_imagenet_becomes_the_backbone(
    torchvision: dict[str, Tensor], tmp_path: Path, wrap: Callable[[dict[str, Tensor]], object]
) -> None:
    torch.manual_seed(0)
    model = Yolact(R50)
    head = model.prediction_layers[0].bbox_layer.weight.clone()
    assert start_from(model, saved(tmp_path / "r50.pth", wrap(torchvision))).endswith("weights of the backbone")
    assert torch.equal(model.backbone.conv1.weight, torchvision["conv1.weight"])
    assert torch.equal(model.backbone.layers[3][2].bn3.bias, torchvision["layer4.2.bn3.bias"])
    assert torch.equal(model.backbone.layers[2][5].conv2.weight, torchvision["layer3.5.conv2.weight"])
    assert torch.equal(model.prediction_layers[0].bbox_layer.weight, head), "nothing but the backbone changes"


def test_deformable_convolutions_start_from_the_plain_ones(torchvision: dict[str, Tensor], tmp_path: Path) -> None:
    model = Yolact(replace(get_config("yolact_plus_resnet50"), size=64, mask_rescoring=False))
    start_from(model, saved(tmp_path / "r50.pth", torchvision))
    conv = model.backbone.layers[2][5].conv2
    assert torch.equal(conv.weight, torchvision["layer3.5.conv2.weight"])
    assert not any(tensor.any() for tensor in (conv.bias, *conv.conv_offset_mask.parameters()))
    x = torch.rand(1, 256, 4, 4)
    half = nn.functional.conv2d(x, conv.weight, padding=1) / 2  # every tap at its place, and weighs sigmoid(0)
    torch.testing.assert_close(conv(x), half, rtol=0, atol=1e-5)  # another order of 2304 sums


def test_safetensors_are_read(torchvision: dict[str, Tensor], tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(torchvision, tmp_path / "model.safetensors")
    model = Yolact(R50)
    start_from(model, tmp_path / "model.safetensors")
    assert torch.equal(model.backbone.layers[0][0].conv1.weight, torchvision["layer1.0.conv1.weight"])
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nothing")
    with pytest.raises(UserError, match=r"model\.safetensors: not a checkpoint, or a truncated one"):
        start_from(model, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {n: t for n, t in s.items() if not n.startswith("layer4")}, r"lacks 50 .*layers\.3\.0\.conv1"),
        (lambda s: {**s, "layer3.6.conv1.weight": torch.rand(2)}, r"holds besides 1 \(layers\.2\.6\.conv1\.weight\)"),
        (lambda s: {**s, "conv1.weight": torch.rand(32, 3, 3, 3)}, r"has in another shape 1 \(conv1\.weight\)"),
        (lambda s: {**s, "bn1.bias": torch.full((64,), torch.nan)}, r"NaN or infinite values in 1 \(bn1\.bias\)"),
        (lambda s: {"something": torch.rand(2)}, r"holds no resnet50: lacks \d+ \(conv1\.weight"),
    ],
    ids=["truncated", "deeper", "another stem", "NaN", "no backbone"],
)
def test_another_network_is_refused_whole(
    torchvision: dict[str, Tensor],
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
) -> None:
    model = Yolact(R50)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        start_from(model, saved(tmp_path / "w.pth", change(torchvision)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_whole_model_of_other_classes_leaves_what_depends_on_them(tmp_path: Path) -> None:
    start = Yolact(R50.with_num_classes(3))
    save_checkpoint(tmp_path / "start.pth", start)
    model = Yolact(R50.with_num_classes(2))
    told = start_from(model, tmp_path / "start.pth")
    assert "but for prediction_layers.0.conf_layer.weight" in told
    assert torch.equal(model.fpn.lat_layers[0].weight, start.fpn.lat_layers[0].weight)


def test_a_whole_model_that_scores_no_masks_leaves_the_net_that_does(tmp_path: Path) -> None:
    config = replace(get_config("yolact_lite0").with_num_classes(2), size=256)
    start, model = Yolact(config), Yolact(replace(config, mask_rescoring=True))
    save_checkpoint(tmp_path / "start.pth", start)
    assert model.maskiou_net is not None
    net = {name: tensor.clone() for name, tensor in model.maskiou_net.state_dict().items()}
    told = start_from(model, tmp_path / "start.pth")
    assert told.endswith(", but for " + ", ".join(f"maskiou_net.{name}" for name in net))
    assert all(torch.equal(tensor, net[name]) for name, tensor in model.maskiou_net.state_dict().items())
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in start.state_dict().items())
    torn = {n: t for n, t in model.state_dict().items() if n != "maskiou_net.maskiou_net.2.bias"}
    with pytest.raises(UserError, match=r"missing 1 \(maskiou_net\.maskiou_net\.2\.bias"):
        start_from(model, saved(tmp_path / "torn.pth", torn))


def test_without_a_file() -> None:
    assert start_from(Yolact(R50), None) == "starting from random weights"
