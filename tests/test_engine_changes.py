"""The network that predict runs follows its model: made anew when that changes, kept while it does not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from networks import ROUNDING, create, distance, images, picture, scores
from torch import Tensor
from torch.nn.utils import parametrizations

import yolact
from yolact.engine import engine
from yolact.structures import RawOutputs


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
