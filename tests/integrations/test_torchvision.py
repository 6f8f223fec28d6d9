"""torchvision's deform_conv2d, as installed, beside ours: the same arguments, the same results and gradients."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch
from conftest import ROOT
from installed import installed

from yolact import ops

sys.path.append(str(ROOT / "tests" / "ops"))
from deform_conv2d_cases import DOUBLE, TOLERANCE, assert_close, random_case, simple_case, with_gradients

theirs = installed("torchvision.ops").deform_conv2d


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2 * TOLERANCE), (torch.float64, DOUBLE)])
def test_deform_conv2d_gives_what_torchvisions_does(dtype, tolerance):
    for seed in range(40):
        case = random_case(seed, (dtype,))
        assert_close(with_gradients(ops.deform_conv2d, case), with_gradients(theirs, case), tolerance, f"seed {seed}")


def test_deform_conv2d_gives_what_torchvisions_does_at_a_networks_size():
    case = simple_case(2, 256, 256, (35, 35))
    assert_close(with_gradients(ops.deform_conv2d, case), with_gradients(theirs, case), 2 * TOLERANCE)


def test_deform_conv2d_takes_torchvisions_arguments():
    ours = list(inspect.signature(ops.deform_conv2d).parameters)
    assert ours == [*inspect.signature(theirs).parameters, "deterministic"]


def test_deform_conv2d_is_traced_by_the_torch_of_this_environment():
    case = simple_case()
    compiled = torch.compile(ops.deform_conv2d, fullgraph=True, backend="eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(**case.arguments), ops.deform_conv2d(**case.arguments))
    assert torch.equal(compiled(**case.arguments), ops.deform_conv2d(**case.arguments))
