"""Nothing waits for the device, and everything goes to the current stream of the tensors' device."""

from __future__ import annotations

import pytest
import torch
from calls import CALLS, results_of

pytestmark = pytest.mark.usefixtures("gpu")
LONG = 200_000_000  # cycles: a tenth of a second


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_not_wait(name, gpu):
    call = CALLS[name]
    tensors = call.on(gpu)
    expected = results_of(call.run(**tensors))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # what torch itself would wait in
    try:
        torch.cuda._sleep(LONG)
        found = results_of(call.run(**tensors))
        done = torch.cuda.Event()
        done.record()
        assert not done.query(), "the call returned only after the work before it was done"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for here, there in zip(found, expected, strict=True):
        assert torch.equal(here, there)


def test_sizes_on_the_host_do_not_wait(gpu):
    call = CALLS["assemble_run_lengths"]
    for sizes in (call.tensors["sizes"], call.tensors["sizes"].tolist()):
        tensors = call.on(gpu) | {"sizes": sizes}
        call.run(**tensors)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            torch.cuda._sleep(LONG)
            call.run(**tensors)
            done = torch.cuda.Event()
            done.record()
            assert not done.query()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_follows_the_current_stream(name, gpu):
    """Behind a long kernel its inputs change: on any other stream it would see what was there before."""
    call = CALLS[name]
    tensors = call.on(gpu)
    expected = results_of(call.run(**tensors))
    before = {key: torch.zeros_like(tensor) for key, tensor in tensors.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(LONG)
        for key, tensor in before.items():
            tensor.copy_(tensors[key], non_blocking=True)
        found = results_of(call.run(**before))
    side.synchronize()
    for here, there in zip(found, expected, strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_runs_on_the_device_of_its_tensors(name, gpu):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU is here: that a call goes to the second of two was reviewed, not run")
    call = CALLS[name]
    expected = results_of(call.run(**call.on("cuda:0")))
    with torch.cuda.device(0):
        found = results_of(call.run(**call.on("cuda:1")))
        assert torch.cuda.current_device() == 0
    for here, there in zip(found, expected, strict=True):
        assert here.device.index == 1
        assert torch.equal(here.cpu(), there.cpu())


def test_memory_comes_from_torchs_allocator_alone(gpu):
    given = [(call.run, call.on(gpu)) for call in CALLS.values()]

    def run_all() -> None:
        for run, tensors in given:
            run(**tensors)

    for _ in range(3):
        run_all()
    torch.cuda.synchronize()
    free, reserved = torch.cuda.mem_get_info()[0], torch.cuda.memory_reserved()
    for _ in range(50):
        run_all()
    torch.cuda.synchronize()
    assert torch.cuda.memory_reserved() == reserved
    assert torch.cuda.mem_get_info()[0] >= free
