"""What is timed of the deformable convolution computes the same, and is told."""

from __future__ import annotations

import pytest

from benchmarks import deform_conv2d, readme


def test_the_deformable_convolutions_that_are_timed_agree(monkeypatch):
    shape = deform_conv2d.Shape(channels=8, size=9, stride=2)
    deform_conv2d.check(shape, 2)
    monkeypatch.setattr(deform_conv2d, "plain_torch", lambda *arguments: 1.01 * deform_conv2d.ours(*arguments))
    with pytest.raises(AssertionError):
        deform_conv2d.check(shape, 2)


def test_deformable_convolutions_are_told():
    shape = {"scene": "stage 3", "channels": 256, "size": 35, "stride": 1, "batch": 1, "way": "forward"}
    rows = [
        shape | {"threads": threads, "contender": name, "milliseconds": {"median": median / threads}}
        for threads in (1, 2)
        for name, median in (("yolact", 20.0), ("torchvision", 100.0 * threads))
    ]
    table = readme.deform_conv2d_table({"machine": readme.newest("kernels")["machine"], "rows": rows})
    assert "| deformable convolution, CPU | ms | torchvision |" in table
    assert table.endswith("| stage 3: 256 × 35 × 35, stride 1, batch 1, forward | 20 / 10 | 5.0× / 10× |")
