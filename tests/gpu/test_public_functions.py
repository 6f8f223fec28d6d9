"""The public functions on tensors of a GPU: where results lie, what is refused, what ends on the host."""

from __future__ import annotations

import warnings

import pytest
import torch
from calls import CALLS, results_of
from conftest import ROOT, skip_or_fail

from benchmarks import inputs
from yolact import ops

pytestmark = pytest.mark.usefixtures("gpu")


@pytest.mark.parametrize("name", CALLS)
def test_results_lie_on_the_gpu_and_are_those_of_the_cpu(name, gpu):
    call = CALLS[name]
    found, expected = results_of(call.run(**call.on(gpu))), results_of(call.run(**call.tensors))
    for here, there in zip(found, expected, strict=True):
        assert here.device.type == "cuda"
        # An exponential's last bit, in scores and box sizes; nothing else may differ.
        torch.testing.assert_close(here.cpu(), there, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if len(call.tensors) > 1])
def test_tensors_of_two_devices_are_refused(name, gpu):
    call = CALLS[name]
    for left_behind in call.tensors.keys() - {"sizes"}:  # sizes may lie on either
        mixed = call.on(gpu) | {left_behind: call.tensors[left_behind]}
        with pytest.raises(ValueError, match=r"must be on (cuda:0|cpu), got (cuda:0|cpu)"):
            call.run(**mixed)


def test_sizes_may_lie_on_either_device(gpu):
    call = CALLS["assemble_run_lengths"]
    tensors = call.on(gpu)
    expected = call.run(**tensors)
    for sizes in (call.tensors["sizes"], call.tensors["sizes"].tolist()):
        found = call.run(**(tensors | {"sizes": sizes}))
        for here, there in zip(results_of(found), results_of(expected), strict=True):
            assert torch.equal(here, there)


def test_dictionaries_are_those_of_the_cpu_overflow_or_not(gpu):
    masks = torch.cat([inputs.ellipses(20, 90, 110), inputs.noise(3, 90, 110), torch.ones(1, 90, 110).bool()])
    assert ops.masks_to_rles(masks.to(gpu)) == ops.masks_to_rles(masks)
    assert ops.RunLengths.from_coco(ops.masks_to_rles(masks), device=gpu).decode().cpu().equal(masks)
    given = inputs.smooth_masks(2, 9, 20, 8, coverage=0.3)
    tensors = (given.prototypes, given.coefficients, given.boxes, [(60, 70), (80, 50)])
    count = torch.tensor([9, 5])
    expected = ops.prototypes_to_rles(*tensors, count=count, capacity=8)  # most rows overflow
    on_gpu = (*(tensor.to(gpu) for tensor in tensors[:3]), tensors[3])
    for capacity in (8, None):
        assert ops.prototypes_to_rles(*on_gpu, count=count.to(gpu), capacity=capacity) == expected


def test_an_overflow_and_a_broken_string_are_told(gpu):
    encoded = ops.encode_run_lengths(inputs.noise(2, 50, 60).to(gpu), capacity=16)
    with pytest.raises(ValueError, match="row 0 overflowed"):
        encoded.to_coco()
    broken = ops.RunLengths.from_coco([{"size": [4, 5], "counts": "d0"}, {"size": [4, 5], "counts": "c"}], device=gpu)
    with pytest.raises(ValueError, match="row 1 of run_lengths"):
        broken.decode()


def test_to_coco_waits_once(gpu):
    encoded = ops.encode_run_lengths(inputs.ellipses(5, 60, 70).to(gpu))
    expected = encoded.to_coco()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert encoded.to_coco() == expected
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in caught if "synchroniz" in str(warning.message)]) <= 1


def test_postprocess_is_that_of_the_cpu(gpu):
    head = inputs.clustered_detections(2)
    prototypes = inputs.smooth_masks(2, 1).prototypes
    coefficients = torch.randn(2, len(head.priors), 32, generator=torch.Generator().manual_seed(0)).tanh()
    tensors = (head.box_deltas, head.class_logits, coefficients, head.priors, prototypes)
    sizes = [(480, 640), (300, 200)]
    found = ops.postprocess(*(tensor.to(gpu) for tensor in tensors), sizes)
    for here, there in zip(found, ops.postprocess(*tensors, sizes), strict=True):
        assert here.boxes.device.type == "cuda"
        torch.testing.assert_close(here.boxes.cpu(), there.boxes, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(here.scores.cpu(), there.scores, rtol=1e-6, atol=0)
        assert torch.equal(here.labels.cpu(), there.labels)
        # A pixel whose value is a half but for rounding changes a string.
        same = sum(a == b for a, b in zip(here.rles, there.rles, strict=True))
        assert same >= 0.95 * len(there.rles)


def test_predict_runs_on_the_gpu(gpu):
    import yolact

    weights = ROOT / "yolact/weights/yolact_lite0_dogcat.pth"
    if not weights.exists():
        skip_or_fail("weights", "the bundled model is not here")
    found, expected = (
        yolact.load(weights, device=device).predict(ROOT / "docs/demo.jpg", score_threshold=0.5, precision="fp32")[0]
        for device in (gpu, "cpu")
    )
    assert len(expected) > 0
    assert found.names == expected.names
    torch.testing.assert_close(found.boxes.cpu(), expected.boxes, rtol=0, atol=1.0)  # each a whole pixel, by rounding
    both = (found.masks.cpu() & expected.masks).sum() / (found.masks.cpu() | expected.masks).sum()
    assert both > 0.95


@pytest.mark.parametrize("name", ["detect", "assemble_masks", "assemble_run_lengths", "encode_run_lengths"])
def test_results_are_the_same_every_time(name, gpu):
    given = inputs.smooth_masks(2, coverage=0.3)
    assembly = [tensor.to(gpu) for tensor in (given.prototypes, given.coefficients, given.boxes)]
    if name == "detect":
        head = inputs.clustered_detections(4)
        tensors = [tensor.to(gpu) for tensor in (head.box_deltas, head.class_logits, head.priors)]
    elif name == "encode_run_lengths":
        tensors = [ops.assemble_masks(*assembly, (480, 640)).flatten(0, 1)]
    else:
        tensors = [*assembly, (480, 640) if name == "assemble_masks" else torch.tensor([[480, 640], [90, 800]]).to(gpu)]
    first = results_of(getattr(ops, name)(*tensors))
    for _ in range(30):
        again = results_of(getattr(ops, name)(*tensors))
        assert all(torch.equal(here, there) for here, there in zip(again, first, strict=True))
