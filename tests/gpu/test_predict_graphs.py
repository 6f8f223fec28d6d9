"""predict on a GPU: real CUDA graphs give what the same work gives without them, and nothing waits but once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import yolact
from yolact.config import get_config
from yolact.engine import Engine
from yolact.engine.replay import USES_BEFORE, CudaGraphs, Recording, Replays
from yolact.engine.results import Sent

NAMES = ("boxes", "scores", "labels", "coefficients", "relative_boxes", "prototypes", "masks")


@pytest.fixture(params=["yolact_lite0", "yolact_resnet50", "yolact_plus_resnet50", "mmdet_yolact_r50_1xb8-55e_coco"])
def model(request: pytest.FixtureRequest, gpu: torch.device) -> yolact.Model:
    return create(request.param, gpu)


def create(name: str, device: torch.device | str, seed: int = 0) -> yolact.Model:
    torch.manual_seed(seed)
    config = get_config(name)
    size = 256 if config.mask_rescoring else 160  # the net that scores masks needs a larger network
    made = yolact.Model(replace(config, size=size).with_num_classes(3)).eval()  # so few that all score enough
    with torch.no_grad():  # masks with outlines of some length
        made.prediction_layers[0].mask_layer.weight.mul_(30)
        made.proto_net[-2].weight.mul_(30)
        if made.maskiou_net is not None:  # scores of masks that differ
            for layer in made.maskiou_net.maskiou_net[::2]:
                layer.weight.mul_(2)
            layer.bias.fill_(0.5)
    return made.to(device)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN takes the same algorithms with graphs and without; by default `predict` lets it measure which are best."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """What is captured while the test lasts."""
    made: list[Recording] = []
    capture = CudaGraphs.record

    def record(self: CudaGraphs, *arguments: object) -> Recording:
        made.append(capture(self, *arguments))
        return made[-1]

    monkeypatch.setattr(CudaGraphs, "record", record)
    return made


def picture(seed: int = 0, height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def uncaptured(model: yolact.Model) -> yolact.Model:
    """The same weights, never captured."""
    other = yolact.Model(model.config).eval().to(model.priors.device)
    other.load_state_dict(model.state_dict())
    other._engine = Engine(lambda device: None)
    return other


def same(a: yolact.Instances, b: yolact.Instances) -> bool:
    return a.to_coco(1) == b.to_coco(1) and all(torch.equal(getattr(a, name), getattr(b, name)) for name in NAMES)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_graphs_give_what_the_same_work_gives(model: yolact.Model, precision: str, records: list[Recording]) -> None:
    pictures = [picture(0), picture(1, 90, 200)] * (USES_BEFORE + 2)
    options = {"precision": precision, "score_threshold": 0.0}
    found, expected = (one.predict(pictures, **options) for one in (model, uncaptured(model)))
    assert len(records) == (1 if model.config.preprocessing.resize == "uint8" else 2)
    for captured, plain in zip(found, expected, strict=True):
        assert len(plain) == 100
        torch.testing.assert_close(captured.scores, plain.scores, atol=1e-5 if precision == "fp32" else 2e-3, rtol=0)
    assert same(found[-1], model.predict(pictures[-1], **options)[0]), "replays agree to the bit"


def test_interleaved_results_stay(gpu: torch.device, records: list[Recording]) -> None:
    model = create("yolact_lite0", gpu)
    for seed in range(USES_BEFORE + 1):
        model.predict([picture(seed), picture(seed, 90, 200)])
    stream = model.stream([picture(7), picture(8, 90, 200), picture(9), picture(10, 90, 200)])
    kept = list(stream)
    copies = [[getattr(one, name).clone() for name in NAMES] for one in kept]
    strings = [one.to_coco(1) for one in kept]
    model.predict([picture(n, *shape) for n in range(8) for shape in ((120, 160), (90, 200))])
    for one, tensors, results in zip(kept, copies, strings, strict=True):
        assert one.to_coco(1) == results
        assert all(torch.equal(getattr(one, name), tensor) for name, tensor in zip(NAMES, tensors, strict=True))
    assert len(records) == 2, "a second picture of a size does not capture again"


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("score", ["mask", "box"])
def test_scores_of_masks_come_from_the_graph(gpu: torch.device, score: str, records: list[Recording]) -> None:
    """Every row goes through the net there, step by step those that count: the same scores of the same rows."""
    model = create("yolact_plus_resnet50", gpu)
    pictures = [picture(n) for n in range(USES_BEFORE + 2)]
    options = {"score": score, "score_threshold": 0.0, "precision": "fp32"}
    found = model.predict(pictures, **options)[-1]
    assert len(records) == 1
    assert found.on_host is not None
    with torch.no_grad():
        raw = model.network("fp32")(model.preprocess(pictures[-1:]))
        (expected,) = model.instances(pictures[-1:], raw, model.detect(raw), 0.0, score)
    for name in ("scores", "box_scores", "mask_scores"):
        ranked, wanted = (getattr(one, name).sort().values for one in (found, expected))
        torch.testing.assert_close(ranked, wanted, atol=1e-5, rtol=1e-3)  # fewer masks at once: another order of sums
        assert torch.equal(getattr(found.on_host, name), getattr(found, name).cpu())
    assert (found.scores.diff() <= 0).all()


def test_run_lengths_come_from_the_graph(gpu: torch.device) -> None:
    model = create("yolact_lite0", gpu)
    found = model.predict([picture(n) for n in range(USES_BEFORE + 2)], score_threshold=0)[-1]
    assert found.on_host is not None
    expected = replace(found, on_host=None)
    assert found.rles == expected.rles
    chosen = found.scores > found.scores.median()
    assert found[chosen].rles == expected[chosen].rles
    assert found[chosen].names == expected[chosen].names


def test_pictures_on_the_gpu_stay_there(gpu: torch.device) -> None:
    model, array = create("yolact_lite0", gpu), picture()
    there = torch.from_numpy(array).to(gpu)
    for _ in range(USES_BEFORE + 2):
        for given in (there, there.permute(2, 0, 1)):
            (found,) = model.predict(given)
            np.testing.assert_array_equal(found.picture, array)
            torch.testing.assert_close(found.scores, model.predict(array)[0].scores, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["yolact_lite0", "yolact_plus_resnet50"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_nothing_waits_but_for_the_end(
    gpu: torch.device, batch_size: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a picture in the GPU's memory to the end of the batch: torch's own check, and a device that is held up."""
    model = create(name, gpu)
    there = [torch.from_numpy(picture(n)).to(gpu) for n in range(2 * batch_size)]
    for _ in range(USES_BEFORE + 1):
        model.predict(there, batch_size=batch_size)
    waits: list[bool] = []
    wait = Sent.wait

    def watched(self: Sent) -> object:
        torch.cuda.set_sync_debug_mode("default")
        waits.append(busy.query())
        try:
            return wait(self)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(Sent, "wait", watched)
    torch.cuda.synchronize()
    busy = torch.cuda.Event()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(400_000_000)
        busy.record()
        found = model.predict(there, batch_size=batch_size)
        results = [one.to_coco(1) for one in found]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waits[0] is False, "both batches were asked for while the device was held up"
    assert len(results) == 2 * batch_size


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model.prediction_layers[0].conf_layer.bias.data[1].add_(1), model.train().eval()),
        lambda model: torch.nn.init.normal_(model.prediction_layers[0].conf_layer.bias),
        lambda model: model.load_state_dict(create("yolact_lite0", "cpu", seed=1).state_dict()),
    ],
)
def test_changed_weights_drop_graphs(
    gpu: torch.device, change: Callable[[yolact.Model], object], records: list[Recording]
) -> None:
    model = create("yolact_lite0", gpu)
    before = model.predict([picture()] * (USES_BEFORE + 2), score_threshold=0)[-1].scores
    change(model)
    after = model.predict([picture()] * (USES_BEFORE + 2), score_threshold=0)[-1].scores
    assert len(records) == 2
    assert not torch.equal(before, after)
    expected = uncaptured(model).predict(picture(), score_threshold=0)[0].scores
    torch.testing.assert_close(after, expected, atol=2e-3, rtol=0)


@pytest.mark.usefixtures("deterministic")
def test_graphs_dropped_and_made_again(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """More sizes than graphs are kept for, while results of dropped ones are still on their way."""
    monkeypatch.setattr(Replays.__init__, "__defaults__", (1,))
    monkeypatch.setattr("yolact.engine.replay.USES_BEFORE", 0)  # each size is recorded every time it comes
    model = create("yolact_lite0", gpu)
    expected = {side: uncaptured(model).predict(picture(1, side))[0].scores for side in (60, 80, 100)}
    for _ in range(3):
        for side, scores in expected.items():
            for found in model.predict([picture(1, side)] * (USES_BEFORE + 2)):
                torch.testing.assert_close(found.scores, scores, atol=2e-3, rtol=0)


def test_memory_of_graphs_is_bounded(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolact.engine.replay.USES_BEFORE", 0)
    model = create("yolact_lite0", gpu)

    def use(sides: range) -> int:
        for side in sides:
            model.predict([picture(0, side)] * (USES_BEFORE + 2))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    first = use(range(40, 56))
    assert use(range(60, 92)) <= 1.3 * first


def test_threads_and_streams_share_graphs(gpu: torch.device) -> None:
    model = create("yolact_lite0", gpu)
    pictures = [picture(n % 3) for n in range(48)]
    expected = [found.scores for found in model.predict(pictures)]

    def predict(one: np.ndarray) -> torch.Tensor:
        with torch.cuda.stream(torch.cuda.Stream()):
            return model.predict(one)[0].scores.cpu()

    with ThreadPoolExecutor(4) as pool:
        for found, scores in zip(pool.map(predict, pictures), expected, strict=True):
            torch.testing.assert_close(found, scores.cpu(), atol=2e-3, rtol=0)
