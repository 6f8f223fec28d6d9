"""Files of weights that are refused, each in one line that names it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import SMALL, small_model, small_state, write

from yolact.errors import UserError
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint, save_checkpoint
from yolact.models.yolact import Yolact


@pytest.fixture
def model() -> Yolact:
    return small_model()


def refusal(path: Path, name: str | None = None) -> str:
    """What loading the file says, in one line that names it."""

    def load() -> None:
        checkpoint = read_checkpoint(path)
        with torch.device("meta"):
            model = Yolact(choose_config(checkpoint, name))
        load_into(model, checkpoint)

    with pytest.raises(UserError) as error:
        load()
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_unexpected_and_misshapen_are_listed(tmp_path: Path) -> None:
    state = small_state()
    for index in (0, 2, 4, 8):
        del state[f"proto_net.{index}.weight"]
    state["extra.weight"] = torch.zeros(2, 3)
    state["fpn.lat_layers.0.bias"] = torch.zeros(255)
    assert refusal(write(tmp_path / "w.pth", state)) == (
        f"{tmp_path / 'w.pth'}: does not fit yolact_resnet50: missing 4 (proto_net.0.weight [256, 256, 3, 3], "
        "proto_net.2.weight [256, 256, 3, 3], proto_net.4.weight [256, 256, 3, 3], ...); "
        "unexpected 1 (extra.weight [2, 3]); of another shape 1 (fpn.lat_layers.0.bias [255] for [256])"
    )


def test_weights_that_are_not_finite_are_refused(model: Yolact, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["prediction_layers.0.conf_layer.bias"][0] = torch.nan
    checkpoint = read_checkpoint(write(tmp_path / "w.pth", state))
    with pytest.raises(UserError, match=r"NaN or infinite values in 1 \(prediction_layers\.0\.conf_layer\.bias\)"):
        load_into(Yolact(SMALL), checkpoint)


def test_weights_of_another_backbone_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", small_state("yolact_resnet50"))
    assert "does not fit yolact_base: missing" in refusal(path, "yolact_base")
    assert "does not fit yolact_darknet53: missing" in refusal(path, "yolact_darknet53")


def test_the_two_topologies_are_not_interchangeable(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", small_state("yolact_resnet50"))
    assert "fpn.downsample_layers.0.weight [256, 256, 3, 3] for [256, 2048, 3, 3]" in refusal(
        path, "mmdet_yolact_r50_1xb8"
    )


def test_half_of_yolact_plus_is_no_configuration(tmp_path: Path) -> None:
    plus = small_state("yolact_plus_resnet50")
    for left, kept in (("conv_offset_mask", "mask re-scoring"), ("maskiou_net", "deformable convolutions")):
        path = write(tmp_path / "w.pth", {name: tensor for name, tensor in plus.items() if left not in name})
        assert f"no configuration has resnet50 with {kept} in yolact's topology" in refusal(path)


def test_yolact_plus_and_plain_weights_are_not_interchangeable(tmp_path: Path) -> None:
    plus = write(tmp_path / "plus.pth", small_state("yolact_plus_resnet50"))
    plain = write(tmp_path / "plain.pth", small_state("yolact_resnet50"))
    assert "unexpected 51 (backbone.layers.1.0.conv2.bias [128], " in refusal(plus, "yolact_resnet50")
    assert "missing 51 (backbone.layers.1.0.conv2.bias [128], " in refusal(plain, "yolact_plus_resnet50")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no tensors"),
        ([torch.zeros(3)], "holds an object of type list, not a dict of tensors"),
        ({"state_dict": 3}, "its state_dict is of type int, not a dict of tensors"),
        ({"epoch": 3, "rate": 0.1}, "holds no tensors"),
        ({"a": torch.zeros(2), "b": torch.zeros(2)}, "holds no YOLACT model; its tensors are 2 (a, b)"),
        ({"bbox_head.conv_cls.weight": torch.zeros(3)}, "holds no YOLACT model"),
        ({"format": "yolact checkpoint 1", "state_dict": {"a": torch.zeros(2)}}, "holds no YOLACT model"),
        ({"a": torch.zeros(2, device="meta")}, "holds sparse tensors, or such without values: 1 (a)"),
        ({"a": torch.zeros(2).to_sparse()}, "holds sparse tensors, or such without values: 1 (a)"),
        ({"format": "yolact checkpoint 2", "state_dict": {"a": torch.zeros(2)}}, "of format 'yolact checkpoint 2'"),
    ],
)
def test_other_contents_are_refused(content: Any, said: str, tmp_path: Path) -> None:
    assert said in refusal(write(tmp_path / "w.pth", content))


def test_a_backbone_that_is_not_known_is_refused(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in small_state().items() if not name.startswith("backbone.")}
    assert "its backbone is none of those known here" in refusal(write(tmp_path / "w.pth", state))


def test_our_file_with_an_unreadable_configuration_is_refused(model: Yolact, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "w.pth", model)
    content = torch.load(tmp_path / "w.pth", weights_only=True)
    content["config"]["colour"] = "red"
    assert "its configuration does not read" in refusal(write(tmp_path / "w.pth", content))
    del content["config"]["colour"]
    content["config"]["backbone"] = "foo"
    assert refusal(write(tmp_path / "w.pth", content)).endswith("mobilenet_v2 or timm/NAME, got 'foo')")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pth").endswith("no such file")
    assert refusal(tmp_path).endswith("not a file")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(zipped: bool, kept: float, model: Yolact, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(path).endswith("not a checkpoint, or a truncated one")


@pytest.mark.parametrize("content", [b"hello world\n", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" + bytes(99)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert refusal(path).endswith("not a checkpoint, or a truncated one")


class Malice:
    """What a pickle could do to whoever loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "it_ran"
    torch.save({**small_state(), "extra": Malice(mark)}, path, _use_new_zipfile_serialization=zipped)
    assert "refused, for it is a pickle that calls for posix.system" in refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lies_beside_weights_does_not_run_either(zipped: bool, tmp_path: Path) -> None:
    """A name under which an object is left out does not let others through."""
    path, mark = tmp_path / "w.pth", tmp_path / "it_ran"
    beside = {"accuracy": np.float64(0.5), "extra": Malice(mark)}
    torch.save({**small_state(), **beside}, path, _use_new_zipfile_serialization=zipped)
    assert "refused, for it is a pickle that calls for " in refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_does_not_run_either(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(Malice(mark), protocol))
    refusal(path)
    assert not mark.exists()
