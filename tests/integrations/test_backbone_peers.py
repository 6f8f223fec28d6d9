"""Backbones beside the libraries that their ImageNet weights come from: torchvision, mmdetection and timm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mmcv_stub
import pytest
import torch
from installed import installed
from networks import distance
from torch import Tensor, nn

import yolact
from yolact.config import get_config
from yolact.engine import Engine
from yolact.engine.network import is_plain
from yolact.errors import UserError
from yolact.models.backbones import layers_to_c4, make_backbone, with_backbone
from yolact.models.checkpoint import save_checkpoint
from yolact.models.start import start_from
from yolact.models.timm_backbone import TimmBackbone, convert_sync_batch_norm
from yolact.predictor import Model

torchvision = installed("torchvision")
timm = installed("timm")
mmcv_stub.install()
mmdet_backbones = installed("mmdet.models.backbones")

BASE = replace(get_config("yolact_mobilenetv2"), size=96).with_num_classes(2)
ROUNDING = 1e-4  # float32: sums in another order, of several branches in some networks, through a hundred layers
ODD = 90  # not a multiple of 32: C3 to C5 have 12, 6 and 3 pixels a side, rounded up
# One a family: plain, depthwise, patches without padding, squeeze and excite, windows of one input size with maps
# channels last, branches, another way to take maps out, and sums of maps that fit even sizes alone.
FAMILIES = [
    "resnet18", "mobilenetv3_small_050", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224",
    "repvgg_a0", "hiera_tiny_224", "hrnet_w18_small",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def settled(network: nn.Module) -> nn.Module:
    """With batch norm's statistics of what passes, so that values neither vanish nor grow."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()  # mmdetection's returns nothing
    network(noise())
    network.eval()
    return network


def model_on(backbone: str, size: int = 96) -> Model:
    torch.manual_seed(0)
    return Model(replace(with_backbone(BASE, backbone), size=size)).eval()


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
    model = model_on("mobilenet_v2")
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
    model = model_on("resnet152")
    start_from(model, saved(tmp_path / "w.pth", theirs.state_dict()))
    x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(noise())))))
    c3 = theirs.layer2(x)
    c4 = theirs.layer3(c3)
    assert_same_maps(model.backbone(noise()), [c3, c4, theirs.layer4(c4)])


@pytest.mark.parametrize("project", ["mmdetection", "mmpretrain"])
@torch.no_grad()
def test_mmdetections_mobilenet_v2_becomes_the_backbone(project: str, tmp_path: Path) -> None:
    theirs = settled(mmdet_backbones.MobileNetV2(out_indices=(2, 4, 6)))
    state = theirs.state_dict()
    if project == "mmpretrain":  # which numbers the convolutions of a block
        kinds = ("expand_conv", "depthwise_conv", "linear_conv")
        for kind in kinds:
            for name in [name for name in state if f".{kind}." in name]:
                number = kinds.index(kind) - name.startswith("layer1.")
                state[f"backbone.{name.replace(kind, f'conv.{number}')}"] = state.pop(name)
        state = {name if name.startswith("backbone.") else f"backbone.{name}": state[name] for name in state}
    model = model_on("mobilenet_v2")
    start_from(model, saved(tmp_path / "w.pth", state))
    assert_same_maps(model.backbone(noise()), theirs(noise()))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_timms(name: str, tmp_path: Path) -> None:
    """Its classifier's weights start it, its file brings it back, it is folded into what predict runs."""
    model = model_on(f"timm/{name}")
    backbone = model.backbone
    assert isinstance(backbone, TimmBackbone)
    size = {"img_size": 96} if "img_size" in backbone.options else {}
    theirs = settled(timm.create_model(name, **size))
    start_from(model, saved(tmp_path / "timm.pth", theirs.state_dict()))
    with torch.no_grad():
        features = settled_features(theirs, name, size)(noise())
        if tuple(features[-1].shape[1:3]) == (3, 3):
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        assert_same_maps(backbone(noise()), features[-3:])

        assert is_plain(model)
        assert distance(model.network("fp32")(noise()), model(noise())) < ROUNDING

        save_checkpoint(tmp_path / "ours.pth", model)
        same = yolact.load(tmp_path / "ours.pth")
        assert same.config == model.config
        assert distance(same(noise()), model(noise())) == 0
        assert len(same.predict(torch.zeros(40, 50, 3, dtype=torch.uint8), score_threshold=0)) == 1


def settled_features(whole: nn.Module, name: str, size: dict[str, int]) -> nn.Module:
    """timm's own feature extractor with the weights of the whole network, moved by timm."""
    overlay = {"state_dict": whole.state_dict(), "num_classes": 1000}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, **size).eval()


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "hrnet_w18_small"])
def test_a_size_that_strides_do_not_divide(name: str) -> None:
    backbone = model_on(f"timm/{name}", ODD).backbone
    with torch.no_grad():
        assert [feature.shape[2:] for feature in backbone(noise(ODD))] == [(12, 12), (6, 6), (3, 3)]


def test_what_is_padded_changes_nothing_else() -> None:
    """Padded by zeros and cut: what the network makes of the padded picture itself."""
    small, large = model_on("timm/convnext_atto", ODD).backbone, model_on("timm/convnext_atto", 96).backbone
    assert (small.padding, large.padding) == (6, 0)
    assert model_on("timm/resnet18", ODD).backbone.padding == 0, "which rounds up by itself"
    large.load_state_dict(small.state_dict())
    with torch.no_grad():
        found = small(noise(ODD))
        whole = large(nn.functional.pad(noise(ODD), (0, 6, 0, 6)))
    assert all(torch.equal(a, b[:, :, : a.shape[2], : a.shape[3]]) for a, b in zip(found, whole, strict=True))


def test_preprocessing_is_timms() -> None:
    assert model_on("timm/maxvit_rmlp_pico_rw_256").config.preprocessing.mean == (127.5, 127.5, 127.5)
    assert model_on("timm/resnet18").config.preprocessing.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"timm/resnet81: timm \S+ has no network of that name; the nearest are resnet\S+, "),
        ("resnet18.in23k", r"timm/resnet18\.in23k: Invalid pretrained tag \(in23k\)"),
        ("vit_tiny_patch16_224", "has feature maps at strides 16, 16, 16; 8, 16 and 32 are needed"),
        ("levit_128", "has feature maps at strides 16, 32, 64; 8, 16 and 32 are needed"),
        ("inception_v3", "inception_v3: does not work with an input of 96 x 96: its feature maps have sides .*, not"),
        ("efficientformer_l1", "efficientformer_l1: does not work with an input of 96 x 96: "),
        ("naflexvit_base_patch16_gap", "timm/naflexvit_base_patch16_gap: "),
    ],
)
def test_networks_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        model_on(f"timm/{name}")
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", timm.create_model("resnet34").state_dict())
    with pytest.raises(UserError, match=r"holds no timm/resnet18: holds besides \d+ \(net\.layer"):
        start_from(model_on("timm/resnet18"), file)
    with pytest.raises(UserError, match=r"holds no timm/convnext_atto: lacks \d+ \(net\.stem_0"):
        start_from(model_on("timm/convnext_atto"), file)


def test_weights_that_timm_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_on("timm/resnet18.a1_in1k")
    with pytest.raises(
        UserError, match=r"^timm/resnet18\.a1_in1k: timm has no weights of it to fetch \("
    ):  # there is no network
        start_from(model, "pretrained")
    theirs = settled(timm.create_model("resnet18"))
    save_file = installed("safetensors.torch").save_file
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    hub = installed("timm.models._hub")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors"))
    assert start_from(model, "pretrained") == "starting from timm's weights of resnet18.a1_in1k"
    assert torch.equal(model.backbone.net.layer4[1].bn2.weight, theirs.layer4[1].bn2.weight)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto"])
def test_layers_to_c4_are_those_that_c4_depends_on(name: str) -> None:
    backbone = make_backbone(model_on(f"timm/{name}").config)
    before = {parameter for layer in layers_to_c4(backbone) for parameter in layer.parameters()}
    parameters = list(backbone.parameters())
    gradients = torch.autograd.grad(backbone(noise())[1].sum(), parameters, allow_unused=True)
    assert before == {p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def test_batch_norm_of_several_processes_keeps_its_activation() -> None:
    backbone = settled(model_on("timm/mobilenetv3_small_050").backbone)
    with torch.no_grad():
        expected = backbone(noise())
        convert_sync_batch_norm(backbone)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in backbone.modules())
        assert_same_maps(backbone(noise()), expected)


def test_half_precision_and_no_recording() -> None:
    """What another's network does on the way may be such as a CUDA graph cannot hold."""
    model = model_on("timm/convnext_atto")
    ready = Engine(lambda device: pytest.fail("asked to record")).ready(model, "bf16")
    assert ready.replays is None
    with torch.no_grad():
        assert distance(ready.network(noise()), model(noise())) < 0.05  # bfloat16 keeps eight bits


def test_a_network_of_timms_trains() -> None:
    model = model_on("timm/mobilenetv3_small_050").train()
    raw, semantic = model.forward_train(noise())
    (raw.class_logits.sum() + raw.prototypes.sum() + semantic.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.backbone.parameters())


def test_a_network_of_timms_is_exported() -> None:
    from yolact.export.modules import RawNetwork

    model = model_on("timm/convnext_atto")
    program = torch.export.export(RawNetwork(model), (noise(),))
    with torch.no_grad():
        found, expected = program.module()(noise()), RawNetwork(model)(noise())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
