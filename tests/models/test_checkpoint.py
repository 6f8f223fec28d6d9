"""Files of weights: told apart, loaded whole, refused in one line, written whole."""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import SMALL, small_model, small_state, write
from torch import Tensor

from yolact.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from yolact.config import CONFIGS, get_config
from yolact.errors import UserError
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint, save_checkpoint
from yolact.models.yolact import Yolact

CLASS_TENSORS = [
    "prediction_layers.0.conf_layer.weight", "prediction_layers.0.conf_layer.bias",
    "semantic_seg_conv.weight", "semantic_seg_conv.bias",
]  # fmt: skip


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


@pytest.fixture
def model() -> Yolact:
    return small_model()


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


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8", num_classes=2))
    meta = {"CLASSES": (np.str_("fig"), np.str_("date"))}
    assert read_checkpoint(write(tmp_path / "w.pth", {"state_dict": state, "meta": meta})).classes is None


@pytest.mark.parametrize("meta", [{"CLASSES": ("fig", "date")}, {"dataset_meta": {"classes": ["fig", "date"]}}])
def test_mmdetections_class_names(meta: dict, tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8", num_classes=2))
    config = choose_config(read_checkpoint(write(tmp_path / "w.pth", {"state_dict": state, "meta": meta})))
    assert (config.class_names, config.category_ids) == (("fig", "date"), (1, 2))


def test_mmdetections_coco_names_bring_cocos_ids(tmp_path: Path) -> None:
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8"))
    path = write(tmp_path / "w.pth", {"state_dict": state, "meta": {"CLASSES": COCO_CLASSES}})
    assert choose_config(read_checkpoint(path)).category_ids == COCO_CATEGORY_IDS


class HistoryBuffer:
    """mmengine's class of that name, as a pickle sees it: its methods are among its values."""

    def __init__(self) -> None:
        self._log_history = np.ones(3)
        self._statistics_methods = {"mean": HistoryBuffer.mean}

    def mean(self) -> None:
        """Never called."""


def test_a_training_of_mmdetection_3_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "mmengine.logging.history_buffer"
    state = to_mmdetection(small_state("mmdet_yolact_r50_1xb8", num_classes=2))
    state["bbox_head.conv_cls.bias"] = torch.arange(9.0)
    content = {
        "meta": {"epoch": 55, "dataset_meta": {"classes": ("fig", "date"), "palette": [(0, 0, 0), (1, 1, 1)]}},
        "state_dict": state,
        "message_hub": {"log_scalars": {"loss": HistoryBuffer()}, "runtime_info": {"best_score": np.float64(0.3)}},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
    }
    with monkeypatch.context() as patch:
        for part in ("mmengine", "mmengine.logging", module):
            patch.setitem(sys.modules, part, SimpleNamespace(HistoryBuffer=HistoryBuffer))
        for named in (HistoryBuffer, HistoryBuffer.mean):
            patch.setattr(named, "__module__", module)
        path = write(tmp_path / "epoch_55.pth", content)
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    assert {f"{module}.HistoryBuffer", "builtins.getattr", "numpy.ndarray", "numpy.dtype"} <= set(unsafe)
    safe = set(torch.serialization.get_safe_globals())
    checkpoint = read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == safe
    assert checkpoint.classes == (("fig", "date"), (1, 2))
    assert checkpoint.state["prediction_layers.0.conf_layer.bias"].tolist() == [2, 0, 1, 5, 3, 4, 8, 6, 7]
    assert set(checkpoint.state) == set(small_state("mmdet_yolact_r50_1xb8"))


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


def test_another_number_of_classes_leaves_the_mask_ious_of_classes(tmp_path: Path) -> None:
    rescoring = Yolact(replace(SMALL, size=256, mask_rescoring=True))
    save_checkpoint(tmp_path / "two.pth", rescoring)
    checkpoint = read_checkpoint(tmp_path / "two.pth")
    assert choose_config(checkpoint).mask_rescoring
    other = Yolact(choose_config(checkpoint, num_classes=7))
    last = ["maskiou_net.maskiou_net.10.weight", "maskiou_net.maskiou_net.10.bias"]
    assert sorted(load_into(other, checkpoint)) == sorted(CLASS_TENSORS + last)
    torch.testing.assert_close(
        other.maskiou_net.state_dict()["maskiou_net.8.weight"],
        rescoring.maskiou_net.state_dict()["maskiou_net.8.weight"],
        rtol=0,
        atol=0,
    )


def test_a_file_of_unknown_classes_gets_as_many(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "custom.pth", small_state(num_classes=5)))
    config = choose_config(checkpoint)
    assert (config.name, config.num_classes) == ("yolact_resnet50", 5)


def test_a_configuration_of_other_classes_must_be_meant(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "coco.pth", small_state()))
    with pytest.raises(UserError, match=r"coco.pth: holds 80 classes, but configuration yolact_resnet50_pascal has 20"):
        choose_config(checkpoint, "yolact_resnet50_pascal")
    assert choose_config(checkpoint, "yolact_resnet50_pascal", num_classes=20).name == "yolact_resnet50_pascal"


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
