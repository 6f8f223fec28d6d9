"""The net of YOLACT++ that predicts how good masks are: its keys, its shapes and its arithmetic."""

from __future__ import annotations

import pytest
import stand_ins
import torch
from torch import Tensor

from yolact.models.mask_iou import MaskIoUNet


@pytest.fixture(scope="module")
def net() -> MaskIoUNet:
    torch.manual_seed(0)
    return MaskIoUNet(7).eval()


def masks(count: int, side: int = 63) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_keys_and_shapes_are_the_originals() -> None:
    keys, prefix = stand_ins.outputs("yolact_plus_resnet50")["keys"], "maskiou_net."  # its name in the whole model
    wanted = {name.removeprefix(prefix): shape for name, shape in keys.items() if name.startswith(prefix)}
    assert {name: list(tensor.shape) for name, tensor in MaskIoUNet(80).state_dict().items()} == wanted


@pytest.mark.parametrize("side", [63, 64, 100, 138, 176])
def test_matches_convolutions_written_out(net: MaskIoUNet, side: int) -> None:
    """No padding, so that the plane shrinks to floor((side - 3) / 2) + 1; a ReLU after the last one, too."""
    weights = list(net.state_dict().values())
    x = given = masks(2, side)
    for weight, bias in zip(weights[:10:2], weights[1:10:2], strict=True):
        patches = x.unfold(2, 3, 2).unfold(3, 3, 2)  # [N, C, h', w', 3, 3]
        x = (torch.einsum("nchwij,dcij->ndhw", patches, weight) + bias[:, None, None]).relu()
    x = (torch.einsum("nchw,dc->ndhw", x, weights[10][:, :, 0, 0]) + weights[11][:, None, None]).relu()
    with torch.no_grad():
        torch.testing.assert_close(net(given), x.amax((2, 3)), rtol=1e-4, atol=1e-6)  # sums in another order


def test_predicts_nothing_negative(net: MaskIoUNet) -> None:
    with torch.no_grad():
        predicted = net(masks(3))
    assert predicted.shape == (3, 7)
    assert (predicted >= 0).all()
    assert (predicted == 0).any()
    assert (predicted > 0).any()


def test_of_no_masks(net: MaskIoUNet) -> None:
    assert net(masks(0)).shape == (0, 7)


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    """As max pooling has it, where a maximum over dimensions would share it out: the original was trained so."""
    net = MaskIoUNet(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
    given = torch.ones(1, 1, 127, 127, requires_grad=True)  # nine equal values are left in the end
    net(given).sum().backward()
    assert given.grad is not None
    assert given.grad[0, 0, :63, :63].count_nonzero() == given.grad.count_nonzero() == 63 * 63


@pytest.mark.parametrize("shape", [(2, 1, 62, 63), (2, 1, 63, 62), (2, 3, 63, 63), (2, 63, 63)])
def test_rejects_other_masks(net: MaskIoUNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"masks must be \[N, 1, h, w\] of at least 63 a side, got \[") as error:
        net(torch.zeros(shape))
    assert str(list(shape)) in str(error.value)


def test_compiles_and_exports(net: MaskIoUNet) -> None:
    batch = torch.export.Dim("batch", min=2, max=1000)
    program = torch.export.export(net, (masks(3),), dynamic_shapes={"masks": {0: batch}})
    with torch.no_grad():
        torch.testing.assert_close(program.module()(masks(5)), net(masks(5)))
