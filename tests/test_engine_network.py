"""The networks that predict runs: equal to the model's own, made anew when its weights change, unseen by all else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import yolact
from yolact.config import get_config
from yolact.engine import choose_dtype, convolution, engine, network, precision
from yolact.structures import RawOutputs


def create(name: str = "yolact_lite0", size: int = 64, seed: int = 0) -> yolact.Model:
    """A small network whose batch norms have statistics, scales and shifts worth folding."""
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = yolact.Model(replace(get_config(name), size=size).with_num_classes(2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.8), (module.bias, -0.2)):
                tensor.data.uniform_(low, low + 0.4, generator=random)
            module.weight.data.uniform_(0.6, 1.2, generator=random)
    return model.eval()


def images(batch: int = 1, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def distance(found: RawOutputs, expected: RawOutputs) -> float:
    """The largest difference of any output, in units of that output's largest value."""
    tensors = [(getattr(found, f.name).float(), getattr(expected, f.name)) for f in fields(RawOutputs)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in tensors)


ROUNDING = 2e-5  # float32: folding and another order of sums, through up to a hundred layers


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["yolact_lite0", "yolact_resnet50", "yolact_darknet53", "mmdet_yolact_r50_1xb8"])
def test_network_matches_the_models_own(name: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(n for n in network_names() if n.startswith(name))
    model = create(name)
    if fused and not convolution.onednn_fuses(torch.float32):
        pytest.skip("this torch has no fused convolutions of oneDNN's")
    monkeypatch.setattr(network, "onednn_fuses", lambda dtype: fused)
    lean = network.lean_network(model, torch.float32)
    with torch.no_grad():
        for batch in (1, 2, 3, 1):  # more sizes than weights are kept for
            given = images(batch)
            before = given.clone()
            assert distance(lean(given), model(given)) < ROUNDING
            assert torch.equal(given, before)


def test_weights_are_reordered_once_for_a_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    if not convolution.onednn_fuses(torch.float32):
        pytest.skip("this torch has no fused convolutions of oneDNN's")
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


def scores(model: yolact.Model) -> Tensor:
    return model.predict(picture(), score_threshold=0)[0].scores


def step(model: yolact.Model) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    raw = model(images())
    (raw.class_logits.square().mean() + raw.prototypes.mean()).backward()
    optimizer.step()


def move_statistics(model: yolact.Model) -> None:
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = True
    with torch.no_grad():
        model(images(2, seed=7))
    for module, mode in modes:
        module.training = mode


def step_through_data(model: yolact.Model) -> None:
    model.train()
    for parameter in model.parameters():
        parameter.data.mul_(1.05)
    model.eval()


def replace_tensor(model: yolact.Model) -> None:
    model.prediction_layers[0].conf_layer.bias.data = torch.tensor([0.0, 1.0, 2.0] * 3)


def replace_module(model: yolact.Model) -> None:
    model.prediction_layers[0].conf_layer = create(seed=3).prediction_layers[0].conf_layer


def add_hook(model: yolact.Model) -> None:
    model.fpn.register_forward_hook(lambda module, given, levels: [level * 2 for level in levels])


def parametrize(model: yolact.Model) -> None:
    parametrizations.weight_norm(model.prediction_layers[0].conf_layer)
    model.prediction_layers[0].conf_layer.parametrizations.weight.original0.data.mul_(2)


CHANGES = [
    step,
    move_statistics,
    step_through_data,
    replace_tensor,
    replace_module,
    add_hook,
    parametrize,
    lambda model: model.load_state_dict(create(seed=1).state_dict()),
    lambda model: model.backbone.half().float(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_predict_sees_changed_weights(change: Callable[[yolact.Model], None]) -> None:
    model = create()
    before = scores(model)
    change(model)
    after, expected = scores(model), scores(copy.deepcopy(model))
    assert not torch.equal(before, after)
    assert torch.equal(after, expected)


def test_network_is_kept_while_nothing_changes() -> None:
    model = create()
    first = model.network("fp32")
    scores(model)
    model.eval()
    model.requires_grad_(False)
    assert model.network("fp32") is first
    assert model.network("bf16") is not first
    assert model.network("fp32") is first
    model.train()
    assert model.network("fp32") is not first


def test_a_stream_sees_weights_change_on_its_way() -> None:
    model = create()
    stream = model.stream([picture()] * 2, score_threshold=0)
    first = next(stream).scores
    step(model)
    assert not torch.equal(next(stream).scores, first)


def test_the_check_for_changes_takes_little() -> None:
    """Against what it costs to list the parameters alone, which is the least that a check without memory does."""
    from timeit import repeat

    model = create("yolact_resnet50")
    weights = engine.Weights(model)
    check = min(repeat(weights.changed, number=5, repeat=20))
    listing = min(repeat(lambda: [*model.parameters(), *model.buffers()], number=5, repeat=20))
    assert check < listing


def test_model_is_the_same_with_and_without_networks() -> None:
    model, plain = create(), create()
    scores(model)
    model.predict(picture(), precision="bf16")
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert len(pickle.dumps(model)) == len(pickle.dumps(plain))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1.05)
    assert not torch.equal(scores(copied), scores(model))
    assert torch.equal(scores(model), scores(plain))
    assert torch.equal(scores(pickle.loads(pickle.dumps(model))), scores(model))


def test_threads_share_a_model() -> None:
    model = create()
    expected = [scores(model), model.predict(picture(1), score_threshold=0, precision="bf16")[0].scores]
    model = create()
    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(model.predict, picture(n % 2), score_threshold=0, precision=("fp32", "bf16")[n % 2])
            for n in range(12)
        ]
    for n, future in enumerate(futures):
        assert torch.equal(future.result()[0].scores, expected[n % 2])


def test_hooks_run_in_the_models_precision_only() -> None:
    model = create()
    called = []
    model.fpn.register_forward_hook(lambda *_: called.append(model.training))
    model.train()
    scores(model)
    assert called == [False]
    assert model.training
    model.predict(picture(), precision="fp32")
    with pytest.raises(ValueError, match="precision 'bf16': a network with hooks"):
        model.predict(picture(), precision="bf16")


class Doubling(yolact.Model):
    def _predict(self, levels: list[Tensor]) -> RawOutputs:
        return super()._predict([2 * level for level in levels])


def test_a_subclass_of_its_own_ways_runs_as_it_is() -> None:
    model = create()
    other = Doubling(model.config).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert distance(other.network()(images()), other(images())) == 0
        assert distance(other.network()(images()), model.network()(images())) > ROUNDING


CPU, GPU = torch.device("cpu"), torch.device("cuda")
SAPPHIRE_RAPIDS = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n\nprocessor\t: 1\n"
COOPER_LAKE = "flags\t\t: fpu avx512f avx512_bf16\n"
SKYLAKE = "flags : fpu avx512f avx512vl\nvmx flags\t: avx512_bf16\n"
GRAVITON = "Features\t: fp asimd bf16 i8mm\n"


@pytest.mark.parametrize(
    ("cpuinfo", "device", "expected"),
    [
        (SAPPHIRE_RAPIDS, CPU, torch.bfloat16),
        (COOPER_LAKE, CPU, torch.bfloat16),
        (SKYLAKE, CPU, torch.float32),
        (GRAVITON, CPU, torch.float32),  # nobody has measured it there
        ("", CPU, torch.float32),
        (SKYLAKE, GPU, torch.float16),
    ],
)
def test_auto_is_what_the_device_gains_by(
    cpuinfo: str, device: torch.device, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_processor_flags", lambda: precision.flags_in(cpuinfo))
    assert choose_dtype("auto", device, torch.float32) == expected
    assert choose_dtype("fp32", device, torch.float32) == torch.float32
    assert choose_dtype("auto", device, torch.bfloat16) == torch.bfloat16, "weights that are half already"
    assert choose_dtype("auto", device, torch.float64) == expected


@pytest.mark.parametrize("given", ["half", "", None, 16])
def test_predict_rejects_an_unknown_precision(given: object) -> None:
    with pytest.raises(ValueError, match=f"precision must be one of 'auto', 'fp32', 'fp16', 'bf16', got {given!r}"):
        create().predict(picture(), precision=given)
