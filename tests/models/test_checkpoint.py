"""Files of weights: told apart, loaded whole, refused in one line, written whole."""

from __future__ import annotations

import os
import pickle
import resource
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from yolact.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from yolact.config import CONFIGS, get_config
from yolact.errors import UserError
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint, save_checkpoint
from yolact.models.yolact import Yolact

SMALL = replace(get_config("yolact_lite0"), size=64).with_classes(("date", "fig"), (3, 5))
CLASS_TENSORS = [
    "prediction_layers.0.conf_layer.weight", "prediction_layers.0.conf_layer.bias",
    "semantic_seg_conv.weight", "semantic_seg_conv.bias",
]  # fmt: skip


def small_state(name: str = "yolact_resnet50", num_classes: int | None = None) -> dict[str, Tensor]:
    """A state dict of the right names and shapes that takes no memory: every tensor repeats one number."""
    with torch.device("meta"):
        state = Yolact(get_config(name).with_num_classes(num_classes)).state_dict()
    return OrderedDict((name, torch.zeros(()).expand(tensor.shape)) for name, tensor in state.items())


def to_mmdetection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names to mmdetection's, written out one rule a line; the class permutation is left to its own test."""
    renamed = {}
    for name, tensor in state.items():
        head, _, rest = name.partition(".")
        if name.startswith("backbone.layers."):
            stage, rest = name.removeprefix("backbone.layers.").split(".", 1)
            name = f"backbone.layer{int(stage) + 1}.{rest}"
        elif head == "fpn":
            kind, index, end = rest.split(".")
            name = {
                "lat_layers": f"neck.lateral_convs.{2 - int(index)}.conv.{end}",
                "pred_layers": f"neck.fpn_convs.{2 - int(index)}.conv.{end}",
                "downsample_layers": f"neck.fpn_convs.{3 + int(index)}.conv.{end}",
            }[kind]
        elif head == "proto_net":
            name = f"mask_head.protonet.{rest}"
        elif head == "semantic_seg_conv":
            name = f"mask_head.segm_branch.segm_conv.{rest}"
        elif head == "prediction_layers":
            for ours, theirs in (
                ("upfeature.0", "head_convs.0.conv"),
                ("bbox_layer", "conv_reg"),
                ("conf_layer", "conv_cls"),
                ("mask_layer", "conv_coeff"),
            ):
                rest = rest.replace(ours, theirs)
            name = f"bbox_head.{rest.removeprefix('0.')}"
        renamed[name] = tensor
    return renamed


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def model() -> Yolact:
    torch.manual_seed(0)
    return Yolact(SMALL).eval()


# -- told apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("mmdet")])
def test_original_is_told_by_its_keys(name: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "weights.pth", small_state(name)))
    assert checkpoint.family == "yolact"
    shared = {"yolact_im400": "yolact_base", "yolact_im700": "yolact_base"}  # the keys cannot tell these
    assert choose_config(checkpoint) is get_config(shared.get(name, name))
    assert choose_config(checkpoint, name) is get_config(name)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("mmdet")])
def test_mmdetection_is_told_by_its_keys(name: str, tmp_path: Path) -> None:
    state = to_mmdetection(small_state(name))
    checkpoint = read_checkpoint(write(tmp_path / "weights.pth", {"state_dict": state, "meta": {"epoch": 55}}))
    assert checkpoint.family == "mmdet"
    assert set(checkpoint.state) == set(small_state(name))
    shared = {"mmdet_yolact_r50_8xb8": "mmdet_yolact_r50_1xb8"}
    assert choose_config(checkpoint) is get_config(shared.get(name, name))


def test_file_name_tells_what_keys_cannot(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "yolact_im700_54_800000.pth", small_state("yolact_im700")))
    assert choose_config(checkpoint).name == "yolact_im700"
    assert choose_config(checkpoint, "yolact_im400").name == "yolact_im400"


def test_old_files_spare_tensors_are_dropped(tmp_path: Path) -> None:
    state = small_state()
    wanted = set(state)
    state["backbone.layer1.0.conv1.weight"] = state["backbone.layers.0.0.conv1.weight"]
    state["fpn.downsample_layers.2.weight"] = state["fpn.downsample_layers.1.weight"]
    assert set(read_checkpoint(write(tmp_path / "old.pth", state)).state) == wanted


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_dropped(prefix: str, tmp_path: Path) -> None:
    state = small_state()
    path = write(tmp_path / "wrapped.pth", {f"{prefix}{name}": tensor for name, tensor in state.items()})
    assert set(read_checkpoint(path).state) == set(state)


def test_background_moves_to_the_front_within_each_anchor(tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8", num_classes=2))
    # Anchor a, class c of mmdetection holds 10 a + c; its class 2 is the background.
    state["bbox_head.conv_cls.bias"] = torch.tensor([0.0, 1, 2, 10, 11, 12, 20, 21, 22])
    checkpoint = read_checkpoint(write(tmp_path / "weights.pth", {"state_dict": state}))
    bias = checkpoint.state["prediction_layers.0.conf_layer.bias"]
    assert bias.tolist() == [2, 0, 1, 12, 10, 11, 22, 20, 21]


@pytest.mark.parametrize("meta", [{"CLASSES": ("fig", "date")}, {"dataset_meta": {"classes": ["fig", "date"]}}])
def test_mmdetections_class_names(meta: dict, tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8", num_classes=2))
    config = choose_config(read_checkpoint(write(tmp_path / "w.pth", {"state_dict": state, "meta": meta})))
    assert (config.class_names, config.category_ids) == (("fig", "date"), (1, 2))


def test_mmdetections_coco_names_bring_cocos_ids(tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8"))
    path = write(tmp_path / "w.pth", {"state_dict": state, "meta": {"CLASSES": COCO_CLASSES}})
    assert choose_config(read_checkpoint(path)).category_ids == COCO_CATEGORY_IDS


# -- another number of classes ------------------------------------------------------------------------------------


def test_another_number_of_classes_transfers_everything_else(model: Yolact, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "two.pth", model)
    checkpoint = read_checkpoint(tmp_path / "two.pth")
    config = choose_config(checkpoint, num_classes=7)
    assert config.num_classes == 7
    other = Yolact(config)
    untouched = other.state_dict()["semantic_seg_conv.weight"].clone()
    assert sorted(load_into(other, checkpoint)) == sorted(CLASS_TENSORS)
    for name, tensor in other.state_dict().items():
        if name not in CLASS_TENSORS:
            torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=0)
    torch.testing.assert_close(other.state_dict()["semantic_seg_conv.weight"], untouched, rtol=0, atol=0)


def test_a_file_of_unknown_classes_gets_as_many(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "custom.pth", small_state(num_classes=5)))
    config = choose_config(checkpoint)
    assert (config.name, config.num_classes) == ("yolact_resnet50", 5)


def test_a_configuration_of_other_classes_must_be_meant(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "coco.pth", small_state()))
    with pytest.raises(UserError, match=r"coco.pth: holds 80 classes, but configuration yolact_resnet50_pascal has 20"):
        choose_config(checkpoint, "yolact_resnet50_pascal")
    assert choose_config(checkpoint, "yolact_resnet50_pascal", num_classes=20).name == "yolact_resnet50_pascal"


# -- what does not fit --------------------------------------------------------------------------------------------


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


def test_yolact_plus_is_named(tmp_path: Path) -> None:
    state = {**small_state(), "maskiou_net.maskiou_net.0.weight": torch.zeros(8, 1, 3, 3)}
    assert "YOLACT++" in refusal(write(tmp_path / "w.pth", state))


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
    assert refusal(write(tmp_path / "w.pth", content)).endswith("efficientnet_lite0, got 'foo')")


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


def test_what_strips_mmdetections_own_objects_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = type("HistoryBuffer", (), {"__module__": "mmengine.logging"})
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(HistoryBuffer=history, logging=None))
    path = write(tmp_path / "epoch_55.pth", {"state_dict": small_state(), "message_hub": {"loss": history()}})
    assert "calls for mmengine.logging.HistoryBuffer; " in refusal(path)
    assert "publish_model.py" in refusal(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_does_not_run_either(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(Malice(mark), protocol))
    refusal(path)
    assert not mark.exists()


# -- our own files ------------------------------------------------------------------------------------------------


def test_our_files_round_trip(model: Yolact, tmp_path: Path) -> None:
    training = {"iteration": 7, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "lr": [1e-3]}}
    save_checkpoint(tmp_path / "w.pth", model, training=training)
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert checkpoint.family == "ours"
    assert checkpoint.training is not None
    assert checkpoint.training["iteration"] == 7
    assert choose_config(checkpoint) == SMALL
    assert choose_config(checkpoint, "yolact_lite0").class_names == ("date", "fig")
    other = Yolact(choose_config(checkpoint))
    assert load_into(other, checkpoint) == []
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)


def test_half_files_are_half_the_size_and_close(model: Yolact, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.pth", model)
    save_checkpoint(tmp_path / "half.pth", model, half=True)
    assert (tmp_path / "half.pth").stat().st_size < 0.55 * (tmp_path / "whole.pth").stat().st_size
    other = Yolact(SMALL)
    load_into(other, read_checkpoint(tmp_path / "half.pth"))
    for name, tensor in model.state_dict().items():
        loaded = other.state_dict()[name]
        assert loaded.dtype == tensor.dtype
        torch.testing.assert_close(loaded, tensor, rtol=1e-3, atol=1e-7)  # float16: 11 bits, and subnormals


def test_files_of_old_torch_count_no_batches(model: Yolact, tmp_path: Path) -> None:
    state = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    checkpoint = read_checkpoint(write(tmp_path / "w.pth", state))
    assert load_into(Yolact(SMALL), checkpoint) == []


def test_a_failed_save_leaves_the_old_file_and_nothing_else(model: Yolact, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_checkpoint(path, model)
    before = path.read_bytes()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # as a disk that is full
    try:
        with pytest.raises(UserError, match=r"w\.pth: cannot be written \(File too large\)"):
            save_checkpoint(path, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_into_a_folder_that_is_not_there(model: Yolact, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "none" / "w.pth", model)
