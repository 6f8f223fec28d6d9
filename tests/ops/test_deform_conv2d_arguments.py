"""What `deform_conv2d` takes and refuses, and how it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deform_conv2d_cases import TENSORS, assert_equal, simple_case, with_gradients
from torch import Tensor, nn
from torch.autograd import forward_ad

from benchmarks.scale import peak
from yolact import ops


def test_deform_conv2d_of_any_strides_is_the_same():
    case = simple_case()
    expected = with_gradients(ops.deform_conv2d, case)
    tensors = {name: getattr(case, name) for name in ("input", "offset", "weight", "mask")}
    for view in (
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.repeat_interleave(2, 3)[..., ::2],
        lambda t: t.mT.contiguous().mT,
    ):
        assert_equal(
            with_gradients(ops.deform_conv2d, replace(case, **{n: view(t) for n, t in tensors.items()})), expected
        )


def test_deform_conv2d_takes_a_number_for_a_pair():
    case = simple_case()
    expected = ops.deform_conv2d(case.input, case.offset, case.weight, case.bias, [1, 1], (1, 1), (1, 1), case.mask)
    assert torch.equal(ops.deform_conv2d(case.input, case.offset, case.weight, case.bias, 1, 1, 1, case.mask), expected)


def test_deform_conv2d_on_empty():
    case = simple_case(batch=0)
    found = with_gradients(ops.deform_conv2d, case)
    assert {name: tuple(each.shape) for name, each in found.items()} == {
        "result": (0, 6, 7, 9),
        "input": (0, 8, 7, 9),
        "offset": (0, 18, 7, 9),
        "weight": (6, 8, 3, 3),
        "bias": (6,),
        "mask": (0, 9, 7, 9),
    }
    assert not found["weight"].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": torch.zeros(8, 7, 9)}, ValueError, r"input must be of shape .* got \[8, 7, 9\]"),
        ({"input": torch.zeros(2, 8, 7, 9).long()}, TypeError, "input must be of dtype .* got int64"),
        ({"input": torch.zeros(2, 8, 0, 9)}, ValueError, "the height of input must be at least 1, got 0"),
        ({"input": torch.zeros(2, 0, 7, 9)}, ValueError, "the channels of input must be at least 1, got 0"),
        ({"input": torch.zeros(2, 9, 7, 9)}, ValueError, "a multiple of those of weight, got 9 and 8"),
        ({"input": torch.zeros(3, 8, 7, 9)}, ValueError, r"offset must be of shape \[3, \*, 7, 9\], got \[2, 18"),
        ({"input": torch.zeros(2, 8, 7, 9).half()}, TypeError, "weight must be of the dtype of input, .*float16, got"),
        ({"input": torch.zeros(2, 8, 7, 9, device="meta")}, ValueError, "weight must be on meta, got cpu"),
        ({"offset": torch.zeros(2, 18, 7, 8)}, ValueError, r"offset must be of shape \[2, \*, 7, 9\]"),
        ({"offset": torch.zeros(2, 17, 7, 9)}, ValueError, "offset must have 18 channels for each .* got 17"),
        ({"offset": torch.zeros(2, 54, 7, 9)}, ValueError, "offset must have 18 channels for each .* got 54"),
        ({"offset": torch.zeros(2, 0, 7, 9)}, ValueError, "offset must have 18 channels for each .* got 0"),
        ({"offset": torch.zeros(2, 18, 7, 9).double()}, TypeError, "offset must be of dtype .*, got float64"),
        ({"offset": None}, TypeError, "offset must be a tensor, got NoneType"),
        ({"weight": torch.zeros(6, 8, 3)}, ValueError, r"weight must be of shape .* got \[6, 8, 3\]"),
        ({"weight": torch.zeros(6, 0, 3, 3)}, ValueError, "a multiple of those of weight, got 8 and 0"),
        ({"weight": torch.zeros(6, 2, 3, 3)}, ValueError, "outputs of weight must be a multiple of 4 groups, got 6"),
        ({"weight": torch.zeros(6, 8, 3, 0)}, ValueError, "the width of weight must be at least 1, got 0"),
        ({"weight": torch.zeros(6, 8, 11, 3)}, ValueError, r"a kernel of \[11, 3\] with dilation \[1, 1\] must fit"),
        ({"dilation": (1, 6)}, ValueError, r"must fit the input of \[7, 9\] with padding \[1, 1\]"),
        ({"bias": torch.zeros(5)}, ValueError, r"bias must be of shape \[6\], got \[5\]"),
        ({"bias": torch.zeros(6).half()}, TypeError, "bias must be of the dtype of input, .*float32, got .*float16"),
        ({"mask": torch.zeros(2, 18, 7, 9)}, ValueError, r"mask must be of shape \[2, 9, 7, 9\], got \[2, 18"),
        ({"mask": torch.zeros(2, 9, 7, 9).bool()}, TypeError, "mask must be of dtype .* got bool"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": (1, 2, 3)}, ValueError, r"stride must be a number or \(y, x\), got \[1, 2, 3\]"),
        ({"stride": 1.5}, TypeError, "stride must be a whole number, got 1.5"),
        ({"padding": (1, 2**62)}, ValueError, r"padding must be below 2\*\*30, got 4611686018427387904"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"padding": "same"}, ValueError, "padding must be a number or"),
        ({"dilation": (1, 0)}, ValueError, "dilation must be at least 1, got 0"),
        ({"dilation": True}, TypeError, "dilation must be a whole number, got True"),
        ({"deterministic": 1}, TypeError, "deterministic must be a bool or None, got 1"),
    ],
)
def test_deform_conv2d_rejects(change, error, message):
    with pytest.raises(error, match=message):
        ops.deform_conv2d(**(simple_case().arguments | change))


def test_deform_conv2d_itself_rejects_what_would_be_read_wrongly():
    case, none = simple_case(), {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "deterministic": False}
    last = {"memory_format": torch.channels_last}
    tensors = {"input": case.input.contiguous(**last), "offset": case.offset, "weight": case.weight.contiguous(**last)}
    for change, message in [
        ({"input": case.input}, "input must be channels last"),
        ({"weight": case.weight}, "weight must be channels last"),
        ({"offset": case.offset[:, :17]}, "offset must have 18 channels"),
        ({"padding": [0, 1]}, r"offset must be of shape \[2, \*, 5, 9\]"),
        ({"padding": [2**62, 1]}, r"padding must be within \[0, 2\*\*30\), got 4611686018427387904"),
        ({"stride": [1]}, "stride must be two numbers, got 1"),
        ({"dilation": [5, 1]}, "weight reaches over 11 pixels of 9"),
        ({"mask": case.mask[..., 1:]}, "mask must be of shape"),
        ({"bias": case.bias[1:]}, r"bias must be of shape \[6\]"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            torch.ops.yolact.deform_conv2d(**({"bias": None, "mask": None} | tensors | none | change))


def test_deform_conv2d_is_differentiated_once():
    case = simple_case()
    case.input.requires_grad_()
    (gradient,) = torch.autograd.grad(ops.deform_conv2d(**case.arguments).sum(), case.input, create_graph=True)
    with pytest.raises(RuntimeError, match="deform_conv2d can be differentiated once"):
        gradient.sum().backward()


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", TENSORS)
def test_deform_conv2d_is_not_differentiated_forwards(name):
    case = simple_case()
    value = getattr(case, name)

    def run(tensor):
        return ops.deform_conv2d(**replace(case, **{name: tensor}).arguments)

    with pytest.raises(NotImplementedError, match="deform_conv2d has no forward-mode derivative"):
        torch.func.jvp(run, (value,), (value,))
    with forward_ad.dual_level():
        run(value)  # without a tangent
        with pytest.raises(NotImplementedError, match="deform_conv2d has no forward-mode derivative"):
            run(forward_ad.make_dual(value, value))
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda tensor: run(tensor).sum())(value)


def test_deform_conv2d_under_autocast():
    case = simple_case()
    narrow = replace(case, **{name: getattr(case, name).bfloat16() for name in ("input", "weight", "bias")})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(ops.deform_conv2d, case)
    expected = with_gradients(ops.deform_conv2d, narrow)
    assert found["result"].dtype == torch.bfloat16
    assert_equal(found, {name: each.to(found[name].dtype) for name, each in expected.items()})
    moved = replace(narrow, offset=case.offset.bfloat16())  # where autocast would have moved them
    assert not torch.equal(ops.deform_conv2d(**moved.arguments), found["result"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        double = replace(case, **{name: getattr(case, name).double() for name in TENSORS})
        assert ops.deform_conv2d(**double.arguments).dtype == torch.float64
        with pytest.raises(TypeError, match=r"weight must be of the dtype of input, .*got torch.float64"):
            ops.deform_conv2d(**replace(case, weight=double.weight).arguments)


def test_deform_conv2d_opcheck():
    options = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "deterministic": True}
    for dtype, absent in ((torch.float32, {}), (torch.bfloat16, {"mask": None, "bias": None})):
        case = simple_case(dtype=dtype)
        tensors = {name: getattr(case, name).requires_grad_() for name in TENSORS} | absent
        for name in ("input", "weight"):
            tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last).detach().requires_grad_()
        torch.library.opcheck(torch.ops.yolact.deform_conv2d, tuple(tensors.values()), options)
        plain = [
            tensors[name] if tensors[name] is None else tensors[name].detach() for name in TENSORS if name != "bias"
        ]
        gradient = torch.ones(2, 6, 7, 9, dtype=dtype).contiguous(memory_format=torch.channels_last)
        wanted = [True, not absent, True, not absent]
        torch.library.opcheck(
            torch.ops.yolact.deform_conv2d_backward, (gradient, *plain), {**options, "wanted": wanted}
        )


@pytest.mark.cpu_only
def test_deform_conv2d_compiles_with_dynamic_sizes():
    compiled = torch.compile(ops.deform_conv2d, fullgraph=True, dynamic=True, backend="aot_eager")
    for case in (simple_case(), simple_case(3, 5, 4, (12, 11))):
        assert_equal(with_gradients(compiled, case), with_gradients(ops.deform_conv2d, case))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(with_gradients(compiled, case), with_gradients(ops.deform_conv2d, case))


class Block(nn.Module):
    """A deformable convolution whose offsets and mask are its own, as networks have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.offsets, self.convolution = nn.Conv2d(4, 27, 3, 2, 1), nn.Conv2d(4, 6, 3)

    def forward(self, input: Tensor) -> Tensor:
        offset, mask = self.offsets(input).split([18, 9], 1)
        weight, bias = self.convolution.weight, self.convolution.bias
        return ops.deform_conv2d(input, offset, weight, bias, stride=2, padding=1, mask=mask.sigmoid())


@pytest.mark.cpu_only
def test_deform_conv2d_exports_with_dynamic_sizes():
    block = Block()
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(block, (torch.randn(2, 4, 20, 24),), dynamic_shapes=(sizes,))
    for shape in ((2, 4, 20, 24), (3, 4, 31, 17)):
        images = torch.randn(shape)
        torch.testing.assert_close(program.module()(images), block(images), rtol=0, atol=0)


@pytest.mark.cpu_only
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is told by Linux")
def test_deform_conv2d_needs_a_tile_of_columns():
    case = simple_case(8, 64, 16, (70, 70))  # whose columns are 90 MB
    last = {"memory_format": torch.channels_last}
    case = replace(case, input=case.input.contiguous(**last), weight=case.weight.contiguous(**last))

    def forward() -> None:
        ops.deform_conv2d(**case.arguments)

    def both() -> None:
        with_gradients(ops.deform_conv2d, case)

    forward(), both()
    tile = 8 * 2**20
    result, inputs = (4 * 8 * channels * 70 * 70 for channels in (16, 64 + 18 + 9))
    assert peak(forward) < result + 1.5 * tile
    # Beside the inputs' gradients: the result, its gradient and a copy of that in channels last.
    assert peak(both) < 3 * result + inputs + 3 * tile  # one, and what the C library keeps of others
