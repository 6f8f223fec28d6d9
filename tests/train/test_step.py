"""A step in half precision, in other layouts and compiled, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import PLUS, STRONG, TINY, small_runs, write_squares
from torch import Tensor

from yolact.data.coco import read_coco
from yolact.data.samples import SampleStream
from yolact.errors import UserError
from yolact.predictor import Model
from yolact.train.batches import Batch, Batches
from yolact.train.engine import train
from yolact.train.step import TrainStep

# P6 is more than one pixel: of one, torch 2.13 leaves the bfloat16 gradient of P7's weights partly unwritten on a CPU.
CONFIGS = [config.with_classes(("square", "circle")) for config in (replace(TINY, size=96), PLUS)]
RATE = 1e-2
HALF_PRECISION = 0.03  # eight bits of a number, through seventy convolutions


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_runs():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder)
    return folder


@pytest.fixture(params=CONFIGS, ids=lambda config: config.name)
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    return Model(request.param, freeze_batch_norm=True).train()


@pytest.fixture
def stream(data: Path, model: Model) -> SampleStream:
    dataset = read_coco(data / "truth.json", data)
    return SampleStream(dataset, model.config.size, STRONG.augmentation, model.config.preprocessing.mean, seed=0)


@pytest.fixture
def batch(stream: SampleStream, model: Model) -> Batch:
    found = Batches(stream, model.config, model.priors, 4)[0]
    assert isinstance(found, Batch)
    return found


def twin(model: Model) -> Model:
    """Another model of the same weights."""
    other = Model(model.config, freeze_batch_norm=True).train()
    other.load_state_dict(model.state_dict())
    return other


def taken(model: Model, batch: Batch, precision: str = "fp32", **options: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """What a step returns, and the weights after it."""
    row = TrainStep(model, precision, **options)([batch], batch.assignment.totals, RATE)
    return row, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_parts_of_a_batch_make_the_step_of_the_whole(model: Model, stream: SampleStream, batch: Batch) -> None:
    whole, weights = taken(twin(model), batch)
    singles = Batches(stream, model.config, model.priors, 1)
    parts = [part for part in (singles[i] for i in range(4)) if isinstance(part, Batch)]
    row = TrainStep(model)(parts, batch.assignment.totals, RATE)
    torch.testing.assert_close(row, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=1e-6)


def test_bfloat16_is_of_the_network_alone(model: Model, batch: Batch) -> None:
    exact, _ = taken(twin(model), batch)
    dtypes = set()
    model.proto_net.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    half, weights = taken(model, batch, "bf16")
    assert dtypes == {torch.bfloat16}
    assert half.dtype == torch.float32
    assert all(tensor.dtype == torch.float32 for tensor in weights.values() if tensor.is_floating_point())
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=HALF_PRECISION, atol=0)


@pytest.mark.parametrize("options", [{"channels_last": False}, {"compiled": True}], ids=str)
def test_layout_and_compilation_change_no_result(
    model: Model, batch: Batch, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))  # the tracing, without a compiler
    expected, weights = taken(twin(model), batch)
    row, found = taken(model, batch, **options)
    torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, weights, rtol=0, atol=1e-6)
    assert found.keys() == weights.keys(), "the names that a checkpoint holds"


@pytest.mark.parametrize("model", CONFIGS[:1], ids=["tiny"], indirect=True)  # convolutions in fp16 on a CPU are slow
def test_a_step_that_overflows_in_half_precision_is_left_out(model: Model, batch: Batch) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = TrainStep(model, "fp16")
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 2.0**127})
    row = step([batch], batch.assignment.totals, RATE)
    assert row[:-1].isfinite().all()
    assert not row[-1].isfinite()
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all((state["momentum_buffer"] == 0).all() for state in step.optimizer.state.values())
    assert step.scaler.get_scale() == 2.0**126
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 1.0})
    assert step([batch], batch.assignment.totals, RATE).isfinite().all()
    assert not torch.equal(model.state_dict()["fpn.lat_layers.0.weight"], before["fpn.lat_layers.0.weight"])


def test_gradients_are_clipped_to_the_norm(model: Model, batch: Batch) -> None:
    model.config = replace(model.config, train=replace(model.config.train, clip_norm=0.5))
    step = TrainStep(model)
    row = step([batch], batch.assignment.totals, RATE)
    assert row[-1] > 0.5, "the norm is told as it was"
    clipped = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(clipped, torch.tensor(0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("precision", "message"), [("fp16", "precision 'fp16' needs a GPU"), ("fp8", "precision 'fp8' is unknown")]
)
def test_precisions_that_cannot_be_are_refused(data: Path, tmp_path: Path, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(TINY, data / "truth.json", data, tmp_path / "run", precision=precision)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
