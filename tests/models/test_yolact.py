"""The network as a module: shapes, errors, training mode, compile and export."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from yolact.config import CONFIGS, Config, get_config
from yolact.models.yolact import Yolact
from yolact.options import FPNOptions

SMALL = replace(get_config("yolact_lite0"), size=64).with_num_classes(3)
# Both topologies: mmdetection's feeds P6 from C5 and has no ReLU in the pyramid.
TOPOLOGIES = [SMALL, replace(SMALL, fpn=FPNOptions(channels=96, p6_from="C5", relu=False))]


def images(batch: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_builds_with_its_shapes(name: str) -> None:
    config = get_config(name)
    with torch.device("meta"):
        model = Yolact(config).eval()
        raw, semantic = model.forward_train(torch.empty(2, 3, config.size, config.size))
    priors, side = sum(config.level_sizes), config.feature_sizes[0]
    assert raw.box_deltas.shape == (2, priors, 4)
    assert raw.class_logits.shape == (2, priors, 1 + config.num_classes)
    assert raw.mask_coefficients.shape == (2, priors, config.prototypes)
    assert raw.priors.shape == (priors, 4)
    assert raw.prototypes.shape == (2, 2 * side, 2 * side, config.prototypes)
    assert semantic.shape == (2, config.num_classes, side, side)


def test_lite0_is_small() -> None:
    """At most 12 MB as float16."""
    with torch.device("meta"):
        model = Yolact(get_config("yolact_lite0"))
    assert sum(tensor.numel() for tensor in model.state_dict().values()) * 2 <= 12e6


@pytest.mark.parametrize("shape", [(1, 3, 550, 550), (1, 3, 64, 63), (1, 1, 64, 64), (3, 64, 64)])
def test_forward_rejects_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images: yolact_lite0 takes \[B, 3, 64, 64\], got \[") as error:
        Yolact(SMALL)(torch.zeros(shape))
    assert str(list(shape)) in str(error.value)


def test_outputs_need_no_copy_to_have_channels_last() -> None:
    model = Yolact(SMALL).eval()
    with torch.no_grad():
        assert model(images()).prototypes.is_contiguous()


def test_forward_of_no_pictures() -> None:
    raw = Yolact(SMALL).eval()(images(batch=0))
    assert raw.box_deltas.shape == (0, sum(SMALL.level_sizes), 4)


@pytest.mark.parametrize("config", TOPOLOGIES, ids=["original", "mmdetection"])
def test_forward_train_adds_semantic_logits_to_forward(config: Config) -> None:
    model = Yolact(config).eval()
    with torch.no_grad():
        raw, semantic = model.forward_train(images())
        plain = model(images())
    assert semantic.shape == (2, 3, 8, 8)
    torch.testing.assert_close(raw.class_logits, plain.class_logits, rtol=0, atol=0)
    torch.testing.assert_close(raw.prototypes, plain.prototypes, rtol=0, atol=0)


def test_head_predicts_in_the_priors_order() -> None:
    """A cell's features move just the predictions whose priors lie within reach of it."""
    head = Yolact(SMALL).prediction_layers[0]
    p3 = torch.zeros(1, 96, 8, 8)
    with torch.no_grad():
        before = torch.cat(head(p3), dim=-1)  # [1, P, 4 + 1 + C + K]
        p3[0, :, 0, 7] = 5.0
        moved = (torch.cat(head(p3), dim=-1) != before).any(-1)[0]
    cx, cy = Yolact(SMALL).priors[: len(moved), :2].unbind(-1)
    # Two 3x3 convolutions reach two cells from the one at the top right.
    assert torch.equal(moved, (cy < 3 / 8) & (cx > 5 / 8))


def test_freeze_batch_norm_holds_in_training() -> None:
    model = Yolact(SMALL, freeze_batch_norm=True).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    raw, semantic = model.forward_train(images())
    (raw.class_logits.sum() + raw.prototypes.sum() + semantic.sum()).backward()
    assert model.training
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.grad is None and norm.bias.grad is None for norm in norms)
    assert model.backbone._conv_stem.weight.grad is not None
    for norm, mean in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.running_mean, mean, rtol=0, atol=0)


def test_batch_norm_learns_by_default() -> None:
    model = Yolact(SMALL).train()
    norm = model.backbone._bn0
    before = norm.running_mean.clone()
    model.forward_train(images())
    assert norm.training
    assert norm.weight.requires_grad
    assert not torch.equal(norm.running_mean, before)


def test_priors_stay_float32_in_half_precision() -> None:
    model = Yolact(SMALL)
    expected = model.priors.clone()
    model = model.to(torch.bfloat16)
    assert model.proto_net[0].weight.dtype == torch.bfloat16
    torch.testing.assert_close(model.priors, expected, rtol=0, atol=0)
    assert "priors" not in model.state_dict()


def test_initial_weights_outside_the_backbone_are_xavier() -> None:
    weight = Yolact(SMALL).proto_net[0].weight  # [64, 96, 3, 3]
    bound = (6 / ((96 + 64) * 9)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not Yolact(SMALL).prediction_layers[0].conf_layer.bias.any()


def test_compiles_as_one_graph() -> None:
    model = Yolact(TOPOLOGIES[1]).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()).mask_coefficients, model(images()).mask_coefficients)


def test_exports_with_any_batch() -> None:
    model = Yolact(SMALL).eval()
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images(3)).class_logits, model(images(3)).class_logits)
