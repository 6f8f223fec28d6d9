"""The networks that predict runs: equal to the model's own, and unseen by all else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import ROUNDING, create, distance, images, picture, scores
from torch import Tensor, nn

import yolact
from yolact.engine import convolution, engine, network
from yolact.models.deformable import DeformableConv2d, offset_and_mask

NETWORKS = [
    "yolact_lite0",
    "yolact_mobilenetv2",
    "yolact_resnet50",
    "yolact_darknet53",
    "yolact_plus_resnet50",
    "mmdet_yolact_r50_1xb8",
]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_matches_the_models_own(name: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(n for n in network_names() if n.startswith(name))
    model = create(name)
    if fused and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(network, "onednn_fuses", lambda dtype: fused)
    lean = network.lean_network(model, torch.float32)
    with torch.no_grad():
        for batch in (1, 2, 3, 1):  # more sizes than weights are kept for
            given = images(batch)
            before = given.clone()
            found = lean(given)
            assert distance(found, model(given)) < ROUNDING
            assert found.prototypes.is_contiguous()  # what mask assembly on a GPU is fastest with
            assert torch.equal(given, before)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])  # 8 and 11 bits
def test_a_deformable_convolution_in_half_precision(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    conv, norm = DeformableConv2d(16, 24, stride=2), nn.BatchNorm2d(24).eval()
    nn.init.normal_(conv.conv_offset_mask.weight, std=0.1)
    x = images(2)[:, :1] * torch.randn(16, 1, 1)
    offset_mask = convolution.PlainConvolution(conv.conv_offset_mask, dtype=dtype)
    half = convolution.DeformableConvolution(conv, norm, convolution.RELU, dtype=dtype, offset_mask=offset_mask)
    with torch.no_grad():
        offset, _ = offset_and_mask(conv.conv_offset_mask(x))
        expected, found = nn.functional.relu(norm(conv(x))), half(x.to(dtype))
    assert offset.abs().max() > 1
    assert found.dtype == dtype
    # Where neighbours differ much, the worst sample is off by more than the mean one.
    assert (found.float() - expected).square().mean().sqrt() < tolerance * expected.square().mean().sqrt()


def test_weights_are_reordered_once_for_a_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    lean = create().network("fp32")
    reordered: list[int] = []
    reorder = torch.ops.mkldnn._reorder_convolution_weight

    def counted(weight: Tensor, *options: object) -> Tensor:
        reordered.append(weight.numel())
        return reorder(weight, *options)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", counted)
    with torch.no_grad():
        for batch, new in ((1, True), (1, False), (3, True), (1, False), (3, False), (2, True), (3, False), (1, True)):
            before = len(reordered)
            lean(images(batch))
            assert (len(reordered) > before) == new, batch
        before, threads = len(reordered), torch.get_num_threads()
        try:
            torch.set_num_threads(threads + 1)  # for which oneDNN wants them in another order
            lean(images(3))
        finally:
            torch.set_num_threads(threads)
        assert len(reordered) > before


def test_what_only_training_looks_at_does_not_make_a_network_slow() -> None:
    model = create()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    assert network.is_plain(model)


def network_names() -> list[str]:
    from yolact.config import CONFIGS

    return list(CONFIGS)


def test_fused_convolutions_are_used_where_they_are() -> None:
    assert convolution.onednn_fuses(torch.float32) == (torch.backends.mkldnn.is_available())


@pytest.mark.parametrize(
    "broken",
    [
        lambda *_: torch.zeros(1, 16, 6, 6),  # means something else by now
        lambda *_: torch.ops.mkldnn.no_such_operator(),
        lambda x: x,  # takes other arguments
    ],
)
def test_fused_convolutions_are_probed(broken: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", broken, raising=False)
    assert not convolution.onednn_fuses.__wrapped__(torch.float32)


def test_probing_leaves_the_random_numbers_of_other_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    convolve = torch.ops.mkldnn._convolution_pointwise

    def convolved(*given: object) -> Tensor:
        drawn.append(torch.rand(()).item())  # as another thread may at any time
        return convolve(*given)

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", convolved)
    random = torch.get_rng_state()
    convolution.onednn_fuses.__wrapped__(torch.float32)
    after = torch.get_rng_state()
    torch.set_rng_state(random)
    assert drawn == [torch.rand(()).item() for _ in drawn]
    assert torch.equal(torch.get_rng_state(), after)


def test_odd_sides_of_lite0_run_as_they_are() -> None:
    model = create(size=90)
    with torch.no_grad():
        assert distance(model.network()(images(size=90)), model(images(size=90))) == 0


def other_activation(model: yolact.Model) -> None:
    model.proto_net[1] = nn.LeakyReLU(0.5)


def other_norm(model: yolact.Model) -> None:
    model.backbone._bn0 = nn.GroupNorm(8, 32)


def other_padding(model: yolact.Model) -> None:
    conv = model.proto_net[0]
    model.proto_net[0] = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, padding_mode="reflect")


def one_layer_more(model: yolact.Model) -> None:
    model.proto_net.append(nn.Sigmoid())


@pytest.mark.parametrize("change", [other_activation, other_norm, other_padding, one_layer_more])
def test_other_layers_of_torchs_run_as_they_are(change: Callable[[yolact.Model], None]) -> None:
    model = create()
    assert engine.Weights(model).plain
    change(model)
    with torch.no_grad():
        assert distance(model.network()(images()), model.eval()(images())) == 0


def test_batch_norm_of_several_processes_is_folded() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(create())
    assert engine.Weights(model).plain
    with torch.no_grad():
        assert distance(model.network("fp32")(images()), model(images())) < ROUNDING


@pytest.mark.parametrize("fused", [True, False])
def test_predict_neither_heeds_nor_changes_what_the_caller_has_set(
    fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(create())
    convolution.onednn_fuses.cache_clear()
    if not fused:
        monkeypatch.setattr(network, "onednn_fuses", lambda dtype: False)
    model = create()
    random = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        (found,) = model.predict(picture(), score_threshold=0)
        assert len(found[found.scores > found.scores.median()].rles) > 0
    torch.testing.assert_close(found.scores, expected, atol=1e-5, rtol=0)
    assert torch.equal(torch.get_rng_state(), random)
    if fused:
        assert convolution.onednn_fuses(torch.float32) == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("given", ["half", "", None, 16])
def test_predict_rejects_an_unknown_precision(given: object) -> None:
    with pytest.raises(ValueError, match=f"precision must be one of 'auto', 'fp32', 'fp16', 'bf16', got {given!r}"):
        create().predict(picture(), precision=given)
