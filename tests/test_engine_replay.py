"""The whole way recorded and replayed, as on a GPU, with a recorder that runs the work again into the same memory."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import yolact
from yolact.config import get_config
from yolact.engine import Engine, replay
from yolact.engine.packing import pack, unpack
from yolact.engine.replay import USES_BEFORE, Recording, Replays
from yolact.engine.transfer import in_flight


class Again:
    """Replays by running the function; what a replay does not write anew is noise, as is all between the turns."""

    def __init__(self) -> None:
        self.recorded = self.replayed = self.waited = 0
        self._busy = threading.Lock()
        self._recordings: list[Recording] = []

    def record(self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> Recording:
        self.recorded += 1
        outputs = function(*inputs)
        assert not {i.untyped_storage().data_ptr() for i in inputs} & {o.untyped_storage().data_ptr() for o in outputs}

        def run_again() -> None:
            self.replayed += 1
            for place, found in zip(outputs, function(*inputs), strict=True):
                place.copy_(found)

        self._recordings.append(Recording(inputs, outputs, run_again))
        return self._recordings[-1]

    @contextmanager
    def turn(self) -> Iterator[None]:
        assert self._busy.acquire(blocking=False), "two turns at once"
        try:
            yield
        finally:
            for recording in self._recordings:
                for tensor in (*recording.inputs, *recording.outputs):
                    tensor.untyped_storage().fill_(0xEE)
            self._busy.release()

    def wait(self) -> None:
        self.waited += 1


class Case:
    """One network, once as it runs on a CPU and once with everything recorded."""

    def __init__(self, name: str = "yolact_lite0", size: int = 64, **options: object) -> None:
        torch.manual_seed(0)
        self.plain = yolact.Model(replace(get_config(name), size=size, **options).with_num_classes(2)).eval()
        with torch.no_grad():  # masks with outlines of some length
            self.plain.prediction_layers[0].mask_layer.weight.mul_(100)
            self.plain.proto_net[-2].weight.mul_(100)
        self.model = yolact.Model(self.plain.config).eval()
        self.model.load_state_dict(self.plain.state_dict())
        self.recorders: list[Again] = []
        self.model._engine = Engine(self._recorder)

    def _recorder(self, device: torch.device) -> Again:
        self.recorders.append(Again())
        return self.recorders[-1]

    @property
    def recorded(self) -> int:
        return sum(recorder.recorded for recorder in self.recorders)

    def check(self, pictures: list[np.ndarray], **options: object) -> list[yolact.Instances]:
        """Predict both ways and compare."""
        found, expected = (model.predict(pictures, **options) for model in (self.model, self.plain))
        for one, other in zip(found, expected, strict=True):
            assert same(one, other)
        return found


def same(a: yolact.Instances, b: yolact.Instances) -> bool:
    names = ("boxes", "scores", "labels", "coefficients", "relative_boxes", "prototypes", "masks")
    return (
        a.rles == b.rles
        and a.to_coco(1) == b.to_coco(1)
        and np.array_equal(a.picture, b.picture)
        and all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
    )


def picture(seed: int = 0, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def case() -> Case:
    return Case()


def test_interleaved_pictures_keep_their_results(case: Case) -> None:
    pictures = [picture(0), picture(1, 50, 20)]
    case.check(pictures * (USES_BEFORE + 1))
    assert case.recorded == 2, "one a size"
    kept = [case.model.predict(one)[0] for one in pictures]
    case.model.predict([picture(2), picture(3, 50, 20)] * 2)
    for found, expected in zip(kept, case.plain.predict(pictures), strict=True):
        assert same(found, expected)
    assert case.recorded == 2, "the second picture of a size does not record again"
    assert case.recorders[0].replayed == 2 + 2 + 4


@pytest.mark.parametrize("name", ["mmdet_yolact_r50_1xb8-55e_coco"])
def test_pictures_resized_on_the_host_share_a_recording(name: str) -> None:
    case = Case(name)
    case.check([picture(seed, 20 + seed, 30) for seed in range(USES_BEFORE + 3)])
    assert case.recorded == 1


def test_sizes_that_hardly_come_again_are_never_recorded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_KEYS_COUNTED", 4)
    case.model.predict([picture(0, 10 + n % 5, 20) for n in range(5 * (USES_BEFORE + 2))])
    assert case.recorded == 0
    case.model.predict([picture(0, 10 + n % 4, 20) for n in range(4 * (USES_BEFORE + 2))])
    assert case.recorded == 4


def test_the_least_recently_used_recording_goes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.Replays.__init__, "__defaults__", (2,))
    sizes = [picture(0, 10), picture(0, 20), picture(0, 30)]
    for one in sizes[:2]:
        case.check([one] * (USES_BEFORE + 1))
    case.check([sizes[0]])
    case.check([sizes[2]] * (USES_BEFORE + 1))  # in the place of the second
    assert case.recorded == 3
    assert case.recorders[0].waited == 1, "its memory may still be in use"
    case.check([sizes[0], sizes[2]])
    assert case.recorded == 3
    case.check([sizes[1]] * 2 * USES_BEFORE)
    assert case.recorded == 3, "one that would push out another is asked for twice as often"
    case.check([sizes[1]])
    assert case.recorded == 4


def test_sizes_that_take_turns_do_not_push_each_other_out_for_ever() -> None:
    recorder = Again()
    replays = Replays(recorder, capacity=2)
    for n in range(300):
        assert replays.run(n % 3, lambda x: (-x,), [torch.ones(1)], lambda outputs: outputs[0].item()) == -1.0
    assert recorder.recorded < 10
    assert recorder.replayed > 100


@pytest.mark.parametrize("batch_size", [2, 3])
def test_ragged_batches(case: Case, batch_size: int) -> None:
    equal, mixed = [picture(n) for n in range(7)], [picture(n, 20 + n // 2, 30) for n in range(7)]
    for _ in range(USES_BEFORE + 2):
        case.check(equal, batch_size=batch_size)
        case.check(mixed, batch_size=batch_size)
    assert case.recorded > 2


def test_options_are_part_of_what_is_recorded(case: Case) -> None:
    for options in ({}, {"max_detections": 3}, {"score_threshold": 0.34}, {"variances": (0.1, 0.1)}, {}):
        case.check([picture(n) for n in range(USES_BEFORE + 2)], **options)
    assert case.recorded == 4


def test_scores_of_masks_are_recorded_with_the_rest() -> None:
    """All rows go through the net there, on a CPU those that count; each score has a recording of its own."""
    case = Case(size=256, mask_rescoring=True)
    with torch.no_grad():
        for model in (case.plain, case.model):
            model.maskiou_net.maskiou_net[-2].bias.fill_(1.0)
    pictures = [picture(n) for n in range(USES_BEFORE + 2)]
    middle = case.plain.predict(pictures[0], score_threshold=0, max_detections=20)[0].box_scores.median().item()
    for number, score in enumerate(("mask", "box"), 1):
        found, expected = (
            model.predict(pictures, score=score, score_threshold=middle, max_detections=20)
            for model in (case.model, case.plain)
        )
        assert case.recorded == number
        for one, other in zip(found, expected, strict=True):
            assert 0 < len(one) < 20
            assert one.rles == other.rles
            assert one.on_host is not None
            for name in ("scores", "box_scores", "mask_scores"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-6)
                assert torch.equal(getattr(one.on_host, name), getattr(one, name))
            assert one[::-1].to_coco(1) == one.to_coco(1)[::-1]


def test_precisions_are_recorded_apart(case: Case) -> None:
    for precision in ("fp32", "bf16"):
        case.check([picture(n) for n in range(USES_BEFORE + 2)], precision=precision)
    assert [recorder.recorded for recorder in case.recorders] == [1, 1]


def test_changed_weights_are_recorded_anew(case: Case) -> None:
    pictures = [picture(n) for n in range(USES_BEFORE + 2)]
    before = case.check(pictures)
    for model in (case.plain, case.model):
        with torch.no_grad():
            model.proto_net[0].weight.mul_(1.5)
            model.prediction_layers[0].conf_layer.bias.add_(torch.tensor([0.0, 1.0, 0.0] * 3))
    after = case.check(pictures)
    assert not torch.equal(before[-1].scores, after[-1].scores)
    assert [recorder.recorded for recorder in case.recorders] == [1, 1]
    assert case.recorders[0].waited == 1


def test_recordings_outlive_inference_mode(case: Case) -> None:
    pictures = [picture(n) for n in range(USES_BEFORE + 1)]
    with torch.inference_mode():
        case.check(pictures)
    assert case.recorded == 1
    (found,) = case.check(pictures[:1])
    assert not found.scores.is_inference()


def test_hooks_are_called_every_time(case: Case) -> None:
    called = []
    case.model.fpn.register_forward_hook(lambda *_: called.append(1))
    case.model.predict([picture()] * (USES_BEFORE + 2))
    assert len(called) == USES_BEFORE + 2
    assert case.recorded == 0


def test_run_lengths_come_with_the_rest(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = case.plain.predict(picture())
    (found,) = case.model.predict([picture()] * (USES_BEFORE + 2))[-1:]
    monkeypatch.setattr("yolact.instances.prototypes_to_rles", lambda *_: pytest.fail("assembled again"))
    middle = found.scores.median()
    chosen = found.scores > middle
    rles = [rle for rle, wanted in zip(found.rles, chosen.tolist(), strict=True) if wanted]
    assert 0 < len(rles) < len(found)
    assert found[chosen].rles == rles
    assert found[chosen].to_coco(1) == found.to_coco(1)[: len(rles)]
    assert found[-1].rles == found.rles[-1:]
    assert found[::-1][2:5].rles == found.rles[::-1][2:5]
    assert found[[]].rles == []
    assert found[np.array([3, 0])].names == [found.names[3], found.names[0]]
    monkeypatch.undo()
    assert found.rles == expected.rles


def test_run_lengths_that_overflow_are_encoded_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("yolact.ops.assemble_run_lengths"), "DEFAULT_CAPACITY", 12)
    found = case.check([picture(0, 300, 400)] * (USES_BEFORE + 2))[-1]
    lengths = [len(rle["counts"]) for rle in found.rles]
    assert min(lengths) <= 12 < max(lengths)
    assert same(found[5:], case.plain.predict(picture(0, 300, 400))[0][5:])


def test_threads_share_recordings(case: Case) -> None:
    pictures = [picture(n % 5, 20 + n % 2, 30) for n in range(24)]
    expected = case.plain.predict(pictures)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: case.model.predict(one)[0], pictures))
    for one, other in zip(found, expected, strict=True):
        assert same(one, other)
    assert case.recorded == 2


def test_an_error_leaves_the_rest_as_it_was(case: Case) -> None:
    case.check([picture()] * (USES_BEFORE + 2))
    with pytest.raises(ValueError, match="max_detections must be at least 1, got -1"):
        case.model.predict(picture(), max_detections=-1)
    case.check([picture()])


def test_replays_return_what_take_made_of_the_outputs() -> None:
    replays = Replays(Again())
    for n in range(USES_BEFORE + 3):
        given = torch.full((3,), float(n))
        assert replays.run("key", lambda x: (x * 2,), [given], lambda outputs: outputs[0].tolist()) == [2.0 * n] * 3
    assert len(replays) == 1
    replays.clear()
    assert len(replays) == 0


def test_packing_gives_every_tensor_back() -> None:
    tensors = [torch.arange(6).view(2, 3), torch.rand(2, 5, 7), torch.rand(2, 3).half(), torch.rand(2, 4, 2) > 0.5]
    tensors.append(torch.rand(2, 7, 5).transpose(1, 2))
    block, *views = pack(tensors)
    for tensor, view in zip(tensors, views, strict=True):
        assert torch.equal(tensor, view)
        assert view.storage_offset() * view.element_size() % 256 == 0
    for b in range(2):
        for tensor, found in zip(tensors, unpack(block[b].clone(), views), strict=True):
            assert torch.equal(found, tensor[b])
            assert found.is_contiguous()


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_in_flight_gives_everything_in_order(ahead: int) -> None:
    events = []

    def begin(n: int) -> Callable[[], list[int]]:
        if n == 5:
            raise OSError("the sixth")
        events.append(("begun", n))

        def finish() -> list[int]:
            events.append(("finished", n))
            return [10 * n, 10 * n + 1]

        return finish

    results = in_flight(map(begin, range(9)), ahead)
    for n in range(5):
        assert [next(results), next(results)] == [10 * n, 10 * n + 1]
        begun = sum(what == "begun" for what, _ in events)
        assert begun == min(n + ahead + 1, 5)
    with pytest.raises(OSError, match="the sixth"):
        next(results)

    events.clear()
    abandoned = in_flight(map(begin, range(4)), ahead)
    next(abandoned)
    abandoned.close()
    assert sum(what == "begun" for what, _ in events) == sum(what == "finished" for what, _ in events) == ahead + 1

    events.clear()
    stopped = in_flight(map(begin, range(4)), ahead)
    next(stopped)
    with pytest.raises(KeyError, match="the consumer's"):  # no other result first
        stopped.throw(KeyError("the consumer's"))
    assert sum(what == "finished" for what, _ in events) == ahead + 1
